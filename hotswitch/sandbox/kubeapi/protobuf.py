"""The few bodies that kubectl sends as protobuf although everything else of it speaks JSON.

`kubectl create namespace`, `create serviceaccount`, `create configmap`, `create token`, `auth can-i` and `auth whoami`.
Field numbers are those of the generated.proto files of k8s.io/api (v1.34); what is not named here is skipped, another
kind is 415.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from hotswitch.sandbox.kubeapi.failure import ApiError, Obj

CONTENT_TYPE = "application/vnd.kubernetes.protobuf"
MAGIC = b"k8s\0"

Fields = dict[int, tuple[str, Any]]
"""By number: the JSON name, and what it holds: `str`, `int`, a list of one of them, MAP, or the fields of a message."""

MAP = "map of texts"
_META: Fields = {1: ("name", str), 2: ("generateName", str), 3: ("namespace", str), 11: ("labels", MAP)}
_META[12] = ("annotations", MAP)
_ATTRIBUTES: Fields = dict(
    enumerate(
        ((name, str) for name in ("namespace", "verb", "group", "version", "resource", "subresource", "name")), start=1
    )
)
_ACCESS: Fields = {
    1: ("resourceAttributes", _ATTRIBUTES),
    2: ("nonResourceAttributes", {1: ("path", str), 2: ("verb", str)}),
}
_ENVELOPE: Fields = {1: ("type", {1: ("apiVersion", str), 2: ("kind", str)}), 2: ("raw", bytes)}
_KINDS: dict[tuple[str, str], Fields] = {
    ("v1", "Namespace"): {1: ("metadata", _META)},
    ("v1", "ServiceAccount"): {1: ("metadata", _META)},
    ("v1", "ConfigMap"): {1: ("metadata", _META), 2: ("data", MAP)},
    ("authentication.k8s.io/v1", "SelfSubjectReview"): {1: ("metadata", _META)},
    ("authentication.k8s.io/v1", "TokenRequest"): {
        1: ("metadata", _META),
        2: ("spec", {1: ("audiences", [str]), 4: ("expirationSeconds", int)}),
    },
    ("authorization.k8s.io/v1", "SelfSubjectAccessReview"): {1: ("metadata", _META), 2: ("spec", _ACCESS)},
}


@dataclass(frozen=True, slots=True)
class _Field:
    number: int
    value: int | bytes


def read(body: bytes) -> Obj:
    """The object as JSON has it. Raises ApiError 415 for another kind, 400 for what is no such message."""
    if not body.startswith(MAGIC):
        raise ApiError(400, "the body is not in Kubernetes' protobuf envelope")
    try:
        envelope = _message(body[len(MAGIC) :], _ENVELOPE)
        api_version, kind = envelope["type"]["apiVersion"], envelope["type"]["kind"]
        fields = _KINDS.get((api_version, kind))
        if fields is None:
            raise ApiError(415, f"the embedded API reads {api_version} {kind} as JSON or YAML only")
        return {"apiVersion": api_version, "kind": kind, **_message(envelope.get("raw", b""), fields)}
    except (IndexError, KeyError, UnicodeDecodeError) as error:
        raise ApiError(400, f"the protobuf body cannot be read: {error!r}") from None


def _message(data: bytes, fields: Fields) -> Obj:
    found: Obj = {}
    for field in _split(data):
        name, kind = fields.get(field.number, ("", None))
        if not name:
            continue
        if kind is MAP:
            pair = _message(_bytes(field), {1: ("key", str), 2: ("value", str)})
            found.setdefault(name, {})[pair.get("key", "")] = pair.get("value", "")
        elif isinstance(kind, list):
            found.setdefault(name, []).append(_scalar(field, kind[0]))
        elif isinstance(kind, dict):
            found[name] = _message(_bytes(field), kind)
        elif (value := _scalar(field, kind)) not in ("", b"", 0):  # Go writes empty fields, JSON leaves them out
            found[name] = value
    return found


def _scalar(field: _Field, kind: Any) -> Any:
    if kind is int:
        return field.value
    return _bytes(field) if kind is bytes else _bytes(field).decode()


def _bytes(field: _Field) -> bytes:
    if isinstance(field.value, int):
        raise KeyError(f"field {field.number} is a number")
    return field.value


def _split(data: bytes) -> Iterator[_Field]:
    """Wire types 0 (varint), 1 and 5 (fixed), 2 (length-delimited)."""
    place = 0
    while place < len(data):
        tag, place = _varint(data, place)
        number, wire = tag >> 3, tag & 7
        if wire == 0:
            value, place = _varint(data, place)
            yield _Field(number, value)
            continue
        length, place = _varint(data, place) if wire == 2 else ({1: 8, 5: 4}[wire], place)
        if place + length > len(data):
            raise IndexError("the message ends early")
        yield _Field(number, data[place : place + length])
        place += length


def _varint(data: bytes, place: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[place]
        value, place, shift = value | (byte & 0x7F) << shift, place + 1, shift + 7
        if not byte & 0x80:
            return value, place
