"""Meshes as people write them (YAML), and the pod that they are asked about: `web-0` of namespace `shop`."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import yaml

from hotswitch.config.meshread import read_mesh
from hotswitch.decide.preflight import Code, Preflight, Verdict, preflight
from hotswitch.mesh import AppPort, MeshConfig, MeshPod, MeshView
from hotswitch.mesh.pod import TRUSTS_HEADERS
from hotswitch.model import OPEN_LEVELS, Direction, Level, Port

IN, OUT = Direction.INBOUND, Direction.OUTBOUND
RESCUE, DIRECT, HOLD = Level.RESCUE, Level.DIRECT, Level.HOLD

WEB = MeshPod(
    name="web-0",
    namespace="shop",
    workload="deploy/web",
    labels={"app": "web", "version": "v1", "security.istio.io/tlsMode": "istio"},
    annotations={TRUSTS_HEADERS: "false"},
    ports=(AppPort(8080, "http"), AppPort(9090, "grpc")),
    tls_mode="istio",
    revision="default",
)
SERVICE = """
apiVersion: v1
kind: Service
metadata: {name: web, namespace: shop}
spec:
  clusterIP: 10.96.4.17
  selector: {app: web}
  ports:
  - {name: http, port: 80, targetPort: http}
  - {name: grpc, port: 9090}
"""


def objects(text: str) -> list[dict[str, Any]]:
    """As JSON gives them: keys are texts."""
    return [json.loads(json.dumps(found)) for found in yaml.safe_load_all(text) if found]


def mesh(text: str = "", *, service: str = SERVICE, unread: tuple[str, ...] = (), **config: Any) -> MeshView:
    return read_mesh([*objects(service), *objects(text)], MeshConfig(**config), unread)


def ask(text: str = "", *, pod: MeshPod = WEB, accepted: tuple[str, ...] = (), **config: Any) -> Preflight:
    return preflight(mesh(text, **config), pod, frozenset(accepted))


def codes(found: Preflight, verdict: Verdict = Verdict.REFUSE) -> set[Code]:
    return {finding.code for finding in found.findings if finding.verdict is verdict}


def allowed(found: Preflight) -> set[tuple[Direction, Level]]:
    return {(way, level) for way in Direction for level in OPEN_LEVELS if found.allows(way, level)}


ALL = {(way, level) for way in Direction for level in OPEN_LEVELS}


def allowed_ports(found: Preflight) -> set[tuple[Direction, Level, Port]]:
    """Everything that may be opened, port by port; port 1 stands for those nobody declared."""
    ports = {1, *found.ports}
    return {
        (way, level, port)
        for way in Direction
        for level in OPEN_LEVELS
        if all(finding.port is not None for finding in found.refusals(way, level))
        for port in ports - found.closed_ports(way, level)
    }


def with_annotation(key: str, value: str) -> MeshPod:
    return replace(WEB, annotations={**WEB.annotations, key: value})
