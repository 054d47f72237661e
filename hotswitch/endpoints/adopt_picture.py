"""What one turn of taking a Service over has read, and what follows from that beside the record (I6). Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

import msgspec

from hotswitch.api.adopt import ADOPTED
from hotswitch.backends import Backend, Published, ServiceRecord
from hotswitch.decide.endpoints import everyone
from hotswitch.decide.endpoints.adopt import Do, Phase, Verdict
from hotswitch.endpoints import mark
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


def to_publish(
    term: int, record: ServiceRecord | None, backends: tuple[Backend, ...], entry: Entry, seen: Seen
) -> Published | None:
    """Our slices bear the term of who wrote them: what a deposed leader would still delete are others by then; and by
    which selector, lest the record is lost."""
    if record is None or not (seen.selector or record.selector == kept_selector(entry, seen)):
        return None  # the watch has yet to tell of another selector
    labels = {**record.labels, ADOPTED: mark.label(term, record.selector)}
    return everyone.published(replace(record, labels=labels), backends)


def to_remember(verdict: Verdict, entry: Entry, again: str, picture: Picture) -> Adoption:
    """What is written down before the step. `again`: the word of its annotation."""
    before, seen, over = entry.adoption, picture.seen, verdict.phase is Phase.IDLE
    return msgspec.structs.replace(
        before,
        uid=seen.uid,
        phase=verdict.phase,
        selector={} if over else dict(seen.selector or kept_selector(entry, seen)),
        version=taken_from(verdict.phase, before, seen),
        again=again if verdict.phase is Phase.YIELDED else "",
        writers=() if over else picture.writers or before.writers,
    )
