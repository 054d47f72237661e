"""The few discovery messages and secrets that the agent itself writes and reads, in protobuf's wire format. Pure.

The library for Envoy's messages is 7 MB of every agent, and all that is said here is names, versions and PEM texts. The
layouts are checked against the library in the tests. Field numbers: envoy/service/discovery/v3/discovery.proto,
envoy/extensions/transport_sockets/tls/v3/secret.proto and common.proto, envoy/config/core/v3, google/rpc/status.proto.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from hotswitch.protowire import every, first, message, string, text

_INLINE_BYTES, _INLINE_STRING = 2, 3  # of a DataSource


# ---- secrets ----


@dataclass(frozen=True, slots=True)
class Secret:
    """A pair of texts, or roots; None where it is of another kind, empty where there is no text. Never shown."""

    name: str
    chain_pem: bytes | None = field(default=None, repr=False)
    key_pem: bytes | None = field(default=None, repr=False)
    roots_pem: bytes | None = field(default=None, repr=False)


def pair(name: str, chain_pem: bytes, key_pem: bytes) -> bytes:
    """A Secret with a TlsCertificate."""
    return text(1, name) + message(2, message(1, _source(chain_pem)) + message(2, _source(key_pem)))


def roots(name: str, roots_pem: bytes) -> bytes:
    """A Secret with a CertificateValidationContext."""
    return text(1, name) + message(4, message(1, _source(roots_pem)))


def secret(data: bytes) -> Secret:
    """Raises Malformed."""
    certificate, trust = next(every(data, 2), None), next(every(data, 4), None)
    return Secret(
        string(first(data, 1)),
        chain_pem=None if certificate is None else _inline(first(certificate, 1)),
        key_pem=None if certificate is None else _inline(first(certificate, 2)),
        roots_pem=None if trust is None else _inline(first(trust, 1)),
    )


def _source(content: bytes) -> bytes:
    return message(_INLINE_BYTES, content)


def _inline(source: bytes) -> bytes:
    """pilot-agent sends the texts themselves; a file name or a key provider is of no use in another process."""
    return first(source, _INLINE_BYTES) or first(source, _INLINE_STRING)


# ---- asking a workload socket ----


def discovery_request(node: str, kind: str, name: str) -> bytes:
    """DiscoveryRequest for one resource."""
    return message(2, text(1, node)) + text(3, name) + text(4, kind)


def discovered(data: bytes) -> list[bytes]:
    """The resources of a DiscoveryResponse. Raises Malformed."""
    return [first(packed, 2) for packed in every(data, 2)]


# ---- telling Envoy ----


@dataclass(frozen=True, slots=True)
class DeltaRequest:
    """What Envoy says: `held`, names and versions, in its first request of a kind; `refusal`: why it refused what was
    sent with that nonce; None: it has not."""

    kind: str
    subscribe: tuple[str, ...] = ()
    unsubscribe: tuple[str, ...] = ()
    held: Mapping[str, str] = field(default_factory=dict)
    nonce: str = ""
    refusal: str | None = None


def delta_request(data: bytes) -> DeltaRequest:
    """Raises Malformed."""
    refusals = [string(first(status, 2)) for status in every(data, 7)]
    return DeltaRequest(
        kind=string(first(data, 2)),
        subscribe=tuple(map(string, every(data, 3))),
        unsubscribe=tuple(map(string, every(data, 4))),
        held={string(first(each, 1)): string(first(each, 2)) for each in every(data, 5)},
        nonce=string(first(data, 6)),
        refusal=refusals[0] if refusals else None,
    )


def delta_response(kind: str, nonce: str, removed: Iterable[str], resources: Iterable[bytes]) -> bytes:
    """DeltaDiscoveryResponse; `resources`: each an entry of that field, encoded whole."""
    gone = b"".join(message(6, name.encode()) for name in removed)
    return text(4, kind) + text(5, nonce) + gone + b"".join(resources)
