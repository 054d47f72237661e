"""Istio's configuration as far as a bypass could break or give away what it says: frozen values, read by config/ (I2).

Only what the preflight asks for is kept. Whatever of an object was not understood is a `Doubt` beside it: it is never
left out in silence, because what is not known must count against a bypass, not for it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from hotswitch.model import Direction, Mtls, Port

Labels = Mapping[str, str]


@dataclass(frozen=True, slots=True, order=True)
class Ref:
    kind: str
    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.kind} {self.namespace}/{self.name}" if self.namespace else f"{self.kind} {self.name}"


@dataclass(frozen=True, kw_only=True)
class MeshObject:
    """`created`: RFC 3339 as the API server writes it, so it sorts as text. `selector` empty: every pod of the
    namespace. `elsewhere`: bound by targetRefs to a gateway or waypoint, so never to a sidecar. `revision`: only the
    istiod of that revision reads it; empty: each."""

    ref: Ref
    created: str = ""
    selector: Labels = field(default_factory=dict)
    elsewhere: bool = False
    revision: str = ""

    @property
    def namespace(self) -> str:
        return self.ref.namespace

    @property
    def age(self) -> tuple[str, str]:
        """Sorts the oldest first; what is equally old by name, as istiod does."""
        return self.created, f"{self.ref.name}.{self.ref.namespace}"


@dataclass(frozen=True, kw_only=True)
class PeerAuthentication(MeshObject):
    """`mode` None: UNSET, inherited. `ports`: by the container's port, where None inherits too."""

    mode: Mtls | None = None
    ports: Mapping[Port, Mtls | None] = field(default_factory=dict)


class Enforcement(StrEnum):
    NONE = "none"  # AUDIT, or a dry run
    CONNECTION = "connection"  # the rescue can keep it
    REQUEST = "request"  # needs what is inside of connections
    EXTERNAL = "external"  # CUSTOM: somebody else decides


@dataclass(frozen=True, kw_only=True)
class Authorization(MeshObject):
    """An AuthorizationPolicy. `manifest`: its metadata and spec, for whoever enforces it. `why`: what makes it more
    than a matter of connections. `spares_the_unnamed`: a client without identity passes where one with identity might
    not, so that traffic past the client's own proxy escapes it."""

    action: str = "ALLOW"
    enforcement: Enforcement = Enforcement.CONNECTION
    why: str = ""
    manifest: Mapping[str, Any] = field(default_factory=dict)
    spares_the_unnamed: bool = False


@dataclass(frozen=True, kw_only=True)
class RequestAuthentication(MeshObject):
    pass


@dataclass(frozen=True, kw_only=True)
class Extension(MeshObject):
    """An EnvoyFilter, WasmPlugin or TrafficExtension. `telemetry`: it only inserts Istio's own statistics filter."""

    directions: frozenset[Direction] = frozenset(Direction)
    telemetry: bool = False


class ClientTls(StrEnum):
    DISABLE = "DISABLE"
    SIMPLE = "SIMPLE"
    MUTUAL = "MUTUAL"
    ISTIO_MUTUAL = "ISTIO_MUTUAL"


@dataclass(frozen=True, slots=True)
class TlsUse:
    """How clients of a host open connections; `port` is the Service's, None for all; `subset` "" for all."""

    mode: ClientTls
    port: Port | None = None
    subset: str = ""


@dataclass(frozen=True, kw_only=True)
class DestinationRule(MeshObject):
    """`host` is complete or begins with "*". `selector` means clients here. `export_to` empty: everywhere."""

    host: str
    uses: tuple[TlsUse, ...] = ()
    export_to: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Ingress:
    """A listener of a Sidecar. `endpoint`: where the proxy leads its connections, "" for the same port of the pod's
    own address."""

    port: Port
    endpoint: str = ""
    tls: bool = False  # the proxy ends TLS there


@dataclass(frozen=True, kw_only=True)
class Sidecar(MeshObject):
    """`registry_only` None: as the mesh says. `egress_proxy`: unknown hosts are sent to that host."""

    ingress: tuple[Ingress, ...] = ()
    registry_only: bool | None = None
    egress_proxy: str = ""


@dataclass(frozen=True, kw_only=True)
class ServiceEntry(MeshObject):
    """`selector`: of the pods that are its endpoints. `ordinary`: its hosts are what ordinary DNS says they are, else
    only the mesh knows where they lead. `addressed`: it gives addresses itself, so that the proxy's DNS makes up none.
    """

    hosts: tuple[str, ...] = ()
    ordinary: bool = True
    addressed: bool = True
    export_to: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ServicePort:
    """`target`: a number, or the name of a container's port."""

    port: Port
    target: Port | str
    name: str = ""
    tcp: bool = True


@dataclass(frozen=True, kw_only=True)
class Service(MeshObject):
    """`selector` empty: its endpoints are made by somebody else, so no pod is known to belong to it."""

    ports: tuple[ServicePort, ...] = ()
    headless: bool = False


@dataclass(frozen=True, kw_only=True)
class Route(MeshObject):
    """A VirtualService, or a Gateway API route of a Service, which sidecars follow. `detours`: destinations that are
    not the hosts themselves nor beside them. Routes that only gateways follow are not kept."""

    hosts: tuple[str, ...] = ()
    detours: tuple[str, ...] = ()
    export_to: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Doubt:
    """Something of the mesh that was not understood. It concerns the pods of `namespace` that `selector` matches, or
    all pods where `everywhere`. `unknown_kind`: nothing is wrong with it, but hotswitch does not know its meaning."""

    ref: Ref
    why: str
    selector: Labels = field(default_factory=dict)
    everywhere: bool = False
    unknown_kind: bool = False
