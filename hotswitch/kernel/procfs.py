"""Which processes are of which pod, from a /proc that may be another pid namespace's: the host's, mounted (S4.2).

The kubelet puts the pod's uid into the name of its cgroup, the runtime the container's id into that of the container's:

    cgroupfs   /kubepods/burstable/pod<uid>/<id>
    systemd    /kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod<uid, "_" for "-">.slice/
               cri-containerd-<id>.scope | crio-<id>.scope | docker-<id>.scope, and below it what a container makes

What a cgroup namespace hides are leading parts ("/../.."), never those. A name is a hint that anybody with cgroups of
his own could forge: which namespace is a pod's is proved by the pod's address inside it (agent.node.finder).
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from hotswitch.kernel.process import PROC
from hotswitch.model import PodUid

_UID = r"[0-9a-f]{8}[-_][0-9a-f]{4}[-_][0-9a-f]{4}[-_][0-9a-f]{4}[-_][0-9a-f]{12}"
_STATIC = r"[0-9a-f]{32}"  # of a static pod, whose uid is a hash of its file
_POD = re.compile(rf"(?:.*-)?pod({_UID}|{_STATIC})(?:\.slice)?")
_CONTAINER = re.compile(r"(?:[a-z]+(?:-[a-z]+)*-)?([0-9a-f]{64})(?:\.scope)?")


@dataclass(frozen=True, slots=True)
class Place:
    """Where a cgroup path lies. `container` is empty above the containers' own cgroups."""

    pod: PodUid
    container: str = ""


@dataclass(frozen=True, slots=True)
class Process:
    pid: int
    place: Place
    net: tuple[int, int] | None  # device and inode of its network namespace; None: it may not be asked


def place_of(path: str) -> Place | None:
    """Of a cgroup's path; None: of no pod."""
    parts = path.split("/")
    for at, part in enumerate(parts):
        if found := _POD.fullmatch(part):
            ids = (_CONTAINER.fullmatch(below) for below in parts[at + 1 :])
            return Place(PodUid(found[1].replace("_", "-")), next((each[1] for each in ids if each), ""))
    return None


def place(pid: int, proc: Path = PROC) -> Place | None:
    """None: of no pod, or gone. About 20 us."""
    with contextlib.suppress(OSError):
        for line in _lines(proc / str(pid) / "cgroup"):
            if found := place_of(line.split(":", 2)[-1]):
                return found
    return None


def processes(proc: Path = PROC) -> Iterator[Process]:
    """Every process of a pod. Takes about 40 us a process of the machine; needs CAP_SYS_PTRACE for `net`."""
    for name in os.listdir(proc):
        if name.isdigit() and (found := place(int(name), proc)) is not None:
            yield Process(int(name), found, _net(proc / name))


def _net(process: Path) -> tuple[int, int] | None:
    try:
        there = os.stat(process / "ns/net")
    except OSError:
        return None
    return there.st_dev, there.st_ino


def _lines(path: Path) -> list[str]:
    """Names in there are a stranger's: any bytes but a line feed, so nothing else ends a line. Raises OSError."""
    return path.read_bytes().decode("utf-8", "replace").split("\n")


def user(pid: int, proc: Path = PROC) -> int | None:
    """Its effective uid, as this process's user namespace counts; None: gone."""
    return _effective("Uid:", pid, proc)


def group(pid: int, proc: Path = PROC) -> int | None:
    """Its effective gid, likewise."""
    return _effective("Gid:", pid, proc)


def _effective(field: str, pid: int, proc: Path) -> int | None:
    with contextlib.suppress(OSError):
        for line in _lines(proc / str(pid) / "status"):
            if line.startswith(field):
                return int(line.split()[2])
    return None


def outside_id(inside: int, pid: int, proc: Path = PROC) -> int:
    """What id `inside` of the process's user namespace is in ours; the same where nothing is mapped."""
    with contextlib.suppress(OSError, ValueError):
        for line in (proc / str(pid) / "uid_map").read_text().splitlines():
            first, start, count = (int(word) for word in line.split())
            if first <= inside < first + count:
                return start + inside - first
    return inside
