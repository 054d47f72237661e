"""Processes of a container: which there are, and whether the kernel is ending one (S4.2a).

Whoever can see a process may ask for all of this: no right is needed. Read by plain system calls, because it stands on
the hot path: about 15 us a process. Sources: proc(5) (/proc/PID/stat), pidfd_open(2) (PIDFD_THREAD: Linux 6.9).
"""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass
from functools import cache
from pathlib import Path

PF_EXITING = 0x4  # include/linux/sched.h
SIGKILL_PENDING = 1 << 8  # bit 9 of a signal set, counted from 1
PIDFD_THREAD = os.O_EXCL
PROC = Path("/proc")


@cache
def shares_pids(proc: Path) -> bool:
    """Are processes numbered there as they are for our own system calls? Then we have one number there, else one for
    each pid namespace on the way to ours (proc(5): NSpid)."""
    if proc == PROC:
        return True
    with contextlib.suppress(OSError):
        lines = content(f"{proc}/self/status").splitlines()
        return any(line.startswith(b"NSpid:") and len(line.split()) == 2 for line in lines)
    return False


@dataclass(frozen=True, slots=True)
class Process:
    """One process as its main thread is at one instant. `started`: in ticks since boot; with the pid it names the
    process for good. `exiting`: on its way out. `doomed`: that, or to be killed as soon as it has a CPU. When a process
    ends as a whole, the kernel first leaves SIGKILL with every thread of it (kernel/signal.c: complete_signal,
    zap_other_threads)."""

    pid: int
    name: str
    started: int
    exiting: bool
    doomed: bool
    proc: Path = PROC


def read(pid: int, proc: Path = PROC) -> Process:
    """The process as it is; one that is gone has no name, and is exiting. `proc`: whose numbers `pid` is one of."""
    try:
        head, _, tail = content(f"{proc}/{pid}/stat").rpartition(b")")
        fields = tail.split()
        flags, started, pending = int(fields[6]), int(fields[19]), int(fields[28])
    except (OSError, IndexError):
        return Process(pid, "", 0, exiting=True, doomed=True, proc=proc)
    name = head.partition(b"(")[2].decode("utf-8", "replace")
    exiting = bool(flags & PF_EXITING)
    return Process(pid, name, started, exiting, exiting or bool(pending & SIGKILL_PENDING), proc)


def content(path: str) -> bytes:
    """A small file of /proc or a cgroup. Raises OSError."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return b"".join(iter(lambda: os.read(fd, 65536), b""))
    finally:
        os.close(fd)


def hold_threads(pid: int, most: int, prefix: str, proc: Path = PROC) -> list[int]:
    """Descriptors that become readable when a thread ends, each of another thread than the main one, whose end the
    kernel tells only with that of the whole process. Those whose name begins with `prefix` first, `most` of them. None
    where the kernel has no such descriptors, or the process is not to be seen; nor where it is another pid namespace's,
    whose numbers mean other processes here."""
    if not shares_pids(proc):
        return []
    first = threads(pid, prefix, PROC)
    others = (thread for thread in threads(pid, "", PROC) if thread not in first)
    return [fd for thread in [*first, *others][:most] for fd in _descriptor(thread)]


def threads(pid: int, prefix: str, proc: Path = PROC) -> list[int]:
    """Numbers of the process's threads but the main one whose name begins with `prefix`. None where it is gone."""
    try:
        each = sorted(int(name) for name in os.listdir(f"{proc}/{pid}/task") if int(name) != pid)
    except OSError:
        return []
    return [thread for thread in each if not prefix or _name(pid, thread, proc).startswith(prefix)]


def _descriptor(thread: int) -> list[int]:
    with contextlib.suppress(OSError):
        return [os.pidfd_open(thread, PIDFD_THREAD)]
    return []


def _name(pid: int, thread: int, proc: Path) -> str:
    with contextlib.suppress(OSError):
        return content(f"{proc}/{pid}/task/{thread}/comm").decode("utf-8", "replace")
    return ""
