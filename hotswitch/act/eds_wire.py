"""The few fields of endpoint discovery that the check asks with and looks at, in protobuf's wire format. Pure.

The library for these messages takes 50 MB of memory and 0.1 s for a thousand endpoints; a controller asks seldom and
for five strings. Unknown fields are passed over, as protobuf wants it. The layout is checked against the library in the
tests. Field numbers: envoy/service/discovery/v3/discovery.proto, envoy/config/endpoint/v3, envoy/config/core/v3.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
_WIDTHS = {FIXED64: 8, FIXED32: 4}
MATCH, TLS_MODE = "envoy.transport_socket_match", "tlsMode"


class Malformed(ValueError):
    """No message in protobuf's wire format."""


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
    fields = b"".join(_message(1, _text(1, name) + _message(2, _text(3, text))) for name, text in metadata.items())
    return _text(1, identity) + _message(3, fields)


def request(kind: str, names: tuple[str, ...], *, node: bytes = b"", version: str = "", nonce: str = "") -> bytes:
    """DiscoveryRequest; with `nonce`, the word that its answer was taken."""
    asked = b"".join(_text(3, name) for name in names)
    first = _message(2, node) if node else b""
    return _text(1, version) + first + asked + _text(4, kind) + _text(5, nonce)


def _text(number: int, text: str) -> bytes:
    return _message(number, text.encode()) if text else b""


def _message(number: int, content: bytes) -> bytes:
    return _varint(number << 3 | BYTES) + _varint(len(content)) + content


def _varint(value: int) -> bytes:
    parts = bytearray()
    while value > 0x7F:
        parts.append(value & 0x7F | 0x80)
        value >>= 7
    parts.append(value)
    return bytes(parts)


# ---- reading ----


def answer(data: bytes) -> Answer:
    """DiscoveryResponse with ClusterLoadAssignments. Raises Malformed."""
    resources = [_first(content, 2) for content in _all(data, 2)]  # each is an Any
    return Answer(_string(_first(data, 1)), _string(_first(data, 5)), dict(map(_assignment, resources)))


def _assignment(data: bytes) -> tuple[str, tuple[Endpoint, ...]]:
    found = (_endpoint(each) for group in _all(data, 2) for each in _all(group, 2))
    return _string(_first(data, 1)), tuple(found)


def _endpoint(data: bytes) -> Endpoint:
    endpoint = _first(data, 1)
    own = [_first(endpoint, 1), *(_first(more, 1) for more in _all(endpoint, 4))]
    addresses = tuple(_string(_first(_first(each, 1), 2)) for each in own if each)
    return Endpoint(addresses, _value(_entry(_first(data, 3), MATCH), TLS_MODE))


def _value(struct: bytes, name: str) -> str:
    return _string(_first(_entry(struct, name), 3))


def _entry(holder: bytes, name: str) -> bytes:
    """The value of that key in field 1, a map; empty when it is not there."""
    found = (_first(entry, 2) for entry in _all(holder, 1) if _first(entry, 1) == name.encode())
    return next(found, b"")


def _string(data: bytes) -> str:
    return data.decode("utf-8", "replace")


def _first(data: bytes, number: int) -> bytes:
    return next(_all(data, number), b"")


def _all(data: bytes, number: int) -> Iterator[bytes]:
    return (content for found, content in _fields(data) if found == number)


def _fields(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Fields that have a length; others are passed over."""
    at = 0
    while at < len(data):
        key, at = _read_varint(data, at)
        number, kind = key >> 3, key & 7
        if kind == BYTES:
            length, at = _read_varint(data, at)
            if at + length > len(data):
                raise Malformed(f"field {number} ends after its message")
            yield number, data[at : at + length]
            at += length
        elif kind == VARINT:
            _, at = _read_varint(data, at)
        elif kind in _WIDTHS:
            at += _WIDTHS[kind]
        else:
            raise Malformed(f"field {number} is of kind {kind}")


def _read_varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while at < len(data) and shift < 64:
        byte, at = data[at], at + 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
    raise Malformed("a number without an end")
