"""istiod's endpoint discovery over gRPC: what proxies, and hotswitch's own check, subscribe to (facts/istio.md 7.1).

EDS and ADS, state of the world and incremental; only ClusterLoadAssignments are served, other kinds are answered with
nothing. Pushed 100 ms after the last change, 10 s after the first at the latest. A subscriber gets a cluster when it
asks for it and when it has changed; no endpoints is an answer too.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import warnings
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from typing import Any

import grpc
import grpc.aio

from hotswitch.sandbox.cluster.istiod import Endpoint
from hotswitch.sandbox.registry import DEBOUNCE_S, assignment

with warnings.catch_warnings():  # its own modules warn about pydantic when they are first imported
    warnings.simplefilter("ignore")
    from envoy_data_plane.envoy.config.endpoint.v3 import ClusterLoadAssignment
    from envoy_data_plane.envoy.service.discovery.v3 import (
        DeltaDiscoveryRequest,
        DeltaDiscoveryResponse,
        DiscoveryRequest,
        DiscoveryResponse,
        Resource,
    )
    from envoy_data_plane.google.protobuf import Any as Packed

DEBOUNCE_MAX_S = 10.0
EDS_TYPE = "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment"
_EDS = "envoy.service.endpoint.v3.EndpointDiscoveryService"
_ADS = "envoy.service.discovery.v3.AggregatedDiscoveryService"


class EdsServer:
    """`clusters` says what there is; `touch` that it may have changed. `port` is known once it is started."""

    def __init__(self, clusters: Callable[[], Mapping[str, tuple[Endpoint, ...]]]) -> None:
        self.port = 0
        self._clusters = clusters
        self._pushed: dict[str, tuple[str, bytes]] = {}  # cluster -> version and message, as last pushed
        self._touched, self._push = asyncio.Event(), asyncio.Condition()
        self._server: grpc.aio.Server | None = None
        self._task: asyncio.Task[None] | None = None

    @property
    def target(self) -> str:
        return f"127.0.0.1:{self.port}"

    async def start(self) -> None:
        self._update()
        self._server = grpc.aio.server()
        state_of_the_world = _handler(self._stream, DiscoveryRequest.FromString)
        incremental = _handler(self._delta, DeltaDiscoveryRequest.FromString)
        for service, names in {
            _EDS: ("StreamEndpoints", "DeltaEndpoints"),
            _ADS: ("StreamAggregatedResources", "DeltaAggregatedResources"),
        }.items():
            methods = dict(zip(names, (state_of_the_world, incremental), strict=True))
            self._server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, methods),))
        self.port = self._server.add_insecure_port("127.0.0.1:0")
        await self._server.start()
        self._task = asyncio.create_task(self._debounce())

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        if self._server is not None:
            await self._server.stop(grace=None)

    def touch(self) -> None:
        self._touched.set()

    async def _debounce(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await self._touched.wait()
            latest_s = loop.time() + DEBOUNCE_MAX_S
            while self._touched.is_set() and loop.time() < latest_s:
                self._touched.clear()
                await asyncio.sleep(DEBOUNCE_S)
            self._update()
            async with self._push:
                self._push.notify_all()

    def _update(self) -> None:
        self._pushed = {name: _encoded(name, endpoints) for name, endpoints in self._clusters().items()}

    # ---- streams ----

    async def _stream(self, requests: AsyncIterator[DiscoveryRequest], context: object) -> AsyncIterator[bytes]:
        """State of the world: everything subscribed to, whenever any of it has changed."""
        names: set[str] = set()
        sent: dict[str, str] = {}
        nonce = 0
        async for request in self._turns(requests):
            if request is not None and request.type_url not in ("", EDS_TYPE):
                yield bytes(DiscoveryResponse(type_url=request.type_url, version_info="1", nonce="1"))
                continue
            if request is not None:
                names = set(request.resource_names)
            due = self._versions(names)
            if due == sent:
                continue
            sent, nonce = due, nonce + 1
            resources = [Packed(type_url=EDS_TYPE, value=self._pushed[name][1]) for name in sorted(due)]
            yield bytes(
                DiscoveryResponse(version_info=str(nonce), resources=resources, type_url=EDS_TYPE, nonce=str(nonce))
            )

    async def _delta(self, requests: AsyncIterator[DeltaDiscoveryRequest], context: object) -> AsyncIterator[bytes]:
        """Incremental: what is new or has changed of what is subscribed to, and what is gone."""
        names: set[str] = set()
        sent: dict[str, str] = {}
        nonce = 0
        async for request in self._turns(requests):
            if request is not None and request.type_url not in ("", EDS_TYPE):
                yield bytes(DeltaDiscoveryResponse(type_url=request.type_url, nonce="1"))
                continue
            if request is not None:
                names |= set(request.resource_names_subscribe)
                names -= set(request.resource_names_unsubscribe)
                sent |= dict(request.initial_resource_versions)
                for name in request.resource_names_subscribe:
                    sent.pop(name, None) if name not in request.initial_resource_versions else None
            due = self._versions(names)
            fresh = [name for name in sorted(due) if sent.get(name) != due[name]]
            gone = [name for name in sorted(sent) if name not in due and name in names]
            sent = due
            if not fresh and not gone:
                continue
            nonce += 1
            yield bytes(
                DeltaDiscoveryResponse(
                    type_url=EDS_TYPE,
                    nonce=str(nonce),
                    removed_resources=gone,
                    resources=[self._resource(name) for name in fresh],
                )
            )

    def _resource(self, name: str) -> Resource:
        version, message = self._pushed[name]
        return Resource(name=name, version=version, resource=Packed(type_url=EDS_TYPE, value=message))

    def _versions(self, names: Iterable[str]) -> dict[str, str]:
        return {name: self._pushed[name][0] for name in names if name in self._pushed}

    async def _turns(self, requests: AsyncIterator[Any]) -> AsyncIterator[Any]:
        """Each request, and None for each push, until the subscriber leaves."""
        asked = asyncio.ensure_future(anext(requests, _END))
        pushed = asyncio.ensure_future(self._next_push())
        try:
            while True:
                await asyncio.wait({asked, pushed}, return_when=asyncio.FIRST_COMPLETED)
                if asked.done():
                    request = asked.result()
                    if request is _END:
                        return
                    asked = asyncio.ensure_future(anext(requests, _END))
                    yield request
                if pushed.done():
                    pushed = asyncio.ensure_future(self._next_push())
                    yield None
        finally:
            for each in (asked, pushed):
                each.cancel()
                with contextlib.suppress(asyncio.CancelledError, grpc.RpcError):
                    await each

    async def _next_push(self) -> None:
        async with self._push:
            await self._push.wait()


_END = object()


def _handler(stream: Any, parse: Any) -> Any:
    return grpc.stream_stream_rpc_method_handler(stream, request_deserializer=parse, response_serializer=None)


def _encoded(name: str, endpoints: Iterable[Endpoint]) -> tuple[str, bytes]:
    members = [(each.address, each.port, each.tls_mode) for each in endpoints]
    message = bytes(ClusterLoadAssignment.from_dict(assignment(name, members)))
    return hashlib.sha256(message).hexdigest()[:16], message
