"""Real clients in namespaces that play hosts and clusters, an xDS server in the node's, and who answered what."""

from __future__ import annotations

import contextlib
import json
from collections.abc import AsyncIterator, Iterable, Mapping
from typing import Any

from hotswitch.backends import Backend, Locality
from hotswitch.endpoints.xds.callers import caller_of
from hotswitch.endpoints.xds.loads import Loads
from hotswitch.endpoints.xds.publisher import EdsPublisher
from hotswitch.endpoints.xds.server import Identity, XdsServer
from hotswitch.kernel.netns import inside
from hotswitch.sandbox.clients import EnvoyClient
from hotswitch.sandbox.eds_service import GRPC_NAME, NOWHERE, backend, published, record
from hotswitch.sandbox.followers import Follower, Followers
from hotswitch.sandbox.pod import Pod
from hotswitch.sandbox.sandbox import Sandbox
from hotswitch.sandbox.xds_client import XdsClientSpec

LISTEN = 7000


class World:
    """`backends`: pods that run. `publish` says what is told of them."""

    def __init__(self, box: Sandbox) -> None:
        self.box, self.pods = box, dict[str, Pod]()
        self.backends: dict[str, Backend] = {}
        self.record = record()
        self._followers = Followers(box.estate, box.network)

    async def serve(self, identity: Identity | None = None, *, hears_loads: bool = False) -> None:
        """The server, in the node's namespace, in this process."""
        address = f"{self.box.network.node.ipv4}:0"
        self.publisher = EdsPublisher(lambda kinds, names: self.server.changed(kinds, names))
        self.loads = Loads(self.publisher.load, self.publisher.placed)
        heard = self.loads if hears_loads else None
        self.server = XdsServer(self.publisher, caller_of, address=address, identity=identity, loads=heard)
        with inside(self.box.network.node.netns):
            await self.server.start()
        self.server.open()

    async def backend(self, name: str, locality: Locality = NOWHERE, **fields: Any) -> Backend:
        pod = self.pods.get(name) or await self.box.pod(name, sidecar=False, interception="NONE", grpc=True)
        self.pods[name] = pod
        await pod.ready()
        self.backends[name] = backend(name, pod.ip, locality, **fields)
        return self.backends[name]

    def publish(self, *names: str, down: Iterable[str] = ()) -> None:
        """Those backends, in the order of names; all of them when none is named."""
        chosen = [self.backends[name] for name in sorted(names or self.backends)]
        self.publisher.publish(published(self.record, chosen, down))

    def spec(self, name: str, where: Mapping[str, str], **fields: Any) -> XdsClientSpec:
        return XdsClientSpec(name, (self.box.network.node.ipv4, self.server.port), where, **fields)

    async def envoy(self, spec: XdsClientSpec, *, ads: bool = False) -> EnvoyClient:
        return await self._followers.envoy(spec, ads=ads)

    def ask_http(self, client: EnvoyClient, port: int = LISTEN, *more: str) -> Follower:
        return self._followers.http(client, port, *more)

    async def ask_grpc(
        self, spec: XdsClientSpec, target: str = f"xds:///{GRPC_NAME}", interval_s: float = 0.002
    ) -> Follower:
        return await self._followers.grpc(spec, target, interval_s)

    async def close(self) -> None:
        await self._followers.close()
        await self.server.stop()


@contextlib.asynccontextmanager
async def world(*, hears_loads: bool = False) -> AsyncIterator[World]:
    async with Sandbox() as box:
        made = World(box)
        await made.serve(hears_loads=hears_loads)
        try:
            yield made
        finally:
            await made.close()


async def endpoints(client: EnvoyClient, cluster: str) -> dict[str, int]:
    """Address -> priority, as the client's Envoy has them."""
    said = json.loads((await client.admin("/clusters?format=json")).body)
    found = next((each for each in said["cluster_statuses"] if each["name"] == cluster), {})
    hosts = found.get("host_statuses", ())
    return {each["address"]["socket_address"]["address"]: each.get("priority", 0) for each in hosts}
