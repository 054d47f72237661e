"""Clients of the stage: they find who serves by EndpointSlices and know nothing else, as those behind kube-proxy."""

from __future__ import annotations

import asyncio
import socket

from hotswitch.sandbox.ask import Answer, ask, complete, decode, make_socket
from hotswitch.sandbox.network import Attachment
from hotswitch.sandbox.slice_reader import SliceReader


class Client:
    """Sends to whichever endpoint is ready, each time on a fresh connection."""

    def __init__(self, place: Attachment, reader: SliceReader) -> None:
        self.place, self.reader = place, reader

    async def ask(self, path: str, timeout_s: float = 1.0) -> Answer:
        """Raises OSError (also TimeoutError); ConnectionError when nobody is ready."""
        ready = self.reader.ready
        if not ready:
            raise ConnectionError("no endpoint is ready")
        address, port = ready[0]
        return await ask(address, port, path, netns=self.place.netns, timeout_s=timeout_s)

    async def answered(self, path: str) -> bool:
        try:
            return (await self.ask(path)).status == 200
        except OSError:
            return False


class Pooled:
    """Sends over one connection for as long as it is answered on it, as pools of clients do: whoever was chosen once is
    asked again, whatever slices say meanwhile."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._sock: socket.socket | None = None

    async def ask(self, path: str, timeout_s: float = 1.0) -> Answer:
        """Raises OSError; then the connection is given up."""
        try:
            async with asyncio.timeout(timeout_s):
                sock = self._sock or await self._connect()
                loop = asyncio.get_running_loop()
                await loop.sock_sendall(sock, f"GET {path} HTTP/1.1\r\nHost: db\r\n\r\n".encode())
                answer = await self._answer(sock)
        except BaseException:
            self.close()
            raise
        if answer.status != 200:
            self.close()
        return answer

    async def _connect(self) -> socket.socket:
        ready = self._client.reader.ready
        if not ready:
            raise ConnectionError("no endpoint is ready")
        family = socket.AF_INET6 if ":" in ready[0][0] else socket.AF_INET
        self._sock = make_socket(family, self._client.place.netns)
        await asyncio.get_running_loop().sock_connect(self._sock, ready[0])
        return self._sock

    async def _answer(self, sock: socket.socket) -> Answer:
        data = b""
        while not complete(data):
            chunk = await asyncio.get_running_loop().sock_recv(sock, 65536)
            if not chunk:
                raise ConnectionResetError("closed before an answer")
            data += chunk
        return decode(data)

    def close(self) -> None:
        sock, self._sock = self._sock, None
        if sock is not None:
            sock.close()
