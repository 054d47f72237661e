"""What the API server's successes say. One that cannot be read tells nothing, least of all that a write was done.

Something between us and the API server may have given it: a page of a proxy, half an answer.
"""

from __future__ import annotations

from typing import TypeVar

import msgspec

from hotswitch.cluster.failure import ApiFailure

T = TypeVar("T")
_SHOWN = 80


def read(raw: bytes, decode_type: type[T]) -> T:
    """Raises ApiFailure of status 0, as if no answer had come."""
    try:
        return msgspec.json.decode(raw, type=decode_type)
    except (msgspec.DecodeError, msgspec.ValidationError) as unreadable:
        shown = raw[:_SHOWN].decode("utf-8", "replace")
        raise ApiFailure(0, "Unreadable", f"{unreadable}: {shown!r}") from unreadable


class Named(msgspec.Struct):
    name: str = ""
    version: str = ""


class Resources(msgspec.Struct):
    """Of /apis/GROUP/VERSION."""

    resources: list[Named] = msgspec.field(default_factory=list)


class Group(msgspec.Struct):
    """Of /apis/GROUP."""

    versions: list[Named] = msgspec.field(default_factory=list)
