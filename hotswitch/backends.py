"""Who serves a Service, and how it is told: the values that endpoints/, decide/endpoints/ and every publisher speak.

The registry makes one `Backend` for each pod of a `ServiceRecord` (S2.2, S2.3); a policy turns a Service and its
backends into one `Published`, and publishers (EndpointSlice, EDS) write what it says and nothing else. No I/O, no
clock. Instants are seconds of one monotonic clock, durations seconds.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple

from hotswitch.model import Generation, Level, PodRef, PodUid, Port

HOME = ""
"""The name of the cluster that the controller itself lives in, unless it was given one."""


NO_GENERATION = Generation(0)


class ServiceId(NamedTuple):
    """The same in all clusters: a Service of one name in one namespace is one Service (S2.4)."""

    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"


class BackendId(NamedTuple):
    """Which pod of which cluster, beyond doubt."""

    cluster: str
    uid: PodUid


class ServiceMode(StrEnum):
    """Annotation endpoints.hotswitch.io/mode."""

    ALL = "all"  # every available backend serves, bypassed ones included
    ACTIVE_STANDBY = "active-standby"  # exactly one serves (S0.3)
    NEAREST = "nearest"  # as `all`, in an order that depends on who asks (S2.5)


class Output(StrEnum):
    """How data planes learn of a Service: annotation endpoints.hotswitch.io/output."""

    SLICES = "slices"  # EndpointSlices: kube-proxy, istiod
    XDS = "xds"  # hotswitch's own xDS: Envoy, gRPC
    ISTIO = "istio"  # ServiceEntry and DestinationRule


USUAL_OUTPUTS = frozenset({Output.SLICES, Output.XDS})


class Health(StrEnum):
    """What probing has come to (S0.2). UNKNOWN: not enough answers yet, or none asked for."""

    UNKNOWN = "unknown"
    AVAILABLE = "available"
    UNAVAILABLE = "unavailable"


class Role(StrEnum):
    NONE = "none"  # the Service's mode knows no roles
    ACTIVE = "active"
    STANDBY = "standby"


class Rotation(StrEnum):
    """Whether people, or a go-live (S3), want it to get requests."""

    IN = "in"
    DRAINING = "draining"  # no new flows; those that stand may end
    OUT = "out"


class Staleness(StrEnum):
    """How long a backend's cluster has not been heard of (S2.4, S2.7)."""

    FRESH = "fresh"
    STALE = "stale"  # kept, and put last
    LOST = "lost"  # kept in the registry, told to nobody


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterState:
    """How a cluster is heard of (S2.4). `staleness` None: it was never read. `age_s`: since it last answered while all
    that is asked of it was answered. `backends`: its own in the registry, by staleness."""

    name: str
    staleness: Staleness | None
    age_s: float
    problem: str
    backends: Mapping[Staleness, int]

    @property
    def word(self) -> str:
        """fresh, stale, lost or unread."""
        return "unread" if self.staleness is None else str(self.staleness)


@dataclass(frozen=True, slots=True)
class Locality:
    """Where a backend, or a caller, is (S2.5). `network`: an Istio network; "": the one of everybody."""

    cluster: str = HOME
    region: str = ""
    zone: str = ""
    node: str = ""
    network: str = ""


@dataclass(frozen=True, slots=True)
class ServicePort:
    """`target`: the backends' port, by number or by the name of a container's port."""

    name: str
    port: Port
    target: Port | str
    protocol: str = "TCP"
    app_protocol: str = ""
    node_port: Port | None = None


@dataclass(frozen=True, slots=True)
class BackendPort:
    """`port`: of the pod's own address; `host_port`: of its host's (a nodePort or a hostPort), None: there is none."""

    name: str  # as the Service names it
    port: Port
    host_port: Port | None = None
    protocol: str = "TCP"
    app_protocol: str = ""


class CheckKind(StrEnum):
    KUBELET = "kubelet"  # nothing of our own: the pod's Ready
    TCP = "tcp"
    HTTP = "http"
    GRPC = "grpc"  # grpc.health.v1


@dataclass(frozen=True, slots=True)
class Check:
    """How a backend is asked whether it is available (S0.1). `path`: of HTTP; the health service's argument of gRPC."""

    kind: CheckKind = CheckKind.KUBELET
    port: Port = 0
    path: str = ""
    period_s: float = 1.0
    timeout_s: float = 0.5
    rise: int = 1  # answers in a row that make it available
    fall: int = 3  # failures in a row that make it unavailable


@dataclass(frozen=True, slots=True)
class ActivityLease:
    """How long an active one may go on without hearing that it still is; None: it serves without being told (I7).
    `fences`: the ways by which the old one may be known to be fenced (gone, agent, lease)."""

    ttl_s: float | None = None
    fences: frozenset[str] = frozenset({"gone", "agent"})


@dataclass(frozen=True, slots=True)
class ServiceOptions:
    """What a Service's annotations say, validated."""

    check: Check = Check()
    preempt: bool = False  # a better standby replaces a well active
    lease: ActivityLease = ActivityLease()
    paused: bool = False  # nobody is promoted, whatever happens
    stale_after_s: float = 10.0  # a cluster not heard of for longer is stale
    lost_after_s: float = 60.0
    outputs: frozenset[Output] = USUAL_OUTPUTS


@dataclass(frozen=True, slots=True)
class ServiceRecord:
    """One Service that hotswitch publishes (S2.1). `families`: IPv4, IPv6, in the Service's order."""

    id: ServiceId
    uid: str
    mode: ServiceMode
    ports: tuple[ServicePort, ...] = ()
    selector: Mapping[str, str] = field(default_factory=dict)
    families: tuple[str, ...] = ("IPv4",)
    options: ServiceOptions = ServiceOptions()
    annotations: Mapping[str, str] = field(default_factory=dict)  # those of endpoints.hotswitch.io/, as written
    labels: Mapping[str, str] = field(default_factory=dict)
    headless: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Backend:
    """One pod of one Service: the registration record (S2.2, S2.3). `addresses`: the pod's, the first being the one
    that Services use; `host_addresses`: its node's."""

    service: ServiceId
    pod: PodRef
    addresses: tuple[str, ...]
    ports: tuple[BackendPort, ...]
    locality: Locality = Locality()
    host_addresses: tuple[str, ...] = ()
    spiffe: str = ""  # spiffe://<trust domain>/ns/<namespace>/sa/<account>
    kubelet_ready: bool = False
    app_ready: bool = False  # every container but the proxy is ready
    ended: bool = False  # every container has terminated, for good
    health: Health = Health.UNKNOWN  # by our own checks
    proxied: bool = False  # it has a sidecar
    proxy_ready: bool | None = None  # None: it has none, or nothing is known
    inbound: Level = Level.CAPTURE  # where hotswitch lets its inbound flows go
    terminating: bool = False
    rotation: Rotation = Rotation.IN
    staleness: Staleness = Staleness.FRESH
    role: Role = Role.NONE
    priority: int = 0  # among standbys the highest comes first
    weight: int = 1
    capacity: int | None = None  # requests at once that it bears; None: not said
    generation: Generation = NO_GENERATION  # in which it took its role

    @property
    def id(self) -> BackendId:
        return BackendId(self.locality.cluster, self.pod.uid)

    @property
    def bypassed(self) -> bool:
        """Its requests do not need its proxy now."""
        return self.inbound in (Level.RESCUE, Level.DIRECT)

    def address(self, family: str) -> str | None:
        """`family`: IPv4 or IPv6."""
        return next((each for each in self.addresses if (":" in each) == (family == "IPv6")), None)


@dataclass(frozen=True, slots=True)
class Conditions:
    """As in an EndpointSlice; always all three (facts: an unset `terminating` counts as true for istiod)."""

    ready: bool
    serving: bool
    terminating: bool


@dataclass(frozen=True, slots=True)
class PublishedEndpoint:
    """`priority` 0 is asked first; a publisher that knows the caller reckons it anew (S2.5)."""

    backend: Backend
    conditions: Conditions
    priority: int = 0


@dataclass(frozen=True, slots=True)
class Published:
    """What all data planes are to be told of one Service. `endpoints` are in a stable order. `generation`: of the
    active one (I7); 0 in other modes. `sentence`: why it is as it is. Standbys are among the endpoints, never ready."""

    service: ServiceRecord
    endpoints: tuple[PublishedEndpoint, ...] = ()
    generation: Generation = NO_GENERATION
    sentence: str = ""

    @property
    def ready(self) -> tuple[Backend, ...]:
        return tuple(each.backend for each in self.endpoints if each.conditions.ready)
