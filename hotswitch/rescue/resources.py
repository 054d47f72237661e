"""From a pod to the bytes that go over xDS: encoded once for each shape of pod (template.py), spliced into responses.

Adding one pod to 250 costs the encoding of one pod at most. Each resource can be had as the bytes of one entry of
`DeltaDiscoveryResponse.resources`; repeated fields of a protobuf message may simply be joined. Kept is what they are
made of, in microseconds: the template and the identity, which are there anyway. A resource's version is
a digest of its content, so that a new agent and an old Envoy agree on what is the same; a secret's version is its end
and a digest of its public part, never of the key.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from functools import partial

from hotswitch import protowire
from hotswitch.rescue import wire
from hotswitch.rescue.identity import Identity
from hotswitch.rescue.pod import IDENTITY, ROOTS, RescuePod
from hotswitch.rescue.template import Filled, filled


class Kind(StrEnum):
    """What the rescue Envoy is sent, by type URL, in the order in which a new pod's resources go out."""

    CLUSTER = "type.googleapis.com/envoy.config.cluster.v3.Cluster"
    LISTENER = "type.googleapis.com/envoy.config.listener.v3.Listener"
    SECRET = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret"


@dataclass(frozen=True, slots=True)
class Encoded:
    """One resource. `message` makes its encoding; that of a secret holds the key, so it is never shown."""

    kind: Kind
    name: str
    version: str
    message: Callable[[], bytes] = field(repr=False)

    @property
    def wire(self) -> bytes:
        """Ready to be joined into a response."""
        packed = protowire.text(1, self.kind) + protowire.message(2, self.message())  # google.protobuf.Any
        resource = protowire.text(3, self.name) + protowire.text(1, self.version) + protowire.message(2, packed)
        return protowire.message(2, resource)


@dataclass(frozen=True, slots=True)
class PodResources:
    """All that Envoy is to know of one pod, by kind and name."""

    clusters: Mapping[str, Encoded] = field(default_factory=dict)
    listeners: Mapping[str, Encoded] = field(default_factory=dict)
    secrets: Mapping[str, Encoded] = field(default_factory=dict)

    def of(self, kind: Kind) -> Mapping[str, Encoded]:
        match kind:
            case Kind.CLUSTER:
                return self.clusters
            case Kind.LISTENER:
                return self.listeners
            case Kind.SECRET:
                return self.secrets


NOTHING = PodResources()


def encode_pod(pod: RescuePod, identity: Identity | None, generation: int = 0) -> PodResources:
    """Everything of a pod; `generation`: see `listeners`. a new shape of pod takes about 40 ms of CPU, in a child."""
    needed = identity if pod.needs_identity else None
    clusters, listeners = filled(pod, generation)
    return PodResources(
        clusters=_all(Kind.CLUSTER, clusters, generation),
        listeners=_all(Kind.LISTENER, listeners, generation),
        secrets=encode_secrets(pod, needed) if needed is not None else {},
    )


def encode_secrets(pod: RescuePod, identity: Identity) -> dict[str, Encoded]:
    own, roots = pod.name(IDENTITY), pod.name(ROOTS)
    version = f"{identity.not_after_unix_s:.0f}-{_digest(identity.chain_pem)}"
    return {
        own: Encoded(Kind.SECRET, own, version, partial(_pair, own, identity)),
        roots: Encoded(Kind.SECRET, roots, _digest(identity.roots_pem), partial(wire.roots, roots, identity.roots_pem)),
    }


def _pair(name: str, identity: Identity) -> bytes:
    return wire.pair(name, identity.chain_pem, identity.key.reveal())


def end_of(secret_version: str) -> float:
    """When the identity of that version ends (unix seconds). Raises ValueError for a version that is not ours."""
    return float(secret_version.partition("-")[0])


def generation_of(listener_version: str) -> int:
    """Which generation a listener of that version has; 0 when it is not known."""
    generation, dash, _ = listener_version.partition("-")
    return int(generation) if dash and generation.isdigit() else 0


def _all(kind: Kind, named: Iterable[tuple[str, Filled]], generation: int) -> dict[str, Encoded]:
    prefix = f"{generation}-" if kind is Kind.LISTENER else ""
    return {name: Encoded(kind, name, prefix + _digest(message()), message) for name, message in named}


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]
