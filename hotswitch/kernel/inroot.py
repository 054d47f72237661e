"""Opening a path as another root sees it: links, absolute ones too, never lead out of it (openat2, RESOLVE_IN_ROOT).

What a container has at a path is whatever its image and its processes put there: followed as ours, a link would lead
into our own files.
"""

from __future__ import annotations

import ctypes
import errno
import os
import stat
import struct
from pathlib import Path

SYS_OPENAT2 = 437  # the same on every architecture
RESOLVE_NO_MAGICLINKS, RESOLVE_IN_ROOT = 0x02, 0x10
_HOW = struct.Struct("=QQQ")  # flags, mode, resolve: struct open_how
_libc = ctypes.CDLL(None, use_errno=True)


def open_in_root(root: Path, path: Path, flags: int = os.O_PATH) -> int:
    """A descriptor of `path` below `root` (/proc/PID/root). Raises OSError; PermissionError without CAP_SYS_PTRACE for
    another user's process."""
    top = os.open(root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        how = _HOW.pack(flags | os.O_CLOEXEC, 0, RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS)
        found = _libc.syscall(SYS_OPENAT2, top, os.fsencode(path), how, ctypes.c_size_t(len(how)))
        if found < 0:
            error = ctypes.get_errno()
            raise OSError(error, f"{root}: {path}: {os.strerror(error)}")
        return int(found)
    finally:
        os.close(top)


def read_in_root(root: Path, path: Path, limit_bytes: int = 65536) -> str:
    """Of a regular file: a pipe or a device has no end, and a directory no content. Raises OSError."""
    found = open_in_root(root, path, os.O_RDONLY | os.O_NONBLOCK)
    try:
        if not stat.S_ISREG(os.fstat(found).st_mode):
            raise OSError(errno.EINVAL, f"{root}: {path}: not a regular file")
        return os.read(found, limit_bytes).decode(errors="replace")
    finally:
        os.close(found)
