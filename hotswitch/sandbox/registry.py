"""What istiod and kube-proxy would know: which pods serve a Service, told to clients the way those learn it.

Follows readiness and the label security.istio.io/tlsMode. Meshed clients get EDS with istiod's 100 ms debounce
(facts/istio.md 7.1); plain ones an endpoints file at once, which the load program follows as kube-proxy's rules would.
Like istiod, it reads a NotReady pod's label only at the next change of the endpoints (7.2).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Protocol

from hotswitch.model import Port
from hotswitch.sandbox.envoy import Config, address, publish, typed

DEBOUNCE_S = 0.1  # PILOT_DEBOUNCE_AFTER
ADOPTION_POLL_S = 0.05
TLS_MODE_LABEL = "security.istio.io/tlsMode"


class Publish(StrEnum):
    """Whose endpoints a Service has."""

    READY = "ready"  # what kubelet and istiod do: NotReady takes a pod out
    ADOPTED = "adopted"  # hotswitch owns the endpoints: a pod that it serves stays in
    ALL = "all"  # publishNotReadyAddresses


class Member(Protocol):
    """What the registry has to know of a pod."""

    @property
    def name(self) -> str: ...

    @property
    def labels(self) -> Mapping[str, str]: ...

    @property
    def spiffe_id(self) -> str: ...

    @property
    def terminating(self) -> bool: ...

    @property
    def is_ready(self) -> bool: ...

    @property
    def addresses(self) -> tuple[str, ...]: ...


@dataclass(slots=True)
class Service:
    """`number`: meshed clients reach it on 127.0.0.1:9000+number. `serves`: for ADOPTED, says "hotswitch serves it".
    `source`: says who the members are where another control plane decides that; then `publish` does not count."""

    name: str
    number: int
    pods: tuple[Member, ...]
    port: Port
    directory: Path
    protocol: str = "http"  # "http" | "h2" | "tcp"
    family: str = "v4"
    publish: Publish = Publish.READY
    serves: Callable[[str], bool] = lambda pod: False
    source: Callable[[], list[tuple[str, str]]] | None = None
    changes: list[tuple[float, tuple[str, ...]]] = field(default_factory=list)  # (loop time, addresses) as published

    @property
    def client_port(self) -> Port:
        return 9000 + self.number

    @property
    def eds(self) -> Path:
        return self.directory / f"{self.name}.eds.json"

    @property
    def endpoints_file(self) -> Path:
        return self.directory / f"{self.name}.endpoints"

    @property
    def accepted(self) -> tuple[str, ...]:
        """SPIFFE ids a client accepts, as istiod lists a Service's accounts."""
        return tuple(sorted({pod.spiffe_id for pod in self.pods}))

    def members(self) -> list[tuple[str, str]]:
        """(address, tlsMode) of every endpoint right now."""
        if self.source is not None:
            return self.source()
        chosen = [pod for pod in self.pods if self._belongs(pod)]
        return [(_address(pod, self.family), pod.labels.get(TLS_MODE_LABEL, "disabled")) for pod in chosen]

    def _belongs(self, pod: Member) -> bool:
        if self.publish is Publish.ALL:
            return True
        if pod.is_ready:
            return True
        return self.publish is Publish.ADOPTED and not pod.terminating and self.serves(pod.name)


class Registry:
    """Publishes every Service, and again after each `touch` that changed something."""

    def __init__(self) -> None:
        self._services: dict[str, Service] = {}
        self._published: dict[str, list[tuple[str, str]]] = {}
        self._versions: dict[str, int] = {}
        self._touched = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        self._tasks = [asyncio.create_task(self._debounce()), asyncio.create_task(self._watch_adoption())]

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def add(self, service: Service) -> None:
        self._services[service.name] = service
        self._publish(service)

    def touch(self) -> None:
        """Something about a pod may have changed."""
        for service in self._services.values():
            self._write_endpoints(service)
        self._touched.set()

    async def _debounce(self) -> None:
        while True:
            await self._touched.wait()
            self._touched.clear()
            await asyncio.sleep(DEBOUNCE_S)
            for service in self._services.values():
                self._publish(service)

    async def _watch_adoption(self) -> None:
        while True:
            await asyncio.sleep(ADOPTION_POLL_S)
            adopted = [service for service in self._services.values() if service.publish is Publish.ADOPTED]
            if any(_hosts(service.members()) != _hosts(self._published[service.name]) for service in adopted):
                self.touch()

    def _publish(self, service: Service) -> None:
        members = service.members()
        if self._published.get(service.name) == members:
            return
        self._published[service.name] = members
        version = self._versions[service.name] = self._versions.get(service.name, 0) + 1
        publish(service.eds, [_assignment(service, members)], version)
        service.changes.append((asyncio.get_running_loop().time(), tuple(_hosts(members))))
        self._write_endpoints(service)

    def _write_endpoints(self, service: Service) -> None:
        text = "".join(f"{host} {service.port}\n" for host in _hosts(service.members()))
        if not service.endpoints_file.exists() or service.endpoints_file.read_text() != text:
            fresh = service.endpoints_file.with_suffix(".fresh")
            fresh.write_text(text)
            fresh.rename(service.endpoints_file)


def _hosts(members: list[tuple[str, str]]) -> list[str]:
    return [host for host, _ in members]


def _address(pod: Member, family: str) -> str:
    return next(address for address in pod.addresses if (":" in address) == (family == "v6"))


def _assignment(service: Service, members: list[tuple[str, str]]) -> Config:
    named = assignment(service.name, ((host, service.port, mode) for host, mode in members))
    return typed("config.endpoint.v3.ClusterLoadAssignment", **named)


def assignment(cluster: str, members: Iterable[tuple[str, Port, str]]) -> Config:
    """A ClusterLoadAssignment of (address, port, tlsMode)."""
    return {"cluster_name": cluster, "endpoints": [{"lb_endpoints": [_endpoint(*member) for member in members]}]}


def _endpoint(host: str, port: Port, mode: str) -> Config:
    """Only tlsMode "istio" gets the metadata that picks mTLS; any other value is plaintext (facts/istio.md 7.2)."""
    endpoint: Config = {"endpoint": {"address": address(host, port)}}
    if mode == "istio":
        endpoint["metadata"] = {"filter_metadata": {"envoy.transport_socket_match": {"tlsMode": "istio"}}}
    return endpoint
