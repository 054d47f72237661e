"""Services and backends for tests, with as little said as a test needs."""

from __future__ import annotations

from typing import Any

from hotswitch.backends import (
    Backend,
    BackendPort,
    Health,
    Locality,
    ServiceId,
    ServiceMode,
    ServiceOptions,
    ServicePort,
    ServiceRecord,
)
from hotswitch.model import PodRef, PodUid

SERVICE = ServiceId("shop", "db")


def service(
    mode: ServiceMode = ServiceMode.ACTIVE_STANDBY, options: ServiceOptions | None = None, **fields: Any
) -> ServiceRecord:
    return ServiceRecord(
        **{
            "id": SERVICE,
            "uid": "service-uid",
            "mode": mode,
            "ports": (ServicePort("sql", 5432, 5432),),
            "selector": {"app": "db"},
            "options": options or ServiceOptions(),
            **fields,
        }
    )


def backend(name: str, number: int = 1, *, cluster: str = "", well: bool = True, **fields: Any) -> Backend:
    return Backend(
        **{
            "service": SERVICE,
            "pod": PodRef(name, SERVICE.namespace, PodUid(f"uid-{name}")),
            "addresses": (f"10.0.{number >> 8}.{number & 255}", f"fd00::{number:x}"),
            "ports": (BackendPort("sql", 5432),),
            "locality": Locality(cluster=cluster, region="north", zone="north-1", node="node-a"),
            "kubelet_ready": well,
            "health": Health.AVAILABLE if well else Health.UNAVAILABLE,
            **fields,
        }
    )
