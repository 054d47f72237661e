"""Name servers in miniature: one for the whole network, and pilot-agent's (15053), which asks the first.

They know two names. `asker.test` is a mirror: its address is the port that the question came from (0.0.HIGH.LOW), so
who asks tells whether somebody stood between. `mesh.test` only pilot-agent knows, as it knows ServiceEntries.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections.abc import Callable
from ipaddress import IPv4Address
from typing import cast

from hotswitch.kernel.netns import inside
from hotswitch.model import Port

DNS: Port = 53
AGENT_DNS: Port = 15053
MIRROR, MESH_ONLY = "asker.test", "mesh.test"
MESH_ADDRESS = IPv4Address("240.240.0.9")
ANSWER_TIMEOUT_S = 2.0
_HEADER = struct.Struct("!6H")
_RECORD = struct.Struct("!HHHIH4s")
_RESPONSE, _NAME_ERROR = 0x8180, 0x8183

Lookup = Callable[[str, Port], IPv4Address | None]
"""The address of a name, told the port that asks for it."""


class NameUnknown(LookupError):
    """The server said that the name does not exist."""


def question(name: str, ident: int = 1) -> bytes:
    labels = b"".join(bytes([len(label)]) + label.encode() for label in name.split("."))
    return _HEADER.pack(ident, 0x0100, 1, 0, 0, 0) + labels + b"\0" + struct.pack("!HH", 1, 1)


def asked(query: bytes) -> str:
    labels, at = [], _HEADER.size
    while size := query[at]:
        labels.append(query[at + 1 : at + 1 + size].decode())
        at += 1 + size
    return ".".join(labels)


def answer(query: bytes, found: IPv4Address | None) -> bytes:
    """To an A question; `found` None: there is no such name."""
    flags = _NAME_ERROR if found is None else _RESPONSE
    head = query[:2] + struct.pack("!5H", flags, 1, found is not None, 0, 0)
    body = query[_HEADER.size :]
    return head + body + (b"" if found is None else _RECORD.pack(0xC00C, 1, 1, 5, 4, found.packed))


def address_in(reply: bytes) -> IPv4Address:
    """Raises NameUnknown."""
    if _HEADER.unpack_from(reply)[3] == 0:
        raise NameUnknown(asked(reply))
    return IPv4Address(reply[-4:])


def reply_to(sock: socket.socket, name: str, to: tuple[str, Port]) -> IPv4Address:
    """Ask over this udp or tcp socket and wait for the answer. Raises OSError, NameUnknown."""
    query = question(name)
    if sock.type == socket.SOCK_DGRAM:
        sock.sendto(query, to)
        return address_in(sock.recv(512))
    sock.connect(to)
    sock.sendall(struct.pack("!H", len(query)) + query)
    (size,) = struct.unpack("!H", sock.recv(2, socket.MSG_WAITALL))
    return address_in(sock.recv(size, socket.MSG_WAITALL))


def mirror(name: str, port: Port) -> IPv4Address | None:
    return IPv4Address(port) if name == MIRROR else None


class NameServer:
    """Answers on udp and tcp. `upstream`: where what `lookup` does not know is asked; "": nowhere."""

    def __init__(self, lookup: Lookup, upstream: str = "") -> None:
        self._lookup, self._upstream = lookup, upstream
        self._loop = asyncio.get_running_loop()
        self._servers: list[asyncio.Server | asyncio.DatagramTransport] = []
        self._answering: set[asyncio.Task[bytes]] = set()

    @classmethod
    async def listen(
        cls, lookup: Lookup, addresses: tuple[str, ...], port: Port, *, upstream: str = "", netns: str = ""
    ) -> NameServer:
        """Raises OSError."""
        server = cls(lookup, upstream)
        for address in addresses:
            with inside(netns) if netns else contextlib.nullcontext():
                sockets = [_bound(address, port, kind) for kind in (socket.SOCK_DGRAM, socket.SOCK_STREAM)]
            await server._serve(*sockets)
        return server

    async def _serve(self, udp: socket.socket, tcp: socket.socket) -> None:
        transport, _ = await self._loop.create_datagram_endpoint(lambda: _Questions(self), sock=udp)
        self._servers += [transport, await asyncio.start_server(self._talk, sock=tcp)]

    def ask(self, query: bytes, port: Port, reply: Callable[[bytes], None]) -> None:
        """Whoever cannot be answered hears nothing, and asks again."""

        def done(task: asyncio.Task[bytes]) -> None:
            self._answering.discard(task)
            if not task.cancelled() and task.exception() is None:
                reply(task.result())

        task = self._loop.create_task(self._answer(query, port))
        self._answering.add(task)
        task.add_done_callback(done)

    async def _answer(self, query: bytes, port: Port) -> bytes:
        found = self._lookup(asked(query), port)
        if found is None and self._upstream:
            return await forward(query, self._upstream)
        return answer(query, found)

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            (size,) = struct.unpack("!H", await reader.readexactly(2))
            port = writer.get_extra_info("peername")[1]
            reply = await self._answer(await reader.readexactly(size), port)
            writer.write(struct.pack("!H", len(reply)) + reply)
            await writer.drain()
        writer.close()

    def close(self) -> None:
        for each in (*self._servers, *self._answering):
            each.cancel() if isinstance(each, asyncio.Task) else each.close()


class _Questions(asyncio.DatagramProtocol):
    def __init__(self, server: NameServer) -> None:
        self._server = server

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        self._server.ask(data, addr[1], lambda reply: self._transport.sendto(reply, addr))


def _bound(address: str, port: Port, kind: int) -> socket.socket:
    sock = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, kind)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if ":" in address:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    sock.setblocking(False)
    sock.bind((address, port))
    if kind == socket.SOCK_STREAM:
        sock.listen(64)
    return sock


async def forward(query: bytes, upstream: str) -> bytes:
    """Ask another server, from a socket of its own. Raises OSError or TimeoutError."""
    loop = asyncio.get_running_loop()
    with socket.socket(socket.AF_INET6 if ":" in upstream else socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.setblocking(False)
        sock.connect((upstream, DNS))
        await loop.sock_sendall(sock, query)
        return await asyncio.wait_for(loop.sock_recv(sock, 512), ANSWER_TIMEOUT_S)
