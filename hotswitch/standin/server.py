"""Listens in the pod's namespace, and answers as pilot-agent would: for the app's declared probes only (S4.2).

Only what the gate has led here is answered: whoever could not reach pilot-agent's port cannot reach this one either,
because a connection whose original destination was another port is closed unheard. Nothing of pilot-agent's own is
imitated: its readiness is 503, its metrics too, and lifecycle hooks, which are acts and no questions, are never
replayed. Bounded: so many connections at once, so many bytes, so many seconds.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections.abc import Callable, Iterable

from hotswitch.capture.probes import HEALTH, LIFECYCLE, AppProbe
from hotswitch.kernel.netns import Where, inside
from hotswitch.model import STAND_IN, Port
from hotswitch.standin.asking import Answer, Asker
from hotswitch.standin.http1 import HEAD_BYTES, Head, Malformed, answer, read_head

AT_ONCE = 32
PATIENCE_S = 3.0  # for a request, and for taking the answer
BACKLOG = 64
_PILOTS_OWN = frozenset({"/healthz/ready", "/metrics", "/stats/prometheus", "/quitquitquit", "/drain"})
_SO_ORIGINAL_DST = 80  # include/uapi/linux/netfilter_ipv4.h; IP6T_SO_ORIGINAL_DST is the same
_LINGER_NONE = struct.pack("ii", 1, 0)

Told = Callable[[str, Answer], None]
"""What was asked (its path), and what was answered."""


class ProbeServer:
    """`diverted`: pilot-agent's port, from which requests are led here. `address`: the pod's own."""

    def __init__(
        self, netns: Where, address: str, diverted: Port, probes: Iterable[AppProbe], told: Told, port: Port = STAND_IN
    ) -> None:
        self._netns, self._diverted, self._port, self._told = netns, diverted, port, told
        self._asker = Asker(netns, address, diverted)
        self._probes = {probe.name: probe for probe in probes if not probe.is_hook}
        self._loop = asyncio.get_running_loop()
        self._sockets: list[socket.socket] = []
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def listens(self) -> bool:
        return bool(self._sockets)

    def listen(self) -> None:
        """Raises OSError when the port is taken or the namespace is gone; then nothing listens."""
        if self.listens:
            return
        try:
            for family, host in ((socket.AF_INET, "0.0.0.0"), (socket.AF_INET6, "::")):
                if (sock := self._listening(family, host)) is not None:
                    self._sockets.append(sock)
                    self._loop.add_reader(sock, self._accept, sock)
        except OSError:
            self.close()
            raise

    def _listening(self, family: int, host: str) -> socket.socket | None:
        """None: no IPv6 here."""
        try:
            with inside(self._netns):
                sock = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        except OSError:
            if family == socket.AF_INET6 and self._sockets:
                return None
            raise
        try:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            sock.bind((host, self._port))
            sock.listen(BACKLOG)
        except BaseException:
            sock.close()
            raise
        return sock

    def close(self) -> None:
        """Nobody is let in any more; who is in gets the answer."""
        for sock in self._sockets:
            self._loop.remove_reader(sock)
            sock.close()
        self._sockets.clear()

    # ---- one request ----

    def _accept(self, listening: socket.socket) -> None:
        with contextlib.suppress(OSError):
            sock, _ = listening.accept()
            sock.setblocking(False)
            if len(self._tasks) >= AT_ONCE or _original_port(sock) != self._diverted:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_NONE)  # a reset, as from a closed port
                sock.close()
                return
            task = self._loop.create_task(self._serve(sock))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _serve(self, sock: socket.socket) -> None:
        reader, writer = await asyncio.open_connection(sock=sock, limit=HEAD_BYTES)
        try:
            with contextlib.suppress(OSError):  # who asked has gone, or never asked
                await self._converse(reader, writer)
        finally:
            writer.close()

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(PATIENCE_S):
                request = await read_head(reader)
            path, said = await self._answer(request)
        except Malformed as failure:
            path, said = "", Answer(400, why=str(failure))
        self._told(path, said)
        writer.write(answer(said.status, said.body or said.why.encode()))
        async with asyncio.timeout(PATIENCE_S):
            await writer.drain()

    async def _answer(self, request: Head) -> tuple[str, Answer]:
        method, _, rest = request.first.partition(" ")
        path = rest.partition(" ")[0].partition("?")[0]
        if probe := self._probes.get(path):
            if method not in ("GET", "HEAD"):
                return path, Answer(405, why="a probe is asked with GET")
            return path, await self._asker.ask(probe, request)
        if path in _PILOTS_OWN or path.startswith(LIFECYCLE):
            return path, Answer(503, why="pilot-agent is away")
        return path, Answer(404, why="no such probe" if path.startswith(HEALTH) else "")


def _original_port(sock: socket.socket) -> Port | None:
    """Where the client wanted to go, by the kernel's own record; None: nobody led it here."""
    level = socket.IPPROTO_IPV6 if sock.family == socket.AF_INET6 else socket.IPPROTO_IP
    try:
        return int.from_bytes(sock.getsockopt(level, _SO_ORIGINAL_DST, 28)[2:4], "big")
    except OSError:
        return None
