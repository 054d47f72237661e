"""The parts of any object that this room needs, decoded straight from bytes; nothing else is kept.

Everything here holds only text, numbers and tuples of such: `gc=False` keeps ten thousand pods out of the garbage
collector's rounds, which would stop the loop for longer than it takes to see a dead proxy. And what many objects
have in common, or one of them with itself as it was before, is kept once (`Shared`), which halves the memory.
"""

from __future__ import annotations

from sys import intern
from typing import Any, ClassVar

import msgspec

_DROPPED = "kubectl.kubernetes.io/last-applied-configuration"
"""A copy of the whole manifest, kept by kubectl in an annotation."""
_SHORT = 128


class Shared(msgspec.Struct, frozen=True, gc=False, rename="camel"):
    """`shared`: fields that are kept once for all objects that say the same (texts), or for this object as long as it
    says the same (parts)."""

    shared: ClassVar[tuple[str, ...]] = ()

    def share(self, before: Any = None) -> None:
        """Hold on to what is known already. `before`: the same object as it was known; None: it is new."""
        for field in self.shared:
            now = getattr(self, field)
            kept = _kept(now, getattr(before, field, None))
            if kept is not now:
                msgspec.structs.force_setattr(self, field, kept)


def _kept(now: Any, known: Any) -> Any:
    """`now`, or what is equal to it and was there before."""
    if now == known:
        return known
    if isinstance(now, str):
        return intern(now)
    if isinstance(now, tuple):
        mates = known or ()
        return tuple(_kept(each, mates[place] if place < len(mates) else None) for place, each in enumerate(now))
    if isinstance(now, dict):
        return {key: intern(text) if len(text) <= _SHORT else text for key, text in now.items()}
    if isinstance(now, Shared):
        now.share(known)
    return now


class OwnerReference(Shared, frozen=True, gc=False, rename="camel"):
    shared = ("kind", "name", "uid", "api_version")

    kind: str
    name: str
    uid: str
    api_version: str = ""
    controller: bool | None = None


class Metadata(Shared, frozen=True, gc=False, rename="camel"):
    """`deletion_timestamp`: RFC 3339, None while nobody deletes it. Go writes null for what is empty."""

    shared = ("namespace", "creation_timestamp", "labels", "annotations", "owner_references")

    name: str
    uid: str = ""
    resource_version: str = ""
    namespace: str = ""
    labels: dict[str, str] | None = None
    annotations: dict[str, str] | None = None
    owner_references: tuple[OwnerReference, ...] | None = None
    creation_timestamp: str | None = None
    deletion_timestamp: str | None = None
    generation: int = 0

    def share(self, before: Any = None) -> None:
        if self.annotations and _DROPPED in self.annotations:
            del self.annotations[_DROPPED]
        super().share(before)

    @property
    def controller(self) -> OwnerReference | None:
        """Who made it and would make another: the ReplicaSet of a pod."""
        return next((owner for owner in self.owner_references or () if owner.controller), None)


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


def head(raw: msgspec.Raw) -> Identity | None:
    """Of an object whose other parts cannot be read; None when not even this can."""
    try:
        return identity(_decode_head(raw))
    except (msgspec.DecodeError, msgspec.ValidationError, ValueError):
        return None
