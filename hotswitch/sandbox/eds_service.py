"""A Service as publishers are told of it, made by hand: for tests and measurements of what comes after the decision."""

from __future__ import annotations

from collections.abc import Iterable
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
from hotswitch.model import PodRef, PodUid
from hotswitch.sandbox.app import GRPC_PORT, HTTP_PORT

SERVICE, NOWHERE = ServiceId("shop", "db"), Locality()
HTTP_NAME, GRPC_NAME = f"db.shop:{HTTP_PORT}", f"db.shop:{GRPC_PORT}"
PORTS = (
    ServicePort("http", HTTP_PORT, HTTP_PORT),
    ServicePort("grpc", GRPC_PORT, GRPC_PORT, app_protocol="grpc"),
)


def record(
    mode: ServiceMode = ServiceMode.NEAREST, service: ServiceId = SERVICE, **annotations: str
) -> ServiceRecord:  # fmt: skip
    """Annotations without their prefix."""
    said = {f"endpoints.hotswitch.io/{name}": value for name, value in annotations.items()}
    return ServiceRecord(service, "service-uid", mode, PORTS, annotations=said)


def backend(
    name: str, address: str, locality: Locality = NOWHERE, service: ServiceId = SERVICE, **fields: Any
) -> Backend:  # fmt: skip
    ports = tuple(BackendPort(each.name, each.port) for each in PORTS)
    pod = PodRef(name, service.namespace, PodUid(f"uid-{service.name}-{name}"))
    return Backend(service=service, pod=pod, addresses=(address,), ports=ports, locality=locality, **fields)


def published(service: ServiceRecord, backends: Iterable[Backend], down: Iterable[str] = ()) -> Published:
    """All of them ready but those whose names are `down`."""
    gone = set(down)
    told = (PublishedEndpoint(each, _conditions(each.pod.name not in gone)) for each in backends)
    return Published(service, tuple(told))


def _conditions(ready: bool) -> Conditions:
    return Conditions(ready, ready, terminating=False)
