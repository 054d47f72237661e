"""Why a proxy may be slow without being broken, from readings of its container taken one after another (S4.2b, I2).

A reading counts: moments without a CPU, at the memory limit, of each thread. Only what rose between the first reading
of a window and the last says something of now. Memory has a longer window than the rest: whoever waits for it is
counted once, when the wait begins, and waits of more than a second were seen.

Of the threads only Envoy's workers tell: they accept and answer. A connection that waits wakes the worker it waits for,
so one that neither ran nor wanted to is stuck, or has nothing to do; one that wants a CPU and gets none is starved,
whatever the other threads do, and for however long: seen were 0.8 s on a machine with ten times more to do than it can.

Where the threads are to be seen and the cgroup is not, they have to say it all: one that is throttled wants a CPU and
has none, one that waits for memory stands in D. So less of either is enough there.
"""

from __future__ import annotations

from collections.abc import Sequence

from hotswitch.kernel.cgroup import Container, Reading, Worker
from hotswitch.model import Pressure

WINDOW_S = 1.0  # as long as the default hang takes to confirm
MEMORY_WINDOW_S = 10.0
WORK_WINDOW_S, WORK_S = 0.2, 0.0005  # so long a look, and so much CPU in it, tell a worker at work from one that stands
BUSY_PART = 0.5  # of the window; our own questions on suspicion alone take a few thousandths
UNCOUNTED_PART = 0.2  # of the window: without counters, so long a wait of one worker explains slowness
_WANTS = frozenset("RD")


class Gauge:
    """Of one container; one whose cgroup is not known gives a Pressure that excludes nothing."""

    def __init__(self, container: Container) -> None:
        self._container = container
        self._readings: list[Reading] = []  # at rest two of each kind: a deque takes some 700 bytes, however few it has
        self._full: list[Reading] = []  # those with threads; the last two are kept, however long ago they were
        self._memory: list[tuple[float, int]] = []

    def look(self, at_s: float) -> None:
        """Counters and threads: about 1 ms."""
        self.note(self._container.read(at_s))

    def glance(self, at_s: float) -> None:
        """Counters only: some microseconds."""
        self.note(self._container.counters(at_s))

    def note(self, reading: Reading) -> None:
        _keep(self._readings, reading)
        if reading.threads:
            if self._full and _replaced(self._full[-1], reading):
                self._full.clear()
            _keep(self._full, reading)
        self._memory.append((reading.at_s, reading.memory))
        while reading.at_s - self._memory[0][0] > MEMORY_WINDOW_S and len(self._memory) > 2:
            del self._memory[0]

    def pressure(self) -> Pressure:
        if not self._readings:
            return Pressure()
        first, last = self._readings[0], self._readings[-1]
        full = self._full
        lives = _lives(full)
        is_fresh = bool(full) and last.at_s - full[-1].at_s <= WINDOW_S
        window_s = full[-1].at_s - full[0].at_s if is_fresh else 0.0
        enough = bool(lives) and window_s >= WORK_WINDOW_S
        counted = self._container.known
        if not counted and not (lives and window_s > 0):
            return Pressure()
        part = 0.5 if counted else UNCOUNTED_PART
        return Pressure(
            throttled=last.throttled > first.throttled,
            memory=last.memory > self._memory[0][1] if counted else any(_blocked(life, part) for life in lives),
            starved=window_s > 0 and _longest_wait_s(full, lives) > window_s * part,
            dumping=last.dumping,
            stopped=last.stopped,
            known=True,
            workers=len(lives),
            still_workers=sum(map(_still, lives)) if enough else None,
            busy=enough and all(_wanted_s(life) >= BUSY_PART * window_s for life in lives),
        )


def _replaced(then: Reading, now: Reading) -> bool:
    """Another process, whose past is its own."""
    return bool(then.workers and now.workers) and then.workers.keys().isdisjoint(now.workers)


def _keep(readings: list[Reading], newest: Reading) -> None:
    """A window of them, and never fewer than two: on a starved machine our own looks are rare, too, and one look alone
    would say that nothing is wanting."""
    readings.append(newest)
    while newest.at_s - readings[0].at_s > WINDOW_S and len(readings) > 2:
        del readings[0]


# ---- each worker, over the readings of a window: (when, what) ----

_Life = Sequence[tuple[float, Worker]]


def _lives(full: Sequence[Reading]) -> list[_Life]:
    known = full[0].workers.keys() & full[-1].workers.keys() if full else ()
    return [[(each.at_s, each.workers[thread]) for each in full if thread in each.workers] for thread in known]


def _longest_wait_s(full: Sequence[Reading], lives: Sequence[_Life]) -> float:
    """Of any worker; where none is known by its name, of all threads together."""
    return max(map(_wait_s, lives)) if lives else full[-1].waited_s - full[0].waited_s


def _wait_s(life: _Life) -> float:
    """Waits that are over, and the one that is not: wanting a CPU at each of the last looks, and having had none."""
    last_s, last = life[-1]
    since_s = last_s
    for at_s, worker in reversed(life):
        if worker.state != "R" or (worker.cpu_s, worker.waited_s) != (last.cpu_s, last.waited_s):
            break
        since_s = at_s
    return last.waited_s - life[0][1].waited_s + last_s - since_s


def _wanted_s(life: _Life) -> float:
    """For how long it had a CPU, or waited for one."""
    return life[-1][1].cpu_s - life[0][1].cpu_s + _wait_s(life)


def _still(life: _Life) -> bool:
    """Has not run, and did not want to."""
    return life[-1][1].cpu_s - life[0][1].cpu_s < WORK_S and not any(worker.state in _WANTS for _, worker in life)


def _blocked(life: _Life, part: float) -> bool:
    """In D at so large a part of the looks."""
    return sum(worker.state == "D" for _, worker in life) > part * len(life)
