"""A small HTTP/1.1 server of callbacks, for the app and the pilot-agent stand-in: cheap at 1,000 connections/s.

Only what these two need: requests with Content-Length bodies, keep-alive, pipelining one at a time. A handler returns
its response, or an awaitable of it when it has to ask somebody else first.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import cached_property

MAX_HEAD_BYTES = 65536
BACKLOG = 8192

REASONS = {200: "OK", 404: "Not Found", 400: "Bad Request", 500: "Internal Server Error", 502: "Bad Gateway"}


@dataclass(slots=True)
class Response:
    body: bytes = b""
    status: int = 200
    headers: tuple[tuple[str, str], ...] = ()

    def encode(self, keep: bool) -> bytes:
        lines = [f"HTTP/1.1 {self.status} {REASONS.get(self.status, 'Unknown')}", f"content-length: {len(self.body)}"]
        lines += [f"{name}: {value}" for name, value in self.headers]
        if not keep:
            lines.append("connection: close")
        return "\r\n".join(lines).encode() + b"\r\n\r\n" + self.body


class Request:
    """Method, target, body and peer ("address:port"); headers (lower-case names) are parsed when asked for."""

    def __init__(self, head: bytes, body: bytes, peer: str) -> None:
        self._head, self.body, self.peer = head, body, peer
        self.method, self.target = head.split(b" ", 2)[:2]

    @cached_property
    def headers(self) -> dict[str, str]:
        lines = self._head.decode("latin-1").split("\r\n")[1:]
        return {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}

    @property
    def path(self) -> str:
        return self.target.decode("latin-1").partition("?")[0]

    @property
    def query(self) -> dict[str, str]:
        pairs = self.target.decode("latin-1").partition("?")[2].split("&")
        return {name: value for name, _, value in (pair.partition("=") for pair in pairs) if name}


Handler = Callable[[Request], "Response | Awaitable[Response] | None"]
"""None: no answer, ever (a sick app)."""


class HttpProtocol(asyncio.Protocol):
    def __init__(self, handler: Handler) -> None:
        self._handler = handler
        self._buffer = b""
        self._busy = False
        self._task: asyncio.Task[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        name = transport.get_extra_info("peername")
        self._peer = f"{name[0].removeprefix('::ffff:')}:{name[1]}" if isinstance(name, tuple) else "local"

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        self._serve()

    def _serve(self) -> None:
        while not self._busy and (request := self._next()) is not None:
            keep = b"connection: close" not in request._head.lower()
            answer = self._handler(request)
            if answer is None:
                self._busy = True
            elif isinstance(answer, Response):
                self._reply(answer, keep)
            else:
                self._busy = True
                self._task = asyncio.ensure_future(self._reply_later(answer, keep))

    def _next(self) -> Request | None:
        head, found, rest = self._buffer.partition(b"\r\n\r\n")
        if not found:
            if len(head) > MAX_HEAD_BYTES:
                self._transport.abort()
            return None
        size = _content_length(head)
        if len(rest) < size:
            return None
        self._buffer = rest[size:]
        try:
            return Request(head, rest[:size], self._peer)
        except ValueError:
            self._transport.abort()
            return None

    def _reply(self, response: Response, keep: bool) -> None:
        self._transport.write(response.encode(keep))
        if not keep:
            self._transport.close()

    async def _reply_later(self, answer: Awaitable[Response], keep: bool) -> None:
        self._reply(await answer, keep)
        self._busy = False
        self._serve()

    def connection_lost(self, error: Exception | None) -> None:
        if self._task is not None:
            self._task.cancel()


def _content_length(head: bytes) -> int:
    lower = head.lower()
    at = lower.find(b"\r\ncontent-length:")
    if at < 0:
        return 0
    with contextlib.suppress(ValueError):
        return int(lower[at + 17 :].split(b"\r\n", 1)[0])
    return 0


async def listen(handler: Handler, port: int, host: str | None = None) -> asyncio.Server:
    """Serve on `port`: on `host`, or on every IPv4 and IPv6 address. Raises OSError when the port is taken."""
    loop = asyncio.get_running_loop()
    if host is not None:
        return await loop.create_server(lambda: HttpProtocol(handler), host, port, backlog=BACKLOG)
    sock = socket.create_server(("::", port), family=socket.AF_INET6, dualstack_ipv6=True, backlog=BACKLOG)
    return await loop.create_server(lambda: HttpProtocol(handler), sock=sock, backlog=BACKLOG)


async def listen_unix(handler: Handler, path: str) -> asyncio.Server:
    return await asyncio.get_running_loop().create_unix_server(lambda: HttpProtocol(handler), path)
