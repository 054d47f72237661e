"""One pod as the mesh sees it: which policies select it, what its proxy is set to do, what its app listens on (I2)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from hotswitch.model import Port

TRUSTS_HEADERS = "hotswitch.io/trusts-proxy-headers"
"""Annotation by which a workload says whether its app trusts headers that only its proxy may set (XFCC, JWT claims)."""


@dataclass(frozen=True, slots=True)
class AppPort:
    """A TCP port that a container of the app declares."""

    number: Port
    name: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class MeshPod:
    """`workload`: the owner, e.g. "deploy/web". `interception`: REDIRECT, TPROXY or NONE. `tls_mode`: the value of
    label security.istio.io/tlsMode, "" without it. `revision`: of the istiod that injected the proxy, "" if not known.
    `local_only`: the proxy reaches the app by 127.0.0.1 (inboundTrafficPolicy LOCALHOST), None: as the mesh says.
    `doubts`: what of the pod was not understood."""

    name: str
    namespace: str
    workload: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    annotations: Mapping[str, str] = field(default_factory=dict)
    ports: tuple[AppPort, ...] = ()
    sidecar: bool = True
    native: bool = False  # the sidecar is an init container that keeps running
    gateway: bool = False
    ambient: bool = False
    interception: str = "REDIRECT"
    host_network: bool = False
    envoy_disabled: bool = False
    hbone: bool = False
    dns_capture: bool = False
    local_only: bool | None = None
    tls_mode: str = ""
    network: str = ""
    revision: str = ""
    proxy_version: str = ""
    probes_rewritten: bool = False
    doubts: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"
