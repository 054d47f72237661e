"""What lies on this machine: the container's cgroup and processes, its last log lines, how it says it ended (S4.7).

As it lies there: whoever writes it down redacts it first.
"""

from __future__ import annotations

import contextlib
import glob
import os
import stat
from collections.abc import Iterable
from pathlib import Path

_READINGS = (
    "memory.current", "memory.peak", "memory.max", "memory.high", "memory.events", "memory.pressure", "memory.stat",
    "cpu.stat", "cpu.max", "cpu.pressure", "pids.current", "pids.events",
    "memory.usage_in_bytes", "memory.max_usage_in_bytes", "memory.limit_in_bytes", "memory.failcnt",
    "memory.oom_control", "cpu.cfs_quota_us", "cpu.cfs_period_us",
)  # fmt: skip
_OF_PROCESS = ("Name", "State", "Pid", "Threads", "VmRSS", "VmHWM", "SigPnd", "ShdPnd", "SigCgt", "CoreDumping")
READING_BYTES = 8192
MESSAGE_BYTES = 4096  # Kubernetes' own limit of a termination message
PROCESSES_AT_MOST = 64
LOGS_AT_MOST = 4


def readings(cgroups: Iterable[Path]) -> str:
    """Memory, throttling and pressure, v2 or v1; files that are not there are left out."""
    lines = []
    for directory in cgroups:
        for name in _READINGS:
            with contextlib.suppress(OSError):
                lines.append(f"== {directory / name}\n{tail(directory / name, READING_BYTES, follow=True).strip()}")
        lines += _processes(directory)
    return "\n".join(lines)


def _processes(cgroup: Path) -> list[str]:
    """A few fields of each process' status; never its environment or arguments."""
    lines = []
    with contextlib.suppress(OSError):
        for pid in (cgroup / "cgroup.procs").read_text().split()[:PROCESSES_AT_MOST]:
            with contextlib.suppress(OSError):
                status = Path(f"/proc/{pid}/status").read_text().splitlines()
                lines.append("== process\n" + "\n".join(line for line in status if line.split(":")[0] in _OF_PROCESS))
    return lines


def log_tails(patterns: Iterable[str], size: int) -> str:
    """The last `size` bytes of each of the newest files that the patterns name."""
    found = {Path(name) for pattern in patterns for name in glob.glob(pattern)}
    newest = sorted(found, key=_changed, reverse=True)[:LOGS_AT_MOST]
    parts = []
    for path in newest:
        with contextlib.suppress(OSError):
            parts.append(f"== {path}\n{_whole_lines(path, size)}")
    return "\n".join(parts)


def _whole_lines(path: Path, size: int) -> str:
    """Half a line may be half a secret, and not look like one."""
    end = tail(path, size + 1, follow=True)
    return end.partition("\n")[2] if len(end.encode("utf-8", "replace")) > size else end


def _changed(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0


def message(path: Path | None) -> str:
    """The termination message; empty while there is none. The container can write there, so no link is followed."""
    with contextlib.suppress(OSError):
        return tail(path, MESSAGE_BYTES, follow=False) if path else ""
    return ""


def tail(path: Path, size: int, *, follow: bool) -> str:
    """The end of a regular file; a fifo or device is refused, and never waited for. Raises OSError."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | (0 if follow else os.O_NOFOLLOW))
    try:
        seen = os.fstat(fd)
        if not stat.S_ISREG(seen.st_mode):
            raise OSError(f"{path}: not a regular file")
        return os.pread(fd, size, max(0, seen.st_size - size)).decode("utf-8", "replace")
    finally:
        os.close(fd)
