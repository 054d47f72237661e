"""The few fields of endpoint discovery that the check asks with and looks at, in protobuf's wire format. Pure.

A controller asks seldom and for five strings: that is not worth the library (protowire). The layout is checked against
the library in the tests. Field numbers: envoy/service/discovery/v3/discovery.proto, envoy/config/endpoint/v3,
envoy/config/core/v3.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from hotswitch.protowire import entry, every, first, message, string, text

MATCH, TLS_MODE = "envoy.transport_socket_match", "tlsMode"


@dataclass(frozen=True, slots=True)
class Endpoint:
    """`addresses`: its own, and those of other families. `tls_mode`: by which clients choose how to speak to it."""

    addresses: tuple[str, ...]
    tls_mode: str = ""


@dataclass(frozen=True, slots=True)
class Answer:
    """`clusters`: the endpoints of each cluster that the answer tells of."""

    version: str
    nonce: str
    clusters: Mapping[str, tuple[Endpoint, ...]]


# ---- asking ----


def node(identity: str, metadata: Mapping[str, str]) -> bytes:
    """envoy.config.core.v3.Node"""
    fields = b"".join(message(1, text(1, name) + message(2, text(3, value))) for name, value in metadata.items())
    return text(1, identity) + message(3, fields)


def request(kind: str, names: tuple[str, ...], *, node: bytes = b"", version: str = "", nonce: str = "") -> bytes:
    """DiscoveryRequest; with `nonce`, the word that its answer was taken."""
    asked = b"".join(text(3, name) for name in names)
    first_word = message(2, node) if node else b""
    return text(1, version) + first_word + asked + text(4, kind) + text(5, nonce)


# ---- reading ----


def answer(data: bytes) -> Answer:
    """DiscoveryResponse with ClusterLoadAssignments. Raises Malformed."""
    resources = [first(content, 2) for content in every(data, 2)]  # each is an Any
    return Answer(string(first(data, 1)), string(first(data, 5)), dict(map(_assignment, resources)))


def _assignment(data: bytes) -> tuple[str, tuple[Endpoint, ...]]:
    found = (_endpoint(each) for group in every(data, 2) for each in every(group, 2))
    return string(first(data, 1)), tuple(found)


def _endpoint(data: bytes) -> Endpoint:
    endpoint = first(data, 1)
    own = [first(endpoint, 1), *(first(more, 1) for more in every(endpoint, 4))]
    addresses = tuple(string(first(first(each, 1), 2)) for each in own if each)
    return Endpoint(addresses, _value(entry(first(data, 3), 1, MATCH), TLS_MODE))


def _value(struct: bytes, name: str) -> str:
    return string(first(entry(struct, 1, name), 3))
