"""Real clients in namespaces that play hosts and clusters, an xDS server in the node's, and who answered what."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from hotswitch.backends import (
    Backend,
    BackendPort,
    Conditions,
    Locality,
    Published,
    PublishedEndpoint,
    ServiceId,
    ServiceMode,
    ServicePort,
    ServiceRecord,
)
from hotswitch.endpoints.xds.callers import caller_of
from hotswitch.endpoints.xds.loads import Loads
from hotswitch.endpoints.xds.publisher import EdsPublisher
from hotswitch.endpoints.xds.server import Identity, XdsServer
from hotswitch.kernel.netns import inside
from hotswitch.model import PodRef, PodUid
from hotswitch.sandbox.app import GRPC_PORT, HTTP_PORT
from hotswitch.sandbox.clients import EnvoyClient
from hotswitch.sandbox.pod import Pod
from hotswitch.sandbox.process import HOME, Process, module_argv, start
from hotswitch.sandbox.sandbox import Sandbox
from hotswitch.sandbox.xds_client import XdsClientSpec

PATIENCE_S = 60.0
LISTEN = 7000
SERVICE, NOWHERE = ServiceId("shop", "db"), Locality()
HTTP_NAME, GRPC_NAME = f"db.shop:{HTTP_PORT}", f"db.shop:{GRPC_PORT}"
PORTS = (
    ServicePort("http", HTTP_PORT, HTTP_PORT),
    ServicePort("grpc", GRPC_PORT, GRPC_PORT, app_protocol="grpc"),
)


def record(mode: ServiceMode = ServiceMode.NEAREST, **annotations: str) -> ServiceRecord:
    said = {f"endpoints.hotswitch.io/{name}": value for name, value in annotations.items()}
    return ServiceRecord(SERVICE, "service-uid", mode, PORTS, annotations=said)


def backend(name: str, address: str, locality: Locality = NOWHERE, **fields: Any) -> Backend:
    ports = tuple(BackendPort(each.name, each.port) for each in PORTS)
    pod = PodRef(name, SERVICE.namespace, PodUid(f"uid-{name}"))
    return Backend(service=SERVICE, pod=pod, addresses=(address,), ports=ports, locality=locality, **fields)


def published(service: ServiceRecord, backends: Iterable[Backend], down: Iterable[str] = ()) -> Published:
    gone = set(down)
    told = (PublishedEndpoint(each, _conditions(each.pod.name not in gone)) for each in backends)
    return Published(service, tuple(told))


def _conditions(ready: bool) -> Conditions:
    return Conditions(ready, ready, terminating=False)


@dataclass(frozen=True, slots=True)
class Asked:
    """One request. `who`: the pod that answered; "" and `failure` when none did."""

    start_s: float
    end_s: float
    who: str
    failure: str = ""


class Follower:
    """A client at work."""

    def __init__(self, process: Process) -> None:
        self._process, self.asked = process, list[Asked]()
        self._more = asyncio.Event()
        self._reading = asyncio.ensure_future(self._read())

    async def _read(self) -> None:
        reader = asyncio.StreamReader()
        loop = asyncio.get_running_loop()
        await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), self._process.output)
        while line := await reader.readline():
            start_ns, end_ns, answer = line.decode().split()
            failure = answer[1:] if answer.startswith("!") else ""
            self.asked.append(Asked(int(start_ns) / 1e9, int(end_ns) / 1e9, "" if failure else answer, failure))
            self._more.set()
        self._more.set()

    async def until(self, condition: Callable[[list[Asked]], object], what: str) -> None:
        """Raises TimeoutError that says what was waited for."""
        try:
            async with asyncio.timeout(PATIENCE_S):
                while not condition(self.asked):
                    if self._reading.done():
                        raise RuntimeError(f"the client has ended; waited for {what}")
                    self._more.clear()
                    await self._more.wait()
        except TimeoutError:
            raise TimeoutError(f"{what}; last: {self.asked[-5:]}") from None

    async def answered_by(self, *names: str, times: int = 20) -> None:
        """Wait until of as many requests as `times`, begun from now on, each of these and nobody else answered some."""
        begun = self.mark() + 1

        def done(asked: list[Asked]) -> bool:
            last = asked[begun:][-times:]
            return len(last) == times and {each.who for each in last} == set(names)

        await self.until(done, f"{' and '.join(names)} to answer, and nobody else")

    def mark(self) -> int:
        return len(self.asked)

    def since(self, mark: int) -> list[Asked]:
        return self.asked[mark:]

    def failures(self, since: int = 0) -> list[Asked]:
        return [each for each in self.asked[since:] if each.failure]

    def counts(self, since: int = 0) -> Counter[str]:
        return Counter(each.who for each in self.asked[since:])

    async def stop(self) -> None:
        await self._process.stop()
        await self._reading


class World:
    """`backends`: pods that run. `publish` says what is told of them."""

    def __init__(self, box: Sandbox) -> None:
        self.box, self.pods = box, dict[str, Pod]()
        self.backends: dict[str, Backend] = {}
        self.record = record()
        self._followers: list[Follower] = []
        self._count = 0

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
        client = EnvoyClient(self.box.estate, await self.box.network.attach(spec.name), spec.name)
        self.box.clients[spec.name] = client
        spec.save(client.bootstrap, spec.envoy_ads() if ads else spec.envoy_eds())
        await client.restart()
        return client

    def ask_http(self, client: EnvoyClient, port: int = LISTEN, *more: str) -> Follower:
        return self._follow(client.netns, ("http", f"127.0.0.1:{port}", *more), {})

    async def ask_grpc(
        self, spec: XdsClientSpec, target: str = f"xds:///{GRPC_NAME}", interval_s: float = 0.002
    ) -> Follower:
        place = await self.box.network.attach(spec.name)
        path = self.box.estate.directory / "clients" / f"{spec.name}.json"
        spec.save(path, spec.grpc_bootstrap())
        return self._follow(place.netns, ("grpc", target, str(interval_s)), {"GRPC_XDS_BOOTSTRAP": str(path)})

    def _follow(self, netns: str, arguments: tuple[str, ...], variables: Mapping[str, str]) -> Follower:
        self._count += 1
        log = self.box.estate.directory / f"follow-{self._count}.log"
        said = tuple(f"{name}={value}" for name, value in variables.items())
        argv = ("env", f"PYTHONPATH={HOME}", *said, *module_argv("follow", *arguments))
        follower = Follower(start(self.box.estate, argv, log=log, netns=netns, pipe=True))
        self._followers.append(follower)
        return follower

    async def close(self) -> None:
        await asyncio.gather(*(each.stop() for each in self._followers))
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
