"""A clock that ticks through a descriptor (timerfd): epoll's own timeout is in milliseconds and rounds up."""

from __future__ import annotations

import ctypes
import os
import sys
import time

_TFD_NONBLOCK = 0o4000

_libc = ctypes.CDLL(None, use_errno=True)


class Ticker:
    """Ticks every `interval_s` from now on; `fd` is readable when a tick is due. Raises OSError."""

    def __init__(self, interval_s: float) -> None:
        self.fd = _libc.timerfd_create(time.CLOCK_MONOTONIC, _TFD_NONBLOCK)
        if self.fd < 0:
            raise OSError(ctypes.get_errno(), "timerfd_create")
        nanoseconds = max(1, round(interval_s * 1e9))
        spec = (ctypes.c_long * 4)(*divmod(nanoseconds, 10**9), *divmod(nanoseconds, 10**9))
        if _libc.timerfd_settime(self.fd, 0, spec, None) != 0:
            raise OSError(ctypes.get_errno(), "timerfd_settime")

    def due(self) -> int:
        """Ticks since the last call."""
        try:
            return int.from_bytes(os.read(self.fd, 8), sys.byteorder)
        except BlockingIOError:
            return 0
