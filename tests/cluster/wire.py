"""The way to an API server, and what can befall it: cut, refused, or silent, with what was sent arriving late."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import urlsplit

import yaml

from hotswitch.cluster.client import Cluster, connect

PIECE_BYTES = 65536


class Wire:
    """Between 127.0.0.1:`port` and the server. Nobody is told when it falls silent."""

    def __init__(self, host: str, port: int) -> None:
        self._target = (host, port)
        self._flows = asyncio.Event()
        self._flows.set()
        self._refuses = False
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    async def listen(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = int(self._server.sockets[0].getsockname()[1])

    def silence(self) -> None:
        """Connections stay; what is sent is kept."""
        self._flows.clear()

    def speak(self) -> None:
        """What was kept is delivered, however late."""
        self._flows.set()
        self._refuses = False

    def cut(self) -> None:
        """All connections, both ends."""
        for writer in tuple(self._writers):
            writer.transport.abort()

    def refuse(self) -> None:
        self._refuses = True
        self.cut()

    async def close(self) -> None:
        self._server.close()
        self.cut()
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._refuses:
            writer.transport.abort()
            return
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        try:
            there, back = await asyncio.open_connection(*self._target)
        except OSError:
            writer.transport.abort()
            return
        self._writers |= {writer, back}
        try:
            await asyncio.gather(self._pump(reader, back), self._pump(there, writer))
        except (OSError, asyncio.CancelledError):
            pass  # cut, or the test is over
        finally:
            self._writers -= {writer, back}
            writer.transport.abort()
            back.transport.abort()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while piece := await reader.read(PIECE_BYTES):
            await self._flows.wait()
            writer.write(piece)
            await writer.drain()
        await self._flows.wait()
        if writer.can_write_eof():
            writer.write_eof()
        else:
            writer.close()  # TLS inside or not, this is plain TCP; never reached there


@asynccontextmanager
async def wired(kubeconfig: Path, directory: Path) -> AsyncIterator[tuple[Cluster, Wire]]:
    """A connection of its own over a wire of its own to the API server that the kubeconfig names."""
    content = yaml.safe_load(kubeconfig.read_text())
    inner = content["clusters"][0]["cluster"]
    address = urlsplit(inner["server"])
    wire = Wire(address.hostname or "", address.port or 443)
    await wire.listen()
    inner["server"] = f"{address.scheme}://127.0.0.1:{wire.port}"
    copied = directory / f"kubeconfig-{wire.port}"
    copied.write_text(yaml.safe_dump(content))
    try:
        async with connect(copied) as cluster:
            yield cluster, wire
    finally:
        await wire.close()
