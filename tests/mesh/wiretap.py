"""Between an agent and its controller: each message on their link is a step at which the controller may be killed.

It shows the controller's certificate to the agent and the agent's token to the controller, and passes every message on
as it came. While no controller listens the agent waits here: how it comes back by itself is shown elsewhere.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from hotswitch.agent.dialer import METHOD, RECEIVED_BYTES
from hotswitch.api.agent.v1 import agent_pb2 as wire
from hotswitch.kernel.netns import inside
from hotswitch.rescue.calls import Call, CallFailed, Line
from tests.controller.agency import NAME
from tests.mesh.knife import Knife, When

HOST, AGAIN_S = "127.0.0.1", 0.05


class Wiretap:
    """`knife`: whose it is at the moment; `uid`: of its pod. `token`: the file that the agent shows. `onward`: the
    controller's port, in the same namespace."""

    def __init__(self, netns: str, tls: Path, token: Path, onward: int) -> None:
        self.knife: Knife | None = None
        self.uid = ""
        self._netns, self._token, self._onward = netns, token, onward
        self._shown = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        self._shown.load_cert_chain(tls / "tls.crt", tls / "tls.key")
        self._shown.set_alpn_protocols(["h2"])
        self._asked = ssl.create_default_context(cafile=str(tls / "ca.crt"))
        self._asked.set_alpn_protocols(["h2"])
        self._tasks: set[asyncio.Task[None]] = set()

    @asynccontextmanager
    async def open(self, port: int) -> AsyncIterator[Wiretap]:
        with inside(self._netns):
            sock = socket.create_server((HOST, port), backlog=16)
        server = await asyncio.start_server(self._serve, sock=sock, ssl=self._shown)
        try:
            yield self
        finally:
            server.close()
            for task in tuple(self._tasks):
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        line = Line(reader, writer, RECEIVED_BYTES, begun=lambda call, _: self._start(self._joined(line, call, writer)))
        self._start(line.listen())

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _joined(self, line: Line, agents: Call, writer: asyncio.StreamWriter) -> None:
        """Until either side ends it."""
        line.answer(agents)
        reader, onward = await self._dialled()
        controllers = Line(reader, onward, RECEIVED_BYTES)
        bearer = f"Bearer {self._token.read_text().strip()}"
        call = controllers.call(METHOD, scheme="https", host=NAME, authorization=bearer)
        work = [
            controllers.listen(),
            self._pass(agents, call, wire.FromAgent, "says"),
            self._pass(call, agents, wire.ToAgent, "hears"),
        ]
        tasks = [asyncio.create_task(each) for each in work]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            writer.transport.abort()
            onward.transport.abort()

    async def _dialled(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        while True:
            with inside(self._netns):
                sock = socket.socket()
            sock.setblocking(False)
            try:
                await asyncio.get_running_loop().sock_connect(sock, (HOST, self._onward))
                return await asyncio.open_connection(sock=sock, ssl=self._asked, server_hostname=NAME)
            except OSError:
                sock.close()
                await asyncio.sleep(AGAIN_S)

    async def _pass(self, source: Call, sink: Call, kind: type[Any], verb: str) -> None:
        with contextlib.suppress(CallFailed):
            async for raw in source:
                step, knife = self._step(kind.FromString(raw), verb), self.knife
                cut = knife.met(step) if knife is not None and step else None
                if knife is not None and cut is not None and cut.when is When.BEFORE:
                    knife.strike()
                    return
                await sink.send(raw)
                if knife is not None and cut is not None:
                    knife.strike()

    def _step(self, message: Any, verb: str) -> str:
        """ "": about another pod, or a line of the journal that tells people nothing."""
        kind = message.WhichOneof("said")
        said = getattr(message, kind)
        if getattr(said, "uid", self.uid) != self.uid or (kind == "line" and not said.code):
            return ""
        return f"{verb} line {said.code}" if kind == "line" else f"{verb} {kind}"
