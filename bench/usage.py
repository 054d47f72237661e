"""CPU time and memory of a process, by /proc (proc(5): stat fields 14 and 15, status VmRSS)."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

_TICK_S = 1 / os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Usage:
    """`cpu_s`: user and system time so far."""

    cpu_s: float
    rss_mb: float


def usage(pid: int) -> Usage:
    """Raises FileNotFoundError or ProcessLookupError when it has ended."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    status = Path(f"/proc/{pid}/status").read_text().splitlines()
    kilobytes = next(int(line.split()[1]) for line in status if line.startswith("VmRSS:"))
    return Usage((int(fields[11]) + int(fields[12])) * _TICK_S, kilobytes * 1024 / 1e6)


def usage_of_self() -> Usage:
    return usage(os.getpid())
