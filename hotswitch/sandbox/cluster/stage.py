"""The last step before a container's program: its file system, then its rights (`python -m ...stage SPEC`).

Started as root, it goes into the pod's network namespace unless it was born there. A container that starts gets a mount
namespace of its own: /run is empty but for its volumes (so the machine's own, and other pods', are out of sight), and
files such as resolv.conf are the pod's. A process that is exec'ed into a running container enters that one's instead.
Volumes elsewhere are bound where the machine has such a directory; nothing is ever made on the machine itself.
"""

from __future__ import annotations

import ctypes
import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

CLONE_NEWNS, CLONE_NEWNET = 0x20000, 0x40000000
MS_RDONLY, MS_REMOUNT, MS_BIND, MS_MOVE, MS_REC, MS_PRIVATE = 1, 32, 4096, 8192, 16384, 1 << 18
RUN = Path("/run")

_libc = ctypes.CDLL(None, use_errno=True)


def _check(result: int, what: str) -> None:
    if result != 0:
        error = ctypes.get_errno()
        raise OSError(error, f"{what}: {os.strerror(error)}")


def mount(source: str, target: Path, kind: str, flags: int, data: str = "") -> None:
    """Raises OSError."""
    result = _libc.mount(source.encode(), os.fsencode(target), kind.encode(), ctypes.c_ulong(flags), data.encode())
    _check(result, f"mount {target}")


def bind(source: str, target: Path, *, read_only: bool = False) -> None:
    mount(source, target, "", MS_BIND | MS_REC)
    if read_only:
        mount("", target, "", MS_REMOUNT | MS_BIND | MS_RDONLY)


def enter(namespace: str, kind: int) -> None:
    with open(namespace) as held:
        _check(_libc.setns(held.fileno(), kind), f"setns {namespace}")


def build(mounts: list[dict[str, Any]], staging: str) -> None:
    """A mount namespace of our own. `mounts`: {"source", "target", "read_only"}. `staging`: an empty directory."""
    _check(_libc.unshare(CLONE_NEWNS), "unshare")
    mount("", Path("/"), "", MS_REC | MS_PRIVATE)
    run = Path(staging)
    mount("tmpfs", run, "tmpfs", 0, "mode=755")
    for each in mounts:
        place = inside_run(each["target"])
        if place is None:
            bind(each["source"], Path(each["target"]), read_only=each.get("read_only", False))
            continue
        target = run / place
        target.mkdir(parents=True, exist_ok=True)
        bind(each["source"], target, read_only=each.get("read_only", False))
    mount(str(run), RUN, "", MS_MOVE)


def inside_run(target: str) -> Path | None:
    """The place of a mount under /run, which is also /var/run; None: it is elsewhere."""
    path = Path(target)
    for top in (RUN, Path("/var/run")):
        if path.is_relative_to(top):
            return path.relative_to(top)
    return None


def main() -> None:
    spec = json.loads(sys.argv[1])
    if spec["netns"]:
        enter(spec["netns"], CLONE_NEWNET)
    if spec["enter"]:
        enter(f"/proc/{spec['enter']}/ns/mnt", CLONE_NEWNS)
        os.chdir("/")
    else:
        staging = tempfile.mkdtemp(dir=spec["directory"])
        build(spec["mounts"], staging)
    argv, env = spec["argv"], spec["env"]
    os.execvpe(argv[0], argv, env)


if __name__ == "__main__":
    main()
