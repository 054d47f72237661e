"""The last step before a container's program: its file system, then its rights (`python -m ...stage SPEC`).

Started as root, it goes into the pod's network namespace unless it was born there. A container that starts gets a mount
namespace of its own: /run is empty but for its volumes (so the machine's own, and other pods', are out of sight), and
files such as resolv.conf are the pod's. A process that is exec'ed into a running container enters that one's instead.
Volumes elsewhere are bound where the machine has such a directory; nothing is ever made on the machine itself.
"""

from __future__ import annotations

import ctypes
import errno
import json
import os
import signal
import sys
import tempfile
from pathlib import Path
from typing import Any

CLONE_NEWNS, CLONE_NEWNET, CLONE_NEWPID = 0x20000, 0x40000000, 0x20000000
PR_SET_PDEATHSIG = 1
MS_RDONLY, MS_REMOUNT, MS_BIND, MS_MOVE, MS_REC, MS_PRIVATE = 1, 32, 4096, 8192, 16384, 1 << 18
MNT_DETACH = 2
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


def own_mounts() -> None:
    """A mount namespace of our own; what is mounted in it from now on is nobody else's."""
    _check(_libc.unshare(CLONE_NEWNS), "unshare")
    mount("", Path("/"), "", MS_REC | MS_PRIVATE)


def leave_names() -> None:
    """Let go of the machine's names of network namespaces: our copies would keep them alive when they are deleted."""
    if _libc.umount2(b"/run/netns", MNT_DETACH) != 0 and ctypes.get_errno() not in (errno.EINVAL, errno.ENOENT):
        _check(-1, "umount /run/netns")


def build(mounts: list[dict[str, Any]], staging: str) -> None:
    """A mount namespace of our own. `mounts`: {"source", "target", "read_only"}. `staging`: an empty directory."""
    own_mounts()
    leave_names()
    run = Path(staging)
    mount("tmpfs", run, "tmpfs", 0, "mode=755")
    for each in mounts:
        place = inside_run(each["target"])
        if place is None:
            keep_in_sight(Path(each["source"]), Path(each["target"]))
            bind(each["source"], Path(each["target"]), read_only=each.get("read_only", False))
            continue
        target = run / place
        target.mkdir(parents=True, exist_ok=True)
        bind(each["source"], target, read_only=each.get("read_only", False))
    mount(str(run), RUN, "", MS_MOVE)


def keep_in_sight(source: Path, target: Path) -> None:
    """The program itself may lie below a volume's place (a checkout in /tmp): there it stays to be seen."""
    ours = {Path(__file__).parents[3], Path(sys.prefix), Path(sys.base_prefix)}
    for home in sorted(ours):
        if home.is_relative_to(target):
            place = source / home.relative_to(target)
            place.mkdir(parents=True, exist_ok=True)
            bind(str(home), place)


def in_own_pids() -> None:
    """Become the first process of a pid namespace; we stay outside and end with it. /proc shows it alone."""
    _check(_libc.unshare(CLONE_NEWPID), "unshare")
    child = os.fork()
    if child == 0:
        _check(_libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL), "prctl")
        mount("proc", Path("/proc"), "proc", 0)
        return
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: os.kill(child, signal.SIGTERM))
    _, status = os.waitpid(child, 0)
    os._exit(abs(os.waitstatus_to_exitcode(status)))


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
    if spec.get("pid"):
        in_own_pids()
    if spec.get("read_only"):
        mount("", Path("/"), "", MS_REMOUNT | MS_BIND | MS_RDONLY)
    argv, env = spec["argv"], spec["env"]
    os.execvpe(argv[0], argv, env)


if __name__ == "__main__":
    main()
