"""What one turn of taking a Service over has read, and what follows from that beside the record (I6). Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from hotswitch.decide.endpoints.adopt import Do, Phase, Verdict
from hotswitch.endpoints.adoption_ledger import Adoption, Entry
from hotswitch.endpoints.hands import Leftover, Seen, Slices
from hotswitch.endpoints.memory import MemoryUnreadable


@dataclass(frozen=True, slots=True)
class Picture:
    """What one turn has read."""

    seen: Seen
    slices: Slices
    leftover: Leftover | None

    def removable(self, writers: Iterable[str]) -> Leftover | None:
        """`writers`: of the record."""
        return self.leftover if self.leftover is not None and self.leftover.is_of(writers) else None

    def stay(self, writers: Iterable[str]) -> tuple[str, ...]:
        by_hand = self.leftover is not None and self.removable(writers) is None
        named = (f"EndpointSlice {name}" for name in self.slices.applied)
        return (*named, *([f"Endpoints {self.seen.id.name}"] if by_hand else ()))

    @property
    def writers(self) -> tuple[str, ...]:
        """While it has its selector it is Kubernetes that writes the Endpoints object, over whatever was there."""
        return tuple(sorted(self.leftover.writers)) if self.leftover is not None and self.seen.selector else ()


def taken_from(phase: Phase, before: Adoption, seen: Seen) -> str:
    """The version from which the selector is about to be taken, or may still be: by a write that is under way."""
    return {Phase.HELD: seen.version, Phase.RETURNING: before.version}.get(phase, "")


def is_as_written(verdict: Verdict, entry: Entry, seen: Seen) -> bool:
    """What is taken is taken from the very version that was written down."""
    return verdict.do is not Do.REMOVE or entry.adoption.version == seen.version


def of_this(entry: Entry, seen: Seen) -> Entry:
    """What was remembered of another Service of this name counts for nothing."""
    if entry.adoption.uid in ("", seen.uid):
        return entry
    fresh = Adoption(history=entry.adoption.history)
    return Entry(adoption=fresh, version=entry.version, lease_uid=entry.lease_uid)


def kept_selector(entry: Entry, seen: Seen) -> dict[str, str]:
    """What stands in its place while it is away; the mark only where there is no record (mark.py)."""
    return dict(entry.adoption.selector or seen.kept or {})


def selector_of(entry: Entry, seen: Seen) -> dict[str, str]:
    """Raises MemoryUnreadable when it is known nowhere."""
    found = dict(seen.selector or entry.adoption.selector)
    if not found:
        raise MemoryUnreadable(f"the selector of {seen.id} stands nowhere any more: a person has to put it back")
    return found
