"""What is known of all objects of a kind, and what has to be told when something else is heard. No I/O.

Invariant: whoever is told every Change knows what `objects` holds. A name that belongs to another uid by now was
DELETED in between, though nobody said so.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Generic, TypeVar

from hotswitch.cluster.objects import Identity, Key, identity

T = TypeVar("T")
NOTHING = memoryview(b"")


class ChangeType(StrEnum):
    ADDED = "ADDED"
    MODIFIED = "MODIFIED"
    DELETED = "DELETED"  # or no longer selected


@dataclass(frozen=True, slots=True)
class Change(Generic[T]):
    """`object`: as it is now; when DELETED, as it was last seen. `raw`: its JSON, part of a larger buffer: take
    `bytes(raw)` of what is to be kept. Empty when told from memory."""

    type: ChangeType
    object: T
    raw: memoryview = NOTHING

    @property
    def size_bytes(self) -> int:
        return len(self.raw)


class Store(Generic[T]):
    def __init__(self) -> None:
        self.objects: dict[Key, T] = {}

    def present(self, now: Identity, content: T, raw: memoryview) -> Iterator[Change[T]]:
        """It is there: new, another one of the same name, changed, or as it was."""
        yield from self.replaced(now)
        known = self.objects.get(now.key)
        if known is not None and identity(known).version == now.version:
            return
        self.objects[now.key] = content
        yield Change(ChangeType.ADDED if known is None else ChangeType.MODIFIED, content, raw)

    def replaced(self, now: Identity) -> Iterator[Change[T]]:
        """What went when the name was given to another one."""
        known = self.objects.get(now.key)
        if known is not None and identity(known).uid != now.uid:
            yield from self.gone(now.key)

    def gone(self, key: Key, last: T | None = None, raw: memoryview = NOTHING) -> Iterator[Change[T]]:
        """Nothing is told of one that nobody was told of."""
        known = self.objects.pop(key, None)
        if known is not None:
            yield Change(ChangeType.DELETED, known if last is None else last, raw)

    def only(self, seen: Iterable[Key]) -> Iterator[Change[T]]:
        """A whole list was read: what it did not show has vanished."""
        for key in self.objects.keys() - set(seen):
            yield from self.gone(key)
