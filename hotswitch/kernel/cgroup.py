"""What cgroups (v2 or v1) and /proc say about a container: throttled, short of memory, starved, stopped, dumping.

Files are opened once and read with pread: a look costs some microseconds, so one can be taken with every probe.
Sources: Documentation/admin-guide/cgroup-v2.rst (cpu.stat, memory.pressure, memory.events), cgroup-v1/memory.rst
(memory.failcnt), Documentation/scheduler/sched-stats.rst (/proc/PID/schedstat), proc(5) (State, CoreDumping).
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from hotswitch.kernel.process import PROC, Process, content, read

WORKER = "wrk:worker_"  # Envoy's names of the threads that accept and serve
_COUNTERS = {  # file -> the field that counts moments of pressure (None: the whole file is the number)
    "cpu.stat": "nr_throttled",
    "memory.pressure": "total=",
    "memory.events": "max",
    "memory.failcnt": None,
}


@dataclass(frozen=True, slots=True)
class Worker:
    """One thread at one instant. Seconds since it began. The kernel adds a wait to `waited_s` only once it is over: a
    thread that waits now is seen by its `state`, R, and by a `cpu_s` that stands."""

    cpu_s: float
    waited_s: float  # runnable, but without a CPU
    state: str  # proc(5): R wants or has a CPU, D waits for a disk or memory, S has nothing to do, T and t are stopped


@dataclass(frozen=True, slots=True)
class Reading:
    """Counters at one instant; two readings make a judgement. Seconds; `cpu_s` and `waited_s` sum over all threads."""

    at_s: float
    throttled: int = 0
    memory: int = 0
    cpu_s: float = 0.0
    waited_s: float = 0.0  # runnable, but without a CPU
    threads: int = 0
    stopped_threads: int = 0
    stopped: bool = False  # some process with every thread stopped
    dumping: bool = False
    workers: Mapping[int, Worker] = field(default_factory=dict)  # by thread id: Envoy's worker threads


class Container:
    """The cgroup directories (one on v2; cpu and memory on v1) that a proxy's container runs in. `proc`: where its
    processes are. `members`: its processes as `proc` numbers them, for a reader in another pid namespace, to whom
    cgroup.procs shows none."""

    def __init__(
        self, cgroups: Iterable[str | Path], proc: Path = PROC, members: Callable[[], list[int]] = list
    ) -> None:
        self._dirs = [Path(directory) for directory in cgroups]
        self._proc, self._members = proc, members
        self._files: dict[str, int] = {}
        for directory in self._dirs:
            for name in _COUNTERS:
                with contextlib.suppress(OSError):
                    self._files.setdefault(name, os.open(directory / name, os.O_RDONLY | os.O_CLOEXEC))

    @property
    def known(self) -> bool:
        return bool(self._files)

    def close(self) -> None:
        for fd in self._files.values():
            os.close(fd)
        self._files.clear()

    def counters(self, at_s: float) -> Reading:
        """The cheap half: pressure counters only."""
        memory = sum(self._count(name) for name in ("memory.pressure", "memory.events", "memory.failcnt"))
        return Reading(at_s, throttled=self._count("cpu.stat"), memory=memory)

    def read(self, at_s: float) -> Reading:
        """Everything, with a look at each thread: for suspicion only. About 40 us a thread."""
        base = self.counters(at_s)
        pids = self.pids()
        threads = [_threads(self._proc / str(pid)) for pid in pids]
        seen = [[_name_and_state(thread) for thread in of_one] for of_one in threads]
        states = [[state in "Tt" for _, state in of_one] for of_one in seen]
        each = [thread for of_one in threads for thread in of_one]
        waits = [_schedstat(thread) for thread in each]
        named = [name_and_state for of_one in seen for name_and_state in of_one]
        return Reading(
            at_s,
            throttled=base.throttled,
            memory=base.memory,
            cpu_s=sum(cpu for cpu, _ in waits),
            waited_s=sum(wait for _, wait in waits),
            threads=len(waits),
            stopped_threads=sum(sum(stopped) for stopped in states),
            stopped=any(stopped and all(stopped) for stopped in states),
            dumping=any(_dumping(self._proc / str(pid)) for pid in pids),
            workers={
                int(thread.name): Worker(cpu_s, waited_s, state)
                for thread, (name, state), (cpu_s, waited_s) in zip(each, named, waits, strict=True)
                if name.startswith(WORKER)
            },
        )

    def processes(self) -> list[Process]:
        """Each process of the container. The kernel marks what is on its way out some 10 ms before its sockets begin to
        close, on a busy machine. About 20 us a process."""
        return [read(pid, self._proc) for pid in self.pids()]

    def pids(self) -> list[int]:
        for directory in self._dirs:
            with contextlib.suppress(OSError):
                seen = [int(line) for line in content(f"{directory}/cgroup.procs").split()]
                return [pid for pid in seen if pid] or self._members()
        return self._members()

    def _count(self, name: str) -> int:
        if name not in self._files:
            return 0
        try:
            content = os.pread(self._files[name], 4096, 0).decode()
        except OSError:  # the cgroup was removed under us
            return 0
        field = _COUNTERS[name]
        if field is None:
            return int(content)
        words = content.replace(field, f"{field} ").split() if field.endswith("=") else content.split()
        return next((int(words[at + 1]) for at, word in enumerate(words[:-1]) if word == field), 0)


def _threads(process: Path) -> list[Path]:
    try:
        return list((process / "task").iterdir())
    except OSError:
        return []


def _schedstat(thread: Path) -> tuple[float, float]:
    try:
        cpu, waited, _ = (thread / "schedstat").read_text().split()
    except (OSError, ValueError):
        return 0.0, 0.0
    return int(cpu) / 1e9, int(waited) / 1e9


def _name_and_state(thread: Path) -> tuple[str, str]:
    """Fields 2 and 3 of proc(5)'s stat, the state as one letter; a thread that has just ended counts as running."""
    try:
        head, _, tail = (thread / "stat").read_text("utf-8", "replace").rpartition(")")
        return head.partition("(")[2], tail.split()[0]
    except (OSError, IndexError):
        return "", "R"


def _dumping(process: Path) -> bool:
    try:
        status = (process / "status").read_text("utf-8", "replace")
    except OSError:
        return False
    return "CoreDumping:\t1" in status
