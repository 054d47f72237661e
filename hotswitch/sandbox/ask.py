"""One HTTP question, asked from inside any namespace, as any user, or over a unix socket: probes, controls and tests.

The socket is made inside the namespace and used from outside it, so that no process has to be started there.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any

from hotswitch.kernel.netns import as_user, inside

DEFAULT_TIMEOUT_S = 3.0


@dataclass(frozen=True, slots=True)
class Answer:
    """Header names are lower-case; a header that came twice has both values, joined by ", "."""

    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""

    @property
    def via(self) -> str:
        """Who served besides the app: "sidecar", "sidecar-outbound", or ""."""
        return self.headers.get("x-via", "")

    def json(self) -> Any:
        return json.loads(self.body)


def make_socket(family: int, netns: str | None = None, uid: int | None = None) -> socket.socket:
    """A TCP socket that belongs to namespace and uid (for `-m owner`) from its birth."""
    user: AbstractContextManager[None] = nullcontext() if uid is None else as_user(uid)
    place: AbstractContextManager[None] = nullcontext() if netns is None else inside(netns)
    with place, user:
        made = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    return made


async def ask(
    address: str,
    port: int,
    path: str = "/",
    *,
    netns: str | None = None,
    uid: int | None = None,
    source: str | None = None,
    method: str = "GET",
    headers: Mapping[str, str] | None = None,
    body: bytes = b"",
    timeout_s: float = DEFAULT_TIMEOUT_S,
) -> Answer:
    """Ask on a fresh connection. Raises TimeoutError, ConnectionError (refused, reset, closed early) or OSError."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    sock = make_socket(family, netns, uid)
    try:
        if source is not None:
            sock.bind((source, 0))
        host = f"[{address}]" if family == socket.AF_INET6 else address
        return await _exchange(sock, (address, port), _encode(method, path, host, headers, body), timeout_s)
    finally:
        sock.close()


async def ask_unix(path: str, target: str, *, method: str = "POST", timeout_s: float = DEFAULT_TIMEOUT_S) -> Answer:
    """Ask over the unix socket at `path`. Raises like `ask`, FileNotFoundError when there is none."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    try:
        return await _exchange(sock, path, _encode(method, target, "control", None, b""), timeout_s)
    finally:
        sock.close()


def _encode(method: str, path: str, host: str, headers: Mapping[str, str] | None, body: bytes) -> bytes:
    lines = [f"{method} {path} HTTP/1.1", f"Host: {host}", "Connection: close", f"Content-Length: {len(body)}"]
    lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


async def _exchange(sock: socket.socket, to: tuple[str, int] | str, request: bytes, timeout_s: float) -> Answer:
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(timeout_s):
        await loop.sock_connect(sock, to)
        await loop.sock_sendall(sock, request)
        data = b""
        while not complete(data):
            chunk = await loop.sock_recv(sock, 65536)
            if not chunk:
                break
            data += chunk
    return decode(data)


def complete(data: bytes) -> bool:
    """An answer with a Content-Length."""
    head, found, body = data.partition(b"\r\n\r\n")
    at = head.lower().find(b"\r\ncontent-length:")
    return bool(found) and at >= 0 and len(body) >= int(head[at + 17 :].split(b"\r\n", 1)[0])


def decode(data: bytes) -> Answer:
    """Raises ConnectionResetError when it ends too early."""
    head, found, body = data.partition(b"\r\n\r\n")
    if not found:
        raise ConnectionResetError("closed before an answer")
    first, *lines = head.decode("latin-1").split("\r\n")
    headers: dict[str, str] = {}
    for name, _, value in (line.partition(":") for line in lines):
        key, text = name.strip().lower(), value.strip()
        headers[key] = f"{headers[key]}, {text}" if key in headers else text
    if headers.get("transfer-encoding") == "chunked":
        body = _dechunk(body)
    return Answer(int(first.split(" ")[1]), headers, body)


def _dechunk(body: bytes) -> bytes:
    whole = b""
    with contextlib.suppress(ValueError):
        while body:
            size, _, body = body.partition(b"\r\n")
            length = int(size, 16)
            whole, body = whole + body[:length], body[length + 2 :]
    return whole
