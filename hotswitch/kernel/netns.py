"""Network namespaces: entering one for a few system calls, and knowing it again.

A socket belongs for life to the namespace and to the user that were current when it was made. So the agent enters a
pod's namespace only to make sockets, and works with them from outside: nothing on the hot path changes namespaces.
Entering changes the calling thread alone, inside a `with` without awaits; if the way back fails the process ends,
because nothing it did afterwards could be trusted (I6).

Where the thread is already there, nothing is called: a helper inside a pod works without the right to change
namespaces (CAP_SYS_ADMIN).
"""

from __future__ import annotations

import ctypes
import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

from hotswitch.model import NetnsCookie

CLONE_NEWNET = 0x40000000
SO_NETNS_COOKIE = 71  # Linux 5.14: include/uapi/asm-generic/socket.h

_libc = ctypes.CDLL(None, use_errno=True)


def _setns(fd: int) -> None:
    if _libc.setns(fd, CLONE_NEWNET) != 0:
        error = ctypes.get_errno()
        raise OSError(error, f"setns: {os.strerror(error)}")


Where = str | Path | int
"""A namespace: a path (/var/run/netns/NAME, /proc/PID/ns/net), or a descriptor of one, which is quicker."""


class _Thread(threading.local):
    """Which namespaces this thread has entered, innermost last."""

    def __init__(self) -> None:
        self.entered: list[int] = []


_thread = _Thread()


@cache
def _home() -> int:
    """The namespace this process lives in. Every thread of it is at home when it is not inside a `with inside`."""
    return os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)


@contextmanager
def inside(where: Where) -> Iterator[None]:
    """Run the body in another network namespace. A few us with a descriptor.

    Raises FileNotFoundError when the namespace is gone, PermissionError without CAP_SYS_ADMIN for another than ours.
    """
    back = _thread.entered[-1] if _thread.entered else _home()
    there = where if isinstance(where, int) else os.open(where, os.O_RDONLY | os.O_CLOEXEC)
    try:
        if _same(there, back):
            yield
            return
        _setns(there)
        _thread.entered.append(there)
        try:
            yield
        finally:
            _thread.entered.pop()
            _go_back(back)
    finally:
        if not isinstance(where, int):
            os.close(there)


def _same(one: int, other: int) -> bool:
    """An inode of the kernel's namespace files is not used again while it is held."""
    first, second = os.fstat(one), os.fstat(other)
    return (first.st_dev, first.st_ino) == (second.st_dev, second.st_ino)


def is_home(where: Where) -> bool:
    """Is it the namespace that this process lives in? Raises FileNotFoundError when it is gone."""
    if isinstance(where, int):
        return _same(where, _home())
    there = os.open(where, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return _same(there, _home())
    finally:
        os.close(there)


def _go_back(fd: int) -> None:
    try:
        _setns(fd)
    except OSError:  # in a stranger's namespace every later act would hit the wrong pod
        os.abort()


class PinnedNamespace:
    """A namespace held open by a descriptor, so that its name cannot come to mean another one behind our back (I6).

    `fd` and `path` lead to exactly this namespace as long as this is open; `name` is what it was called. Holding it
    keeps a deleted pod's namespace alive: `close()` when `still_named()` turns False or the pod's addresses are gone.
    """

    def __init__(self, name: str | Path) -> None:
        self.name = str(name)
        self.fd = os.open(name, os.O_RDONLY | os.O_CLOEXEC)
        self.path = f"/proc/{os.getpid()}/fd/{self.fd}"
        self.cookie = cookie_of(self.fd)

    def still_named(self) -> bool:
        """False when the name is gone, or names another namespace. An inode cannot be reused while it is held."""
        try:
            there, held = os.stat(self.name), os.fstat(self.fd)
        except OSError:
            return False
        return (there.st_dev, there.st_ino) == (held.st_dev, held.st_ino)

    def close(self) -> None:
        os.close(self.fd)


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


def cookie_of(where: Where) -> NetnsCookie:
    """The cookie of that namespace. Raises like `inside`."""
    with inside(where), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as probe:
        return cookie(probe)
