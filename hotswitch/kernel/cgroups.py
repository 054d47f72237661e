"""Where a container's cgroups are in a mounted tree, from what /proc says of one of its processes.

/proc/PID/cgroup tells paths as the reader's cgroup namespace sees them: from a container, others' begin with as many
"/.." as lead out of it. What comes after is looked for in the mounted tree; where it was found once, it is found again.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

CONTROLLERS = ("cpu", "memory")  # of v1: hierarchies of their own
DEPTH = 6  # kind, and other nodes within nodes, have the kubelet's tree some levels down


class Cgroups:
    def __init__(self, root: Path) -> None:
        self._root = root
        self._bases: dict[Path, Path] = {}

    def of(self, container: str, pid: int, proc: Path) -> tuple[Path, ...]:
        """Its directories (one on v2; cpu and memory on v1), as far as they are there. Never raises."""
        with contextlib.suppress(OSError):
            lines = (proc / str(pid) / "cgroup").read_bytes().decode("utf-8", "replace").split("\n")
            named = (line.split(":", 2) for line in lines if line.count(":") >= 2)
            found = (self._directory(controllers, path, container) for _, controllers, path in named)
            return tuple(dict.fromkeys(each for each in found if each is not None))
        return ()

    def _directory(self, controllers: str, path: str, container: str) -> Path | None:
        below = _until(path, container)
        if below is None or (controllers and not set(controllers.split(",")) & set(CONTROLLERS)):
            return None
        top = self._root / controllers if controllers else self._root
        if not top.is_dir():
            top = next((self._root / each for each in CONTROLLERS if each in controllers.split(",")), top)
        if not controllers and not (top / "cgroup.controllers").exists():
            return None  # v1 and v2 side by side: nothing is counted in the latter
        base = self._bases.get(top)
        if base is None or not (base / below).is_dir():
            base = next((each for each in _breadth_first(top, DEPTH) if (each / below).is_dir()), None)
        if base is None:
            return None
        self._bases[top] = base
        return base / below


def _until(path: str, container: str) -> Path | None:
    """Of "/../../pods/pod1/container1/below": pods/pod1/container1; None: it is not the container's."""
    parts = [part for part in path.split("/") if part not in ("", "..")]
    at = next((index for index, part in enumerate(parts) if container and container in part), None)
    return None if at is None else Path(*parts[: at + 1])


def _breadth_first(top: Path, depth: int) -> Iterator[Path]:
    level = [top]
    for _ in range(depth):
        yield from level
        level = [below for each in level for below in _directories(each)]


def _directories(of: Path) -> list[Path]:
    try:
        return sorted(each for each in of.iterdir() if each.is_dir())
    except OSError:
        return []
