"""Limits on a container's cgroup, v2 or v1: CPU quota and memory.

Sources: Documentation/admin-guide/cgroup-v2.rst (cpu.max, memory.max, memory.events), cgroup-v1/memory.rst
(memory.limit_in_bytes, memory.oom_control), scheduler/sched-bwc.rst (cpu.cfs_quota_us).
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from pathlib import Path

PERIOD_US = 100_000
HEADROOM_BYTES = 24 << 20


class Squeeze:
    """Writes to whichever of the container's cgroup directories has the file."""

    def __init__(self, cgroups: Iterable[Path]) -> None:
        self.cgroups = tuple(cgroups)

    def _file(self, *names: str) -> Path:
        """Raises FileNotFoundError when no cgroup has one of these."""
        for path in (cgroup / name for cgroup in self.cgroups for name in names):
            if path.exists():
                return path
        raise FileNotFoundError(f"no cgroup of the container has {' or '.join(names)}")

    def limit_cpu(self, cpus: float) -> None:
        quota = round(cpus * PERIOD_US)
        file = self._file("cpu.max", "cpu.cfs_quota_us")
        file.write_text(f"{quota} {PERIOD_US}" if file.name == "cpu.max" else str(quota))

    def free_cpu(self) -> None:
        file = self._file("cpu.max", "cpu.cfs_quota_us")
        file.write_text(f"max {PERIOD_US}" if file.name == "cpu.max" else "-1")

    def limit_memory(self) -> int:
        """Leave HEADROOM_BYTES above what is used now, and no swap; the headroom."""
        used = int(self._file("memory.current", "memory.usage_in_bytes").read_text())
        for name, value in (("memory.swap.max", "0"), ("memory.swappiness", "0")):
            with contextlib.suppress(OSError):
                self._file(name).write_text(value)
        self._file("memory.max", "memory.limit_in_bytes").write_text(str(used + HEADROOM_BYTES))
        return HEADROOM_BYTES

    def free_memory(self) -> None:
        file = self._file("memory.max", "memory.limit_in_bytes")
        file.write_text("max" if file.name == "memory.max" else "-1")

    def throttled(self) -> int:
        """Periods in which the container was held back."""
        return self._counter(self._file("cpu.stat"), "nr_throttled")

    def oom_kills(self) -> int:
        return self._counter(self._file("memory.events", "memory.oom_control"), "oom_kill")

    def _counter(self, file: Path, name: str) -> int:
        pairs = (line.split() for line in file.read_text().splitlines())
        return next((int(value) for key, value in pairs if key == name), 0)
