"""A connection to a sidecar's 15021 that nobody's agent holds: when does the kernel close it?"""

from __future__ import annotations

import asyncio
import contextlib
import socket

from hotswitch.kernel.netns import inside
from hotswitch.model import HEALTH


class Held:
    """`closed_s`: time.monotonic() of its end, as this process's loop came to see it. Raises OSError."""

    def __init__(self, netns: str) -> None:
        with inside(netns):
            self._socket = socket.create_connection(("127.0.0.1", HEALTH), timeout=5.0)
        self._socket.setblocking(False)
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._socket, self._ended)
        self.closed_s: float | None = None

    def _ended(self) -> None:
        self.closed_s = self._loop.time()
        self._loop.remove_reader(self._socket)

    def close(self) -> None:
        self._loop.remove_reader(self._socket)
        with contextlib.suppress(OSError):
            self._socket.close()
