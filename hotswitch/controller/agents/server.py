"""The door of the agents: one stream for each, over TLS, with every message looked at before it is believed (S4.2, I2).

Messages come as bytes, so that one that is too long or no message of ours is refused with a reason. What is on its way
to an agent is bounded by what there is to say: of a grant or an allotment the newest replaces the one that waits.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import grpc
import grpc.aio
from google.protobuf.message import DecodeError

from hotswitch.api.agent.v1 import agent_pb2 as wire
from hotswitch.cluster.failure import ApiFailure
from hotswitch.controller.agents.desk import BEAT_S, Desk
from hotswitch.controller.agents.limits import HELLO_WITHIN_S, MESSAGE_BYTES, RECEIVED_BYTES, Bucket, Rejected
from hotswitch.controller.agents.present import Agent
from hotswitch.controller.agents.trust import Doorkeeper
from hotswitch.controller.agents.waiting import Crowd, Waiting
from hotswitch.controller.listening import target

SERVICE, METHOD = "hotswitch.agent.v1.AgentLink", "Speak"
NEWEST, OLDEST = 1, 1
"""Versions of the protocol that are spoken here."""
STREAM_LASTS_S = 1800.0  # a token is looked at again when the agent connects anew
STREAMS_AT_MOST = 4  # of one connection, before anybody has shown a token; an agent has one
log = logging.getLogger("hotswitch.agents")

_STATUS = {
    "no-token": grpc.StatusCode.UNAUTHENTICATED,
    "bad-token": grpc.StatusCode.UNAUTHENTICATED,
    "wrong-audience": grpc.StatusCode.UNAUTHENTICATED,
    "not-leading": grpc.StatusCode.UNAVAILABLE,
    "replaced": grpc.StatusCode.ABORTED,
    "api": grpc.StatusCode.UNAVAILABLE,
    "renew": grpc.StatusCode.UNAVAILABLE,
    "version": grpc.StatusCode.FAILED_PRECONDITION,
    "malformed": grpc.StatusCode.INVALID_ARGUMENT,
    "oversized": grpc.StatusCode.RESOURCE_EXHAUSTED,
    "too-many": grpc.StatusCode.RESOURCE_EXHAUSTED,
    "busy": grpc.StatusCode.RESOURCE_EXHAUSTED,
}
_QUIET = frozenset({"not-leading", "replaced", "renew", "api"})
"""Ends of a link that are nobody's fault: not counted as refusals."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Certificate:
    """PEM files, read anew when they change: a Secret that is mounted is renewed in place. `clients`: roots that
    agents' own certificates must come from; None: agents show a token only."""

    chain: Path
    key: Path
    clients: Path | None = None

    def config(self) -> grpc.ServerCertificateConfiguration:
        """Raises OSError."""
        roots = self.clients.read_bytes() if self.clients is not None else None
        return grpc.ssl_server_certificate_configuration([(self.key.read_bytes(), self.chain.read_bytes())], roots)

    def credentials(self) -> grpc.ServerCredentials:
        known = [self._stamp()]

        def renewed() -> grpc.ServerCertificateConfiguration | None:
            with contextlib.suppress(OSError):
                if (now := self._stamp()) != known[0]:
                    config = self.config()
                    known[0] = now
                    return config
            return None

        return grpc.dynamic_ssl_server_credentials(self.config(), renewed, self.clients is not None)

    def _stamp(self) -> tuple[tuple[int, int], ...]:
        files = [self.chain, self.key, *([self.clients] if self.clients is not None else [])]
        return tuple((each.stat().st_mtime_ns, each.stat().st_ino) for each in files)


class AgentServer:
    """`certificate` None: plaintext, on loopback only (tests of what comes after TLS)."""

    def __init__(
        self, desk: Desk, doorkeeper: Doorkeeper, certificate: Certificate | None, crowd: Crowd | None = None
    ) -> None:
        self._desk, self._doorkeeper, self._certificate = desk, doorkeeper, certificate
        self._waiting = Waiting(crowd or Crowd())
        self.port = 0

    async def start(self, address: str, port: int) -> None:
        """Raises OSError: the port is taken, or the certificate cannot be read."""
        handler = grpc.stream_stream_rpc_method_handler(self._speak)  # bytes both ways
        self._server = grpc.aio.server(
            options=[
                ("grpc.max_receive_message_length", RECEIVED_BYTES),
                ("grpc.so_reuseport", 0),
                ("grpc.max_concurrent_streams", STREAMS_AT_MOST),
                ("grpc.keepalive_time_ms", 20_000),
                ("grpc.keepalive_timeout_ms", 10_000),
                ("grpc.keepalive_permit_without_calls", 0),
                ("grpc.http2.min_ping_interval_without_data_ms", 5_000),
            ]
        )
        self._server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, {METHOD: handler}),))
        where = target(address, port)
        try:
            if self._certificate is None:
                self.port = self._server.add_insecure_port(where)
            else:
                self.port = self._server.add_secure_port(where, self._certificate.credentials())
        except RuntimeError as failure:
            raise OSError(f"agents cannot be served at {where}: {failure}") from failure
        await self._server.start()

    async def stop(self) -> None:
        await self._server.stop(0.2)

    async def _speak(self, incoming: AsyncIterator[bytes], context: grpc.aio.ServicerContext) -> None:
        """One agent, from its hello to its end."""
        try:
            await Conversation(self._desk, self._doorkeeper, self._waiting, context).hold(incoming)
        except Rejected as rejected:
            reason = rejected.reason
            if reason not in _QUIET:
                self._desk.rejected(reason)
                log.warning("agent refused", extra={"reason": reason, "why": str(rejected), "peer": context.peer()})
            status = _STATUS.get(reason, grpc.StatusCode.PERMISSION_DENIED)
            await context.abort(status, f"{reason}: {rejected}"[:1000])


class Conversation:
    def __init__(self, desk: Desk, doorkeeper: Doorkeeper, reviews: Waiting, context: grpc.aio.ServicerContext) -> None:
        self._desk, self._doorkeeper, self._reviews, self._context = desk, doorkeeper, reviews, context
        self._loop = asyncio.get_running_loop()
        self._waiting: dict[str, wire.ToAgent] = {}
        self._ready = asyncio.Event()
        self._ended: Rejected | None = None
        self._bucket = Bucket(self._loop.time())

    # ---- desk.Wire ----

    def send(self, message: wire.ToAgent) -> None:
        kind = message.WhichOneof("said") or ""
        uid = message.grant.uid or message.withdrawal.uid
        key = uid or f"{kind}{message.opinion.uid}{message.written.uid}"
        self._waiting.pop(key, None)
        self._waiting[key] = message
        self._ready.set()

    def end(self, reason: str, sentence: str) -> None:
        self._ended = Rejected(reason, sentence)
        self._ready.set()

    # ---- the talk ----

    async def hold(self, incoming: AsyncIterator[bytes]) -> None:
        """Raises Rejected."""
        messages = aiter(incoming)
        try:
            async with asyncio.timeout(HELLO_WITHIN_S):
                hello = self._read(await anext(messages))
        except TimeoutError:
            raise Rejected("malformed", f"no hello within {HELLO_WITHIN_S:g} s") from None
        except StopAsyncIteration:
            return
        agent = await self._greet(hello)
        talking = self._loop.create_task(self._talk())
        hearing = self._loop.create_task(self._hear(agent, messages))
        lasts_s = STREAM_LASTS_S * random.uniform(0.8, 1.2)
        try:
            done, _ = await asyncio.wait({talking, hearing}, timeout=lasts_s, return_when=asyncio.FIRST_COMPLETED)
            if not done:
                raise Rejected("renew", "connect anew: the token is looked at from time to time")
            for each in done:
                each.result()
        finally:
            self._desk.leave(agent)
            for each in (talking, hearing):
                each.cancel()
            await asyncio.gather(talking, hearing, return_exceptions=True)

    async def _greet(self, message: wire.FromAgent) -> Agent:
        if message.WhichOneof("said") != "hello":
            raise Rejected("malformed", "the first message is no hello")
        hello = message.hello
        version = min(hello.newest, NEWEST)
        if version < max(hello.oldest, OLDEST):
            raise Rejected(
                "version", f"it speaks {hello.oldest} to {hello.newest}, this controller {OLDEST} to {NEWEST}"
            )
        if self._desk.term is None:
            raise Rejected("not-leading", "this controller does not lead")
        try:
            async with self._reviews.turn(self._context.peer()):
                speaker = await self._doorkeeper.admit(self._token(), hello)
        except ApiFailure as failure:
            raise Rejected("api", f"the API server cannot be asked about the token: {failure}") from failure
        term = self._desk.term
        if term is None:
            raise Rejected("not-leading", "this controller does not lead any longer")
        self.send(
            wire.ToAgent(welcome=wire.Welcome(version=version, term=term, beat_s=BEAT_S, answers=True, confirms=True))
        )
        return self._desk.come(speaker, hello, self)

    def _token(self) -> str:
        metadata = dict(self._context.invocation_metadata() or ())
        said = str(metadata.get("authorization", ""))
        return said.removeprefix("Bearer ").strip() if said.startswith("Bearer ") else ""

    def _read(self, raw: bytes) -> wire.FromAgent:
        self._bucket.take(self._loop.time())
        if len(raw) > MESSAGE_BYTES:
            raise Rejected("oversized", f"a message of {len(raw)} bytes, more than {MESSAGE_BYTES}")
        message = wire.FromAgent()
        try:
            message.ParseFromString(raw)
            return message
        except DecodeError as failure:
            raise Rejected("malformed", "what it sends is no message of ours") from failure

    async def _hear(self, agent: Agent, messages: AsyncIterator[bytes]) -> None:
        async for raw in messages:
            self._desk.hear(agent, self._read(raw))

    async def _talk(self) -> None:
        while True:
            await self._ready.wait()
            self._ready.clear()
            if self._ended is not None:
                raise self._ended
            while self._waiting:
                await self._context.write(self._next().SerializeToString())

    def _next(self) -> wire.ToAgent:
        """The welcome first, then as it came."""
        key = next(iter(self._waiting))
        return self._waiting.pop("welcome", None) or self._waiting.pop(key)
