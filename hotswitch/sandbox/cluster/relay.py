"""A port of this machine's loopback, served at the same address inside a namespace.

A controller has to reach pods, which only the node's namespace does, and the API server and istiod, which listen on
loopback outside. With a relay it finds these inside by the very addresses that a kubeconfig has.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket

from hotswitch.kernel.netns import inside
from hotswitch.model import Port

HOST = "127.0.0.1"
CHUNK = 64 * 1024


class Relay:
    """Made by `open`; connections end when either side ends them."""

    def __init__(self, port: Port) -> None:
        self._port = port
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    @classmethod
    async def open(cls, netns: str, port: Port) -> Relay:
        """Raises OSError when the port is taken there."""
        relay = cls(port)
        with inside(netns):
            sock = socket.create_server((HOST, port), backlog=64)
        relay._server = await asyncio.start_server(relay._accept, sock=sock)
        return relay

    async def close(self) -> None:
        if self._server is not None:
            self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.ensure_future(self._join(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _join(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            inner, outer = await asyncio.open_connection(HOST, self._port)
        except OSError:  # nobody listens: refused here as there, as far as a relay can
            writer.transport.abort()
            return
        try:
            await asyncio.gather(_pump(reader, outer), _pump(inner, writer))
        finally:
            for each in (writer, outer):
                each.transport.abort()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(CHUNK):
            writer.write(data)
            await writer.drain()
        if writer.can_write_eof():
            writer.write_eof()
