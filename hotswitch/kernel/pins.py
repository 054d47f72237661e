"""Names for network namespaces that are nobody's name yet: a namespace mounted on a file, as `ip netns` does it (I6).

/proc/PID/ns/net ends with its process, and opening it takes CAP_SYS_PTRACE, which the rescue Envoy must not have. A
mount is a name that anybody may open, that means this one namespace for ever, and that goes with our mount namespace.
Each keeps its namespace alive: `unpin` as soon as the pod's network is gone. Needs CAP_SYS_ADMIN.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
from pathlib import Path

MS_BIND, MNT_DETACH = 4096, 2
_libc = ctypes.CDLL(None, use_errno=True)


def pin(namespace: int, name: Path) -> None:
    """`namespace`: a descriptor. A name that is taken already is left as it is: it is the same namespace if names are
    made of cookies. Raises OSError."""
    if is_pin(name):
        return
    name.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    name.touch(mode=0o444)
    source = f"/proc/self/fd/{namespace}"
    if _libc.mount(source.encode(), os.fsencode(name), None, ctypes.c_ulong(MS_BIND), None) != 0:
        error = ctypes.get_errno()
        name.unlink()
        raise OSError(error, f"mount {name}: {os.strerror(error)}")


def is_pin(name: Path) -> bool:
    """Is a namespace mounted there, and not only a file left over?"""
    try:
        return os.stat(name).st_dev != os.stat(name.parent).st_dev
    except OSError:
        return False


def unpin(name: Path) -> None:
    """Whether it is there or not. Raises OSError."""
    if _libc.umount2(os.fsencode(name), MNT_DETACH) != 0:
        error = ctypes.get_errno()
        if error not in (errno.EINVAL, errno.ENOENT):
            raise OSError(error, f"umount {name}: {os.strerror(error)}")
    with contextlib.suppress(FileNotFoundError):
        name.unlink()


def pins(directory: Path) -> list[Path]:
    """What is there from before, mounted or not."""
    return sorted(directory.iterdir()) if directory.is_dir() else []
