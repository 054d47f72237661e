"""What is known of all objects of a kind, and what has to be told when something else is heard. No I/O.

Invariant: whoever is told every Change knows what `objects` holds. A name that belongs to another uid by now was
DELETED in between, though nobody said so.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum
from typing import Generic, TypeVar

import msgspec

from hotswitch.cluster.objects import Identity, Key, identity
from hotswitch.cluster.stream import event

T = TypeVar("T")
Source = bytes | memoryview
NOTHING = memoryview(b"")


class ChangeType(StrEnum):
    ADDED = "ADDED"
    MODIFIED = "MODIFIED"
    DELETED = "DELETED"  # or no longer selected


class Change(msgspec.Struct, Generic[T], frozen=True):
    """`object`: as it is now; when DELETED, as it was last seen. `source`: the object's JSON, or the line of the event
    that has it; empty when told from memory."""

    type: ChangeType
    object: T
    source: Source = NOTHING

    @property
    def raw(self) -> memoryview:
        """The object's JSON, part of a larger buffer: take `bytes(raw)` of what is to be kept."""
        return memoryview(event(self.source).object) if isinstance(self.source, bytes) else self.source

    @property
    def size_bytes(self) -> int:
        return len(self.source)


Changes = tuple[Change[T], ...]


class Store(Generic[T]):
    def __init__(self) -> None:
        self.objects: dict[Key, T] = {}

    def present(self, now: Identity, content: T, source: Source) -> Changes[T]:
        """It is there: new, another one of the same name, changed, or as it was."""
        known = self.objects.get(now.key)
        if known is None:
            return self._put(ChangeType.ADDED, now, content, source)
        was = identity(known)
        if was.uid != now.uid:
            return (*self.gone(now.key), *self._put(ChangeType.ADDED, now, content, source))
        return () if was.version == now.version else self._put(ChangeType.MODIFIED, now, content, source)

    def _put(self, kind: ChangeType, now: Identity, content: T, source: Source) -> Changes[T]:
        self.objects[now.key] = content
        return (Change(kind, content, source),)

    def replaced(self, now: Identity) -> Changes[T]:
        """What went when the name was given to another one."""
        known = self.objects.get(now.key)
        return () if known is None or identity(known).uid == now.uid else self.gone(now.key)

    def gone(self, key: Key, last: T | None = None, source: Source = NOTHING) -> Changes[T]:
        """Nothing is told of one that nobody was told of."""
        known = self.objects.pop(key, None)
        return () if known is None else (Change(ChangeType.DELETED, known if last is None else last, source),)

    def only(self, seen: Iterable[Key]) -> Changes[T]:
        """A whole list was read: what it did not show has vanished."""
        return tuple(each for key in self.objects.keys() - set(seen) for each in self.gone(key))
