"""A subscriber of the EDS server, as a proxy is one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc.aio

from hotswitch.sandbox.cluster.eds import (
    EDS_TYPE,
    ClusterLoadAssignment,
    DeltaDiscoveryRequest,
    DeltaDiscoveryResponse,
    DiscoveryRequest,
    DiscoveryResponse,
)

SOTW = "/envoy.service.endpoint.v3.EndpointDiscoveryService/StreamEndpoints"
DELTA = "/envoy.service.endpoint.v3.EndpointDiscoveryService/DeltaEndpoints"
Members = set[tuple[str, str]]


class Subscriber:
    """What it was told last, as (address, tlsMode) by cluster. `answers`: how many there were."""

    def __init__(self) -> None:
        self.known: dict[str, Members] = {}
        self.removed: set[str] = set()
        self.answers = 0
        self._news = asyncio.Event()

    def take(self, message: bytes) -> None:
        found = ClusterLoadAssignment.FromString(message)
        self.known[found.cluster_name] = {
            (each.endpoint.address.socket_address.address, _mode(each.to_dict()))
            for locality in found.endpoints
            for each in locality.lb_endpoints
        }

    def wake(self) -> None:
        self.answers += 1
        self._news.set()

    async def until(self, cluster: str, members: Members, timeout_s: float = 10.0) -> None:
        try:
            async with asyncio.timeout(timeout_s):
                while self.known.get(cluster) != members:
                    self._news.clear()
                    await self._news.wait()
        except TimeoutError:
            raise TimeoutError(f"{cluster}: {self.known.get(cluster)}, not {members}") from None


def _mode(endpoint: dict[str, Any]) -> str:
    matched = (endpoint.get("metadata") or {}).get("filterMetadata", {}).get("envoy.transport_socket_match", {})
    return str(matched.get("tlsMode", ""))


@asynccontextmanager
async def subscribed(target: str, *clusters: str, delta: bool = False) -> AsyncIterator[Subscriber]:
    subscriber = Subscriber()
    async with grpc.aio.insecure_channel(target) as channel:
        stream = channel.stream_stream(DELTA if delta else SOTW)()
        task = asyncio.create_task(_listen(stream, subscriber, clusters, delta))
        try:
            yield subscriber
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


async def _listen(stream: Any, subscriber: Subscriber, clusters: tuple[str, ...], delta: bool) -> None:
    first = (
        DeltaDiscoveryRequest(type_url=EDS_TYPE, resource_names_subscribe=list(clusters))
        if delta
        else DiscoveryRequest(type_url=EDS_TYPE, resource_names=list(clusters))
    )
    await stream.write(bytes(first))
    while True:
        raw = await stream.read()
        if delta:
            incremental = DeltaDiscoveryResponse.FromString(raw)
            for each in incremental.resources:
                subscriber.take(each.resource.value)
            subscriber.removed |= set(incremental.removed_resources)
            ack: Any = DeltaDiscoveryRequest(type_url=EDS_TYPE, response_nonce=incremental.nonce)
        else:
            whole = DiscoveryResponse.FromString(raw)
            for each in whole.resources:
                subscriber.take(each.value)
            ack = DiscoveryRequest(
                type_url=EDS_TYPE,
                resource_names=list(clusters),
                response_nonce=whole.nonce,
                version_info=whole.version_info,
            )
        subscriber.wake()
        await stream.write(bytes(ack))
