"""From a pod to the bytes that go over xDS: encoded once (template.py), kept, and spliced into responses.

Adding one pod to 250 costs the encoding of one pod at most. Each resource is kept as the bytes of one entry of
`DeltaDiscoveryResponse.resources`; repeated fields of a protobuf message may simply be joined. A resource's version is
a digest of its content, so that a new agent and an old Envoy agree on what is the same; a secret's version is its end
and a digest of its public part, never of the key.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from hotswitch import protowire
from hotswitch.rescue import wire
from hotswitch.rescue.identity import Identity
from hotswitch.rescue.pod import IDENTITY, ROOTS, RescuePod
from hotswitch.rescue.template import messages


class Kind(StrEnum):
    """What the rescue Envoy is sent, by type URL, in the order in which a new pod's resources go out."""

    CLUSTER = "type.googleapis.com/envoy.config.cluster.v3.Cluster"
    LISTENER = "type.googleapis.com/envoy.config.listener.v3.Listener"
    SECRET = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret"


@dataclass(frozen=True, slots=True)
class Encoded:
    """One resource, ready to be joined into a response. `wire` of a secret holds the key, so it is never shown."""

    name: str
    version: str
    wire: bytes = field(repr=False)


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
    encoded = messages(pod, generation)
    return PodResources(
        clusters=_all(Kind.CLUSTER, encoded.clusters, generation),
        listeners=_all(Kind.LISTENER, encoded.listeners, generation),
        secrets=encode_secrets(pod, needed) if needed is not None else {},
    )


def encode_secrets(pod: RescuePod, identity: Identity) -> dict[str, Encoded]:
    own, roots = pod.name(IDENTITY), pod.name(ROOTS)
    version = f"{identity.not_after_unix_s:.0f}-{_digest(identity.chain_pem)}"
    pair = wire.pair(own, identity.chain_pem, identity.key.reveal())
    trust = wire.roots(roots, identity.roots_pem)
    return {
        own: _encoded(Kind.SECRET, own, pair, version),
        roots: _encoded(Kind.SECRET, roots, trust, _digest(identity.roots_pem)),
    }


def end_of(secret_version: str) -> float:
    """When the identity of that version ends (unix seconds). Raises ValueError for a version that is not ours."""
    return float(secret_version.partition("-")[0])


def generation_of(listener_version: str) -> int:
    """Which generation a listener of that version has; 0 when it is not known."""
    generation, dash, _ = listener_version.partition("-")
    return int(generation) if dash and generation.isdigit() else 0


def _all(kind: Kind, named: Iterable[tuple[str, bytes]], generation: int) -> dict[str, Encoded]:
    prefix = f"{generation}-" if kind is Kind.LISTENER else ""
    return {name: _encoded(kind, name, message, prefix + _digest(message)) for name, message in named}


def _encoded(kind: Kind, name: str, message: bytes, version: str) -> Encoded:
    packed = protowire.text(1, kind) + protowire.message(2, message)  # google.protobuf.Any
    resource = protowire.text(3, name) + protowire.text(1, version) + protowire.message(2, packed)
    return Encoded(name, version, protowire.message(2, resource))


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]
