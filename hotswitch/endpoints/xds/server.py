"""The xDS server: gRPC in front of streams. ADS and EDS, state of the world and incremental, for many clients (S2.5).

Fan-out: a change marks names on the streams that want them and wakes those; each makes its own answer when its client
can take one (HTTP/2 flow control), from what there is at that moment. So a slow client costs its set of marked names
and one message, never a queue; and all of them together no more than there is room for.

Nothing is said before `open`: a controller that has not read everything would tell clients that nobody serves, and they
would believe it. They keep what they have and wait (I1).

Protected: with `Identity`, what goes over the wire, and the server's name; with `clients` in it, too, who may ask.
Not protected: who a client says it is. It gets the order of the place that it names, nothing more than others get.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import grpc
import grpc.aio

from hotswitch.decide.endpoints.place import Caller
from hotswitch.endpoints.xds.figures import Figures
from hotswitch.endpoints.xds.kinds import Kind
from hotswitch.endpoints.xds.loads import Loads, Reporter, answer
from hotswitch.endpoints.xds.request import Node, node_of
from hotswitch.endpoints.xds.room import Full, Room, Seat
from hotswitch.endpoints.xds.stream import INCREMENTAL, WHOLE, Protocol, Stream
from hotswitch.endpoints.xds.subscription import Source, TooMuch
from hotswitch.protowire import Malformed

REQUEST_BYTES = 4 << 20
FIRST_S = 30.0  # within which a client says what it wants; else its place is given to others
ALIVE = (  # a client whose host is gone is noticed, and lets go of its stream
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.http2.min_ping_interval_without_data_ms", 5_000),
    ("grpc.max_receive_message_length", REQUEST_BYTES),
    ("grpc.so_reuseport", 0),
)
METHODS = {
    "envoy.service.discovery.v3.AggregatedDiscoveryService": (
        tuple(Kind),
        {"StreamAggregatedResources": WHOLE, "DeltaAggregatedResources": INCREMENTAL},
    ),
    "envoy.service.endpoint.v3.EndpointDiscoveryService": (
        (Kind.ENDPOINTS,),
        {"StreamEndpoints": WHOLE, "DeltaEndpoints": INCREMENTAL},
    ),
    "envoy.service.route.v3.RouteDiscoveryService": (
        (Kind.ROUTE,),
        {"StreamRoutes": WHOLE, "DeltaRoutes": INCREMENTAL},
    ),
}
LOAD_REPORTS = "envoy.service.load_stats.v3.LoadReportingService"
log = logging.getLogger("hotswitch.xds")


@dataclass(frozen=True, slots=True)
class Identity:
    """PEM files of the server. `clients`: roots of those who may ask; None: anybody may. Read at the start."""

    certificate: Path
    key: Path
    clients: Path | None = None

    def credentials(self) -> grpc.ServerCredentials:
        """Raises OSError."""
        pair = (self.key.read_bytes(), self.certificate.read_bytes())
        roots = None if self.clients is None else self.clients.read_bytes()
        return grpc.ssl_server_credentials([pair], roots, require_client_auth=roots is not None)


class XdsServer:
    """`who` makes a caller of what a client says of itself. `port` is known once it is started."""

    def __init__(
        self,
        source: Source,
        who: Callable[[Node], Caller],
        *,
        address: str = "127.0.0.1:0",
        identity: Identity | None = None,
        figures: Figures | None = None,
        loads: Loads | None = None,
        room: Room | None = None,
    ) -> None:
        self.figures, self.room = figures or Figures(), room or Room()
        self.port = 0
        self._source, self._who, self._address, self._identity = source, who, address, identity
        self._loads = loads
        self._opened = asyncio.Event()
        self._streams: dict[Stream, asyncio.Event] = {}
        self._server: grpc.aio.Server | None = None

    async def start(self) -> None:
        """Raises OSError when the address is taken or a certificate cannot be read."""
        server = grpc.aio.server(options=ALIVE)
        for service, (kinds, methods) in METHODS.items():
            handlers = {name: self._handler(protocol, kinds) for name, protocol in methods.items()}
            server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, handlers),))
        if self._loads is not None:
            handlers = {"StreamLoadStats": grpc.stream_stream_rpc_method_handler(self._reports)}
            server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(LOAD_REPORTS, handlers),))
        try:
            self.port = self._bind(server)
        except RuntimeError as taken:
            raise OSError(f"xDS: {self._address}: {taken}") from None
        await server.start()
        self._server = server

    def _bind(self, server: grpc.aio.Server) -> int:
        if self._identity is None:
            return int(server.add_insecure_port(self._address))
        return int(server.add_secure_port(self._address, self._identity.credentials()))

    async def stop(self) -> None:
        """Clients keep what they have and try to connect again."""
        if self._server is not None:
            await self._server.stop(grace=None)
            self._server = None

    def open(self) -> None:
        """Everything is known: answers may go out. To be called in the event loop, like `changed`."""
        self._opened.set()

    def changed(self, kinds: Collection[Kind], names: Collection[str]) -> None:
        """Resources of those kinds and names may have changed."""
        for stream, wake in self._streams.items():
            if stream.changed(kinds, names):
                wake.set()

    @property
    def streams(self) -> Collection[Stream]:
        return self._streams.keys()

    # ---- one client ----

    @contextlib.asynccontextmanager
    async def _seated(self, context: Any) -> AsyncIterator[Seat]:
        """What ends a stream is said to its client, and counted."""
        try:
            with self.room.seat(_address_of(context.peer())) as seat:
                yield seat
        except _Silent as silent:
            self.figures.silent += 1
            await context.abort(grpc.StatusCode.DEADLINE_EXCEEDED, str(silent))
        except Full as full:
            self.figures.refused += 1
            await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, str(full))
        except (Malformed, TooMuch) as failure:
            self.figures.malformed += 1
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(failure))

    def _handler(self, protocol: Protocol, kinds: tuple[Kind, ...]) -> Any:
        async def serve(requests: AsyncIterator[bytes], context: Any) -> AsyncIterator[bytes]:
            async with self._seated(context) as seat:
                stream = Stream(protocol, kinds, self._source, self._who, self.figures)
                wake = self._streams[stream] = asyncio.Event()
                self.figures.streams += 1
                listening = asyncio.ensure_future(self._listen(requests, stream, seat, wake))
                try:
                    async for message in self._answers(stream, wake, listening):
                        seat.keep(stream.weight)
                        with seat.sending(len(message)):
                            yield message
                    listening.result()
                finally:
                    listening.cancel()
                    del self._streams[stream]
                    self.figures.streams -= 1

        return grpc.stream_stream_rpc_method_handler(serve)

    async def _listen(self, requests: AsyncIterator[bytes], stream: Stream, seat: Seat, wake: asyncio.Event) -> None:
        """Raises Malformed, TooMuch, Full, _Silent."""
        try:
            with contextlib.suppress(grpc.aio.UsageError):  # the client is gone
                async for data in _begun(requests):
                    stream.hear(data)
                    seat.keep(stream.weight)
                    wake.set()
        except Full:  # at once, though the stream ends only when the client has taken what is under way
            stream.forget()
            seat.keep(0)
            raise
        finally:
            wake.set()

    async def _answers(
        self, stream: Stream, wake: asyncio.Event, listening: asyncio.Future[None]
    ) -> AsyncIterator[bytes]:
        """Until the client has said its last word, or one that cannot be understood."""
        await self._opened.wait()
        while not listening.done():
            await wake.wait()
            wake.clear()
            while (message := stream.answer()) is not None:
                yield message

    async def _reports(self, requests: AsyncIterator[bytes], context: Any) -> AsyncIterator[bytes]:
        """One client's load, until it leaves."""
        assert self._loads is not None
        reporter = Reporter()
        async with self._seated(context):
            try:
                async for data in _begun(requests):
                    if reporter.caller is None:
                        reporter.caller = self._who(node_of(data, 1) or Node())
                        yield answer()
                    self._loads.hear(reporter, data)
            finally:
                self._loads.forget(reporter)


class _Silent(RuntimeError):
    """A client that takes a place and says nothing."""


async def _begun(requests: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """Raises _Silent when the first does not come in time."""
    try:
        async with asyncio.timeout(FIRST_S):
            first = await anext(requests, None)
    except TimeoutError:
        raise _Silent(f"no request came within {FIRST_S:g} s") from None
    if first is not None:
        yield first
        async for each in requests:
            yield each


def _address_of(peer: str) -> str:
    """Of gRPC's name for it: "ipv4:10.0.0.1:4711", "ipv6:%5B::1%5D:4711"."""
    return unquote(peer).rpartition(":")[0]
