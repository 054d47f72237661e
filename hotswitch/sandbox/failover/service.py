"""The Service of the stage, as a user writes it (docs/how-to/run-active-standby.md)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hotswitch.api import service as said
from hotswitch.backends import ServiceId
from hotswitch.sandbox.register import GRPC_PORT, HEALTH_PORT, PORT

SHOP, SERVICE = "shop", "db"
DB = ServiceId(SHOP, SERVICE)
QUICK_CHECK = {said.CHECK_PERIOD: "300ms", said.CHECK_TIMEOUT: "300ms", said.CHECK_FALL: "2"}


def service(*, ttl_s: int, family: str, grpc: bool, words: Mapping[str, str]) -> dict[str, Any]:
    annotations = {
        said.MODE: "active-standby",
        said.SELECTOR: "app=db",
        said.CHECK: f"http:{HEALTH_PORT}/healthz",
        said.ACTIVITY_LEASE: f"{ttl_s}s",
        **words,
    }
    ports = [_port("sql", PORT), *([{**_port("grpc", GRPC_PORT), "appProtocol": "grpc"}] if grpc else [])]
    return {
        "metadata": {"name": SERVICE, "annotations": annotations},
        "spec": {"ports": ports, "ipFamilies": [family]},
    }


def _port(name: str, port: int) -> dict[str, Any]:
    return {"name": name, "port": port, "targetPort": port, "protocol": "TCP"}
