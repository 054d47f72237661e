"""Why a proxy may be slow without being broken, from readings of its container taken one after another (S4.2b, I2).

A reading counts: moments without a CPU, at the memory limit, of each thread. Only what rose between the first reading
of a window and the last says something of now. Memory has a longer window than the rest: whoever waits for it is
counted once, when the wait begins, and waits of more than a second were seen.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from hotswitch.kernel.cgroup import Container, Reading
from hotswitch.model import Pressure

WINDOW_S = 1.0  # as long as the default hang takes to confirm
MEMORY_WINDOW_S = 10.0
WORK_WINDOW_S, WORK_S = 0.2, 0.0005  # so long a look, and so much CPU in it, tell a worker at work from one that stands


class Gauge:
    """Of one container; one whose cgroup is not known gives a Pressure that excludes nothing."""

    def __init__(self, container: Container) -> None:
        self._container = container
        self._readings: deque[Reading] = deque()
        self._memory: deque[tuple[float, int]] = deque()

    def look(self, at_s: float) -> None:
        """Counters and threads: about 1 ms."""
        self.note(self._container.read(at_s))

    def glance(self, at_s: float) -> None:
        """Counters only: some microseconds."""
        self.note(self._container.counters(at_s))

    def note(self, reading: Reading) -> None:
        self._readings.append(reading)
        while reading.at_s - self._readings[0].at_s > WINDOW_S and len(self._readings) > 2:
            self._readings.popleft()
        self._memory.append((reading.at_s, reading.memory))
        while reading.at_s - self._memory[0][0] > MEMORY_WINDOW_S and len(self._memory) > 2:
            self._memory.popleft()

    def pressure(self) -> Pressure:
        if not self._container.known or not self._readings:
            return Pressure()
        first, last = self._readings[0], self._readings[-1]
        full = [reading for reading in self._readings if reading.threads]
        waited_s = full[-1].waited_s - full[0].waited_s if full else 0.0
        window_s = full[-1].at_s - full[0].at_s if full else 0.0
        return Pressure(
            throttled=last.throttled > first.throttled,
            memory=last.memory > self._memory[0][1],
            starved=window_s > 0 and waited_s > window_s / 2,
            dumping=last.dumping,
            stopped=last.stopped,
            known=True,
            idle_workers=_idle_workers(full),
        )


def _idle_workers(full: Sequence[Reading]) -> int | None:
    """How many of Envoy's workers used no CPU from the first reading to the last; None when too short to say."""
    if not full or full[-1].at_s - full[0].at_s < WORK_WINDOW_S:
        return None
    known = full[0].workers.keys() & full[-1].workers.keys()
    used = [full[-1].workers[thread] - full[0].workers[thread] for thread in known]
    return sum(cpu_s < WORK_S for cpu_s in used) if used else None
