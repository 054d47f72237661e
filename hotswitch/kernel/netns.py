"""Network namespaces: entering one for a few system calls, and knowing it again.

A socket belongs for life to the namespace and to the user that were current when it was made. So the agent enters a
pod's namespace only to make sockets, and works with them from outside: nothing on the hot path changes namespaces.
Entering changes the calling thread alone, inside a `with` without awaits; if the way back fails the process ends,
because nothing it did afterwards could be trusted (I6).
"""

from __future__ import annotations

import ctypes
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hotswitch.model import NetnsCookie

CLONE_NEWNET = 0x40000000
SO_NETNS_COOKIE = 71  # Linux 5.14: include/uapi/asm-generic/socket.h

_libc = ctypes.CDLL(None, use_errno=True)


def _setns(fd: int) -> None:
    if _libc.setns(fd, CLONE_NEWNET) != 0:
        error = ctypes.get_errno()
        raise OSError(error, f"setns: {os.strerror(error)}")


@contextmanager
def inside(path: str | Path) -> Iterator[None]:
    """Run the body in the network namespace at `path` (/var/run/netns/NAME, /proc/PID/ns/net). About 4 us.

    Raises FileNotFoundError when the namespace is gone, PermissionError without CAP_SYS_ADMIN.
    """
    home = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        there = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            _setns(there)
        finally:
            os.close(there)
        try:
            yield
        finally:
            _go_back(home)
    finally:
        os.close(home)


def _go_back(home: int) -> None:
    try:
        _setns(home)
    except OSError:  # in a stranger's namespace every later act would hit the wrong pod
        os.abort()


class PinnedNamespace:
    """A namespace held open by a descriptor, so that its name cannot come to mean another one behind our back (I6).

    `path` leads to exactly this namespace as long as this is open; `name` is what it was called. Holding it keeps a
    deleted pod's namespace alive: `close()` when `still_named()` turns False or the pod's links are gone.
    """

    def __init__(self, name: str | Path) -> None:
        self.name = str(name)
        self._fd = os.open(name, os.O_RDONLY | os.O_CLOEXEC)
        self.path = f"/proc/{os.getpid()}/fd/{self._fd}"
        self.cookie = cookie_of(self.path)

    def still_named(self) -> bool:
        """False when the name is gone, or names another namespace. An inode cannot be reused while it is held."""
        try:
            there, held = os.stat(self.name), os.fstat(self._fd)
        except OSError:
            return False
        return (there.st_dev, there.st_ino) == (held.st_dev, held.st_ino)

    def has_links(self) -> bool:
        """False when nothing but loopback is left: the pod's network has been torn down."""
        with inside(self.path):
            return any(name != "lo" for _, name in socket.if_nameindex())

    def close(self) -> None:
        os.close(self._fd)


@contextmanager
def as_user(uid: int, gid: int | None = None) -> Iterator[None]:
    """Sockets made in the body belong to `uid` for `meta skuid` and `-m owner`: the proxy's own traffic is told by it.

    Uses the filesystem ids of the calling thread, so nothing else of the process changes.
    Raises PermissionError when the kernel does not grant the id (no CAP_SETUID, or not mapped).
    """
    old_gid = _libc.setfsgid(gid) if gid is not None else None
    old_uid = _libc.setfsuid(uid)
    try:
        if _libc.setfsuid(-1) != uid:
            raise PermissionError(f"uid {uid}: cannot take this id for a socket")
        yield
    finally:
        _libc.setfsuid(old_uid)
        if old_gid is not None:
            _libc.setfsgid(old_gid)


def cookie(sock: socket.socket) -> NetnsCookie:
    """The identity of the namespace that `sock` belongs to; unlike an inode number it is never used again (I6)."""
    return NetnsCookie(int.from_bytes(sock.getsockopt(socket.SOL_SOCKET, SO_NETNS_COOKIE, 8), "little"))


def cookie_of(path: str | Path) -> NetnsCookie:
    """The cookie of the namespace at `path`. Raises like `inside`."""
    with inside(path), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as probe:
        return cookie(probe)
