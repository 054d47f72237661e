"""The parts of any object that this room needs, decoded straight from bytes; nothing else is kept.

Everything here holds only text, numbers and tuples of such: `gc=False` keeps ten thousand pods out of the garbage
collector's rounds, which would stop the loop for longer than it takes to see a dead proxy. And what many objects have
in common is kept once (`Shared`), which halves the memory. That is done for whole parts, not within them: a method
called for each of the twenty parts of a pod would take as long as the decoding.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from sys import intern
from typing import Any, ClassVar

import msgspec
from msgspec.structs import force_setattr

_DROPPED = "kubectl.kubernetes.io/last-applied-configuration"
"""A copy of the whole manifest, kept by kubectl in an annotation."""
_SHORT = 128
PARTS_AT_MOST = 8192
_parts: dict[Hashable, Hashable] = {}


def once(part: Hashable) -> Hashable:
    """The one that is kept of all that are equal. Now and then all are forgotten, because many are of objects that are
    gone: then some are kept twice."""
    if isinstance(part, str):
        return intern(part)
    if len(_parts) >= PARTS_AT_MOST:
        _parts.clear()
    return _parts.setdefault(part, part)


def parts_kept() -> int:
    return len(_parts)


class Shared(msgspec.Struct, frozen=True, gc=False, rename="camel"):
    """What is in the fields named by `shared`, texts or tuples, is kept once for all objects that have the same."""

    shared: ClassVar[tuple[str, ...]] = ()

    def __post_init__(self) -> None:
        for field in self.shared:
            part = getattr(self, field)
            if part:
                force_setattr(self, field, once(part))


class OwnerReference(msgspec.Struct, frozen=True, gc=False, rename="camel"):
    kind: str
    name: str
    uid: str
    controller: bool | None = None


class Metadata(Shared, frozen=True, gc=False, rename="camel"):
    """`deletion_timestamp`: RFC 3339, None while nobody deletes it. Go writes null for what is empty."""

    shared = ("namespace", "owner_references")

    name: str
    uid: str = ""
    resource_version: str = ""
    namespace: str = ""
    labels: dict[str, str] | None = None
    annotations: dict[str, str] | None = None
    owner_references: tuple[OwnerReference, ...] | None = None
    deletion_timestamp: str | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        for words in (self.labels or {}, self.annotations or {}):
            for key, text in words.items():
                if len(text) <= _SHORT:
                    words[key] = intern(text)
        if self.annotations and _DROPPED in self.annotations:
            del self.annotations[_DROPPED]

    @property
    def controller(self) -> OwnerReference | None:
        """Who made it and would make another: the ReplicaSet of a pod."""
        for owner in self.owner_references or ():
            if owner.controller:
                return owner
        return None


class _BareMetadata(msgspec.Struct, frozen=True, gc=False, rename="camel"):
    name: str
    resource_version: str
    uid: str = ""
    namespace: str = ""


class _Head(msgspec.Struct, frozen=True, gc=False):
    metadata: _BareMetadata


_decode_head = msgspec.json.Decoder(_Head).decode

Key = tuple[str, str]
"""Namespace ("" for what has none) and name."""


class Identity(msgspec.Struct, frozen=True, gc=False):
    """Which object, and which version of it."""

    key: Key
    uid: str
    version: str

    def __str__(self) -> str:
        return "/".join(part for part in self.key if part)


def identity(content: Any) -> Identity:
    """Of a decoded object: a dict, or a Struct with a Metadata as `metadata`. Raises ValueError when it has no name or
    no version."""
    if isinstance(content, dict):
        metadata = content.get("metadata")
        metadata = metadata if isinstance(metadata, dict) else {}
        words = [metadata.get(name) or "" for name in ("namespace", "name", "uid", "resourceVersion")]
        namespace, name, uid, version = (str(word) for word in words)
    else:
        known: Metadata = content.metadata
        namespace, name, uid, version = known.namespace, known.name, known.uid, known.resource_version
    if not name or not version:
        raise ValueError("an object without a name or a resourceVersion")
    return Identity((namespace, name), uid, version)


def version_number(content: Mapping[str, Any] | None) -> int:
    """To know which of two copies of one object is the newer; of nothing else are versions compared (KEP-5504). None:
    older than any."""
    return int(content["metadata"]["resourceVersion"]) if content is not None else -1


def head(raw: msgspec.Raw) -> Identity | None:
    """Of an object whose other parts cannot be read; None when not even this can."""
    try:
        return identity(_decode_head(raw))
    except (msgspec.DecodeError, msgspec.ValidationError, ValueError):
        return None
