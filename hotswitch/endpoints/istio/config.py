"""A published Service in Istio's words: a ServiceEntry, and a DestinationRule for its order (S0.5, S2.5). Pure.

The ServiceEntry has a host of its own, NAME.NAMESPACE.hotswitch.internal: what istiod does with the host of a
Kubernetes Service that exists besides is not defined, and a host that could be chosen would let whoever may annotate a
Service take over any name in the mesh. Only who may serve is an endpoint: of an active/standby Service the active one
(I7).

The order stands in labels (decide/endpoints/failover.py). With one endpoint there is no order, and a DestinationRule
that could eject it would only do harm: an active/standby Service has none.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any
from zlib import crc32

from hotswitch.backends import (
    Backend,
    Locality,
    Published,
    Role,
    ServiceId,
    ServiceMode,
    ServicePort,
    ServiceRecord,
    Staleness,
)
from hotswitch.decide.endpoints import failover
from hotswitch.endpoints.orders import orders
from hotswitch.endpoints.slicing import GENERATION, MANAGER
from hotswitch.model import Level

SUFFIX = "hotswitch.internal"  # reserved for private use, like the whole of .internal
MANAGED_BY = "endpoints.hotswitch.io/managed-by"
TLS_MODE = "security.istio.io/tlsMode"
REGION = "topology.kubernetes.io/region"
AT_MOST = 1000  # endpoints; an object of the API may have about 1.5 MB, and one host in several objects is not defined
PROTOCOLS = {
    "http": "HTTP", "http2": "HTTP2", "kubernetes.io/h2c": "HTTP2", "grpc": "GRPC", "https": "HTTPS", "tls": "TLS",
    "mongo": "MONGO", "tcp": "TCP",
}  # fmt: skip
"""By the appProtocol of a port, else by the beginning of its name, as Istio reads Services."""
OUTLIERS = {
    "consecutiveGatewayErrors": 5, "consecutive5xxErrors": 0, "interval": "1s", "baseEjectionTime": "10s",
    "maxEjectionPercent": 100,
}  # fmt: skip
"""Without it istiod applies no order at all. What the app itself answers ejects nobody: whether it is well, hotswitch
has asked."""
Object = dict[str, Any]


class Unsaid(ValueError):
    """It cannot be said in Istio's words; the message says why."""


def host(service: ServiceRecord) -> str:
    return f"{service.id.name}.{service.id.namespace}.{SUFFIX}"


def name(service: ServiceRecord) -> str:
    """Of both objects."""
    return f"{service.id.name}-hotswitch"


def service_entry(published: Published) -> Object:
    """Without version and uid. Raises Unsaid."""
    service = published.service
    ports = [(port, _port_name(port)) for port in service.ports if port.protocol == "TCP"]
    if not ports:
        raise Unsaid("none of its ports is a TCP port, and Istio knows no others")
    said = _endpoint(service, ports)
    able = [(each, content) for each in _serving(published) if (content := said(each)) is not None]
    told = able if len(able) <= AT_MOST else _told(able)
    endpoints = [content for _, content in told]
    return {
        "metadata": _metadata(published),
        "spec": {
            "hosts": [host(service)],
            "location": "MESH_INTERNAL",
            "resolution": "STATIC",
            "ports": [{"number": port.port, "name": named, "protocol": _protocol(port)} for port, named in ports],
            "endpoints": _weighted(endpoints),
        },
    }


def destination_rule(published: Published) -> Object | None:
    """None: there is nothing to be ordered. Raises InvalidValue, ValueError when the order cannot be said."""
    service = published.service
    if service.mode is ServiceMode.ACTIVE_STANDBY:
        return None
    order = orders(service.mode, service.annotations).own
    local = {"enabled": True, "failoverPriority": list(failover.labels(order))}
    policy = {"loadBalancer": {"localityLbSetting": local}, "outlierDetection": dict(OUTLIERS)}
    return {"metadata": _metadata(published), "spec": {"host": host(service), "trafficPolicy": policy}}


def left_out(published: Published) -> int:
    """How many may serve and are not told of."""
    return max(0, sum(1 for _ in _serving(published)) - AT_MOST)


def _told(able: list[tuple[Backend, Object]]) -> list[tuple[Backend, Object]]:
    """Of too many those of the mesh's own cluster, and of these always the same ones, from all places alike: who comes
    or goes changes one of them at most."""
    chosen = {backend.id for backend, _ in sorted(able, key=lambda each: _rank(each[0]))[:AT_MOST]}
    return [each for each in able if each[0].id in chosen]


def _rank(backend: Backend) -> tuple[bool, int, str]:
    return bool(backend.locality.cluster), crc32(backend.pod.uid.encode()), backend.pod.uid


def _serving(published: Published) -> Iterator[Backend]:
    return (each.backend for each in published.endpoints if each.conditions.ready and each.backend.role != Role.STANDBY)


def _metadata(published: Published) -> Object:
    """With the Service they go, and do not hold it up (slicing.py says why)."""
    service = published.service
    owner = {"apiVersion": "v1", "kind": "Service", "name": service.id.name, "uid": service.uid}
    return {
        "name": name(service),
        "namespace": service.id.namespace,
        "labels": {MANAGED_BY: MANAGER},
        "annotations": {GENERATION: str(published.generation)},
        "ownerReferences": [{**owner, "controller": True}],
    }


def _port_name(port: ServicePort) -> str:
    """A port without a name is the only one of its Service; Istio wants one."""
    return port.name or f"{_protocol(port).lower()}-{port.port}"


def _protocol(port: ServicePort) -> str:
    word = port.app_protocol.lower() or port.name.partition("-")[0]
    return PROTOCOLS.get(word, "TCP")


class _endpoint:
    """One backend as a WorkloadEntry's spec; None: it lacks an address of the Service's first family that it has, or a
    port, which istiod would replace by one that it does not listen on."""

    def __init__(self, service: ServiceRecord, ports: list[tuple[ServicePort, str]]) -> None:
        self._service, self._ports = service, ports

    def __call__(self, backend: Backend) -> Object | None:
        address = next((found for family in self._service.families if (found := backend.address(family))), None)
        known = {each.name: each.port for each in backend.ports if each.protocol == "TCP"}
        if address is None or not all(port.name in known for port, _ in self._ports):
            return None
        content: Object = {
            "address": address,
            "ports": {named: known[port.name] for port, named in self._ports},
            "labels": _labels(backend),
        }
        place = backend.locality
        content |= {"locality": "/".join(each for each in (place.region, place.zone) if each)} if place.region else {}
        content |= {"network": place.network} if place.network else {}
        content |= {"weight": backend.weight}
        account = backend.spiffe.rpartition("/sa/")[2]
        return content | ({"serviceAccount": account} if account else {})


def _labels(backend: Backend) -> dict[str, str]:
    place, is_meshed = backend.locality, backend.proxied and backend.inbound is not Level.DIRECT
    found = {
        TLS_MODE: "istio" if is_meshed else "disabled",
        failover.HEARD.partition("=")[0]: "no" if backend.staleness is Staleness.STALE else "yes",
        failover.HOME.partition("=")[0]: "no" if place.cluster else "yes",
    }
    return found | _places(place)


def _places(place: Locality) -> dict[str, str]:
    every = {failover.HOST: place.node, failover.ZONE: place.zone, REGION: place.region}
    return {label: text for label, text in every.items() if text}


def _weighted(endpoints: list[Object]) -> list[Object]:
    """Nobody's weight is said when all are equal."""
    if len({each["weight"] for each in endpoints}) > 1:
        return endpoints
    return [{key: value for key, value in each.items() if key != "weight"} for each in endpoints]


def differs(wanted: Mapping[str, Any], known: Mapping[str, Any]) -> bool:
    """In anything that is ours to say. The annotation alone is no reason to write."""
    metadata = known.get("metadata") or {}
    return (
        known.get("spec") != wanted["spec"]
        or (metadata.get("labels") or {}).get(MANAGED_BY) != MANAGER
        or metadata.get("ownerReferences") != wanted["metadata"]["ownerReferences"]
    )


def is_ours(content: Mapping[str, Any]) -> bool:
    return ((content.get("metadata") or {}).get("labels") or {}).get(MANAGED_BY) == MANAGER


def belongs(content: Mapping[str, Any], service: ServiceRecord) -> bool:
    """To this very Service, not to one that had its name before."""
    return any(each.get("uid") == service.uid for each in content["metadata"].get("ownerReferences") or ())


def service_of(content: Mapping[str, Any]) -> ServiceId | None:
    metadata = content["metadata"]
    owners = [each["name"] for each in metadata.get("ownerReferences") or () if each.get("kind") == "Service"]
    return ServiceId(metadata["namespace"], owners[0]) if owners else None
