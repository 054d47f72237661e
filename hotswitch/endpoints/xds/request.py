"""What a client says on an xDS stream, read from the wire: state of the world and incremental. Pure.

Field numbers: envoy/service/discovery/v3/discovery.proto, envoy/config/core/v3/base.proto, google/rpc/status.proto.
Of the node only what tells who is asking is kept; a sidecar says some kilobytes more.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from hotswitch.protowire import every, first, string

LONGEST = 512  # characters of a word that a client says of itself; the rest of it is not kept
METADATA = frozenset(
    {"pod", "pod_ip", "node", "zone", "region", "cluster"}
    | {"NAMESPACE", "NAME", "INSTANCE_IPS", "NODE_NAME", "CLUSTER_ID"}  # Istio's sidecars
)


@dataclass(frozen=True, slots=True)
class Node:
    """Who asks, by its own word. `metadata`: texts of METADATA only."""

    id: str = ""
    cluster: str = ""
    region: str = ""
    zone: str = ""
    metadata: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Request:
    """`node` is there in a stream's first request only. `error`: why the answer of that nonce was refused.

    State of the world: `names` are all that is subscribed to. Incremental: `names` come in addition, `dropped` are
    given up, `held` is what the client has from an earlier stream, by version."""

    kind: str
    nonce: str = ""
    names: tuple[str, ...] = ()
    error: str | None = None
    node: Node | None = None
    dropped: tuple[str, ...] = ()
    held: Mapping[str, str] = field(default_factory=dict)


def state_of_the_world(data: bytes) -> Request:
    """DiscoveryRequest. Raises Malformed."""
    return Request(
        kind=string(first(data, 4)),
        nonce=string(first(data, 5)),
        names=_texts(data, 3),
        error=_error(data, 6),
        node=node_of(data, 2),
    )


def incremental(data: bytes) -> Request:
    """DeltaDiscoveryRequest. Raises Malformed."""
    return Request(
        kind=string(first(data, 2)),
        nonce=string(first(data, 6)),
        names=_texts(data, 3),
        error=_error(data, 7),
        node=node_of(data, 1),
        dropped=_texts(data, 4),
        held={string(first(each, 1)): string(first(each, 2)) for each in every(data, 5)},
    )


def _texts(data: bytes, number: int) -> tuple[str, ...]:
    return tuple(string(each) for each in every(data, number))


def _error(data: bytes, number: int) -> str | None:
    status = next(every(data, number), None)
    return None if status is None else string(first(status, 2))


def node_of(data: bytes, number: int) -> Node | None:
    node = next(every(data, number), None)
    if node is None:
        return None
    locality = first(node, 4)
    return Node(
        id=_word(first(node, 1)),
        cluster=_word(first(node, 2)),
        region=_word(first(locality, 1)),
        zone=_word(first(locality, 2)),
        metadata=_struct_texts(first(node, 3)),
    )


def _struct_texts(struct: bytes) -> dict[str, str]:
    """The text fields of a google.protobuf.Struct that say who asks, without those of structs inside."""
    pairs = ((string(first(each, 1)), next(every(first(each, 2), 3), None)) for each in every(struct, 1))
    return {name: _word(value) for name, value in pairs if value is not None and name in METADATA}


def _word(data: bytes) -> str:
    return string(data)[:LONGEST]
