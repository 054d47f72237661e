"""What one receiver was told and must still be told: pure, bounded, and kept over a restart (S4.6).

One matter for each key: repeats and flapping fold into it. Invariant: who was told that a matter fires is told that it
ended, whatever is dropped, refused, or crashes in between; so room is made only among matters that were never told, the
least grave and oldest first. Instants are Unix seconds, for they have to mean the same after a restart.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from enum import StrEnum

import msgspec

from hotswitch.report.alerts.payload import Phase, Telling
from hotswitch.report.alerts.receiver import rank
from hotswitch.report.notice import Notice

MATTERS = 256
ENDED = 128  # keys of matters that are over, so that a second word on their end is not a second message
STATE_BYTES = 200_000  # a ConfigMap may have 1 MiB, for all receivers
NEVER = float("inf")


class Taken(StrEnum):
    """What became of a notice."""

    QUEUED = "queued"
    FOLDED = "folded"  # nothing new in it, or it waits with the next repeat
    DROPPED = "dropped"  # no room


class Matter(msgspec.Struct, kw_only=True):
    """`due_unix_s`: when something is to be said, None: nothing is. `told`: what the receiver was told last and has
    taken; None: nothing, or that it had ended. `tries`: attempts since then, of which it may have taken
    more than it answered."""

    notice: Notice
    due_unix_s: float | None
    turn: int = 0
    told: Notice | None = None
    tries: int = 0

    @property
    def owed(self) -> bool:
        """Must the receiver hear the end of it?"""
        return self.told is not None or self.tries > 0

    def phase(self) -> Phase:
        if self.notice.resolved:
            return Phase.RESOLVED
        same = self.told is not None and not _news(self.told, self.notice)
        return Phase.REPEATED if same else Phase.FIRED


class _State(msgspec.Struct):
    matters: list[Matter]
    ended: list[str] = msgspec.field(default_factory=list)


class Ledger:
    """`repeat_s`: 0 is never. Not for several threads."""

    def __init__(self, repeat_s: float, at_most: int = MATTERS) -> None:
        self.repeat_s = repeat_s
        self._at_most = at_most
        self._matters: dict[str, Matter] = {}
        self._ended: dict[str, None] = {}
        self._adopted: set[str] = set()  # of which an earlier life may have told the end, and could not keep that
        self.changes = 0  # so that whoever saves knows whether to

    def __len__(self) -> int:
        return len(self._matters)

    def knows(self, key: str) -> bool:
        return key in self._matters

    @property
    def standing(self) -> dict[str, Notice]:
        """What fires, or is about to be told so, by key."""
        return {key: each.notice for key, each in self._matters.items() if not each.notice.resolved}

    def waiting(self, now_unix_s: float) -> int:
        return sum(each.due_unix_s is not None and each.due_unix_s <= now_unix_s for each in self._matters.values())

    def next_due(self) -> float:
        """NEVER when nothing will be said."""
        return min((each.due_unix_s for each in self._matters.values() if each.due_unix_s is not None), default=NEVER)

    # ---- what is new

    def tell(self, notice: Notice, now_unix_s: float) -> tuple[Taken, Notice | None]:
        """Also returns whatever was dropped, this one or an older one."""
        known = self._matters.get(notice.key)
        if known is not None:
            return self._more(known, notice, now_unix_s), None
        if notice.resolved and notice.key in self._ended:
            return Taken.FOLDED, None
        return self._begin(notice, now_unix_s)

    def _begin(self, notice: Notice, now_unix_s: float) -> tuple[Taken, Notice | None]:
        dropped = self._make_room(notice)
        if dropped is notice:
            return Taken.DROPPED, notice
        self._ended.pop(notice.key, None)
        self._matters[notice.key] = Matter(notice=notice, due_unix_s=now_unix_s)
        self.changes += 1
        return Taken.QUEUED, dropped

    def _make_room(self, newcomer: Notice) -> Notice | None:
        """Who has to go; the newcomer where all others are graver, or owed their end."""
        if len(self._matters) < self._at_most:
            return None
        untold = [each.notice for each in self._matters.values() if not each.owed]
        least = min(untold, key=lambda each: (rank(each.severity), each.starts_unix_s), default=newcomer)
        if rank(least.severity) > rank(newcomer.severity):
            return newcomer
        self._matters.pop(least.key, None)
        return least

    def _more(self, known: Matter, notice: Notice, now_unix_s: float) -> Taken:
        before = known.notice
        if notice.key in self._adopted and (notice.resolved or notice.starts_unix_s > before.starts_unix_s):
            self._adopted.discard(notice.key)
            if not notice.resolved and known.told is not None:  # to the receiver it may be over
                known.notice, known.told, known.due_unix_s = notice, None, now_unix_s
                known.turn, known.tries, self.changes = known.turn + 1, 1, self.changes + 1
                return Taken.QUEUED
        starts = before.starts_unix_s if known.told or not before.resolved else notice.starts_unix_s
        ends = None if notice.ends_unix_s is None else max(notice.ends_unix_s, starts)
        known.notice = replace(notice, starts_unix_s=starts, ends_unix_s=ends)
        if notice.resolved and before.resolved:
            known.notice = before
            return Taken.FOLDED
        self.changes += 1
        known.turn += 1
        if notice.resolved or known.told is None or _news(known.told, known.notice):
            known.due_unix_s = now_unix_s
            return Taken.QUEUED if _news(before, notice) else Taken.FOLDED
        known.due_unix_s = self._repeat(now_unix_s) if before.resolved else known.due_unix_s
        return Taken.FOLDED

    def _repeat(self, now_unix_s: float) -> float | None:
        return now_unix_s + self.repeat_s if self.repeat_s > 0 else None

    # ---- what is said

    def due(self, now_unix_s: float, at_most: int) -> list[Telling]:
        """What is new before repeats, the gravest first, then those that wait longest."""
        waiting = [
            each for each in self._matters.values() if each.due_unix_s is not None and each.due_unix_s <= now_unix_s
        ]
        waiting.sort(key=lambda each: (each.phase() is Phase.REPEATED, -rank(each.notice.severity), each.due_unix_s))
        return [self._telling(each, now_unix_s) for each in waiting[:at_most]]

    def _telling(self, matter: Matter, now_unix_s: float) -> Telling:
        matter.tries += 1
        return Telling(
            notice=matter.notice, phase=matter.phase(), turn=matter.turn, at_unix_s=now_unix_s,
            lasts_s=4 * self.repeat_s, before=matter.told,
        )  # fmt: skip

    def taken(self, tellings: Iterable[Telling], now_unix_s: float) -> None:
        """The receiver has these. What came up while they were on their way stays due."""
        self.changes += 1
        for telling in tellings:
            matter = self._matters.get(telling.notice.key)
            if matter is not None:
                self._taken(matter, telling, now_unix_s)

    def _taken(self, matter: Matter, telling: Telling, now_unix_s: float) -> None:
        matter.told, matter.tries = (None if telling.notice.resolved else telling.notice), 0
        newer = matter.turn != telling.turn and (telling.notice.resolved or _news(telling.notice, matter.notice))
        if newer and (matter.told is not None or not matter.notice.resolved):
            matter.due_unix_s = now_unix_s
        elif matter.notice.resolved:
            self._end(matter.notice.key)
        else:
            matter.turn += 1
            matter.due_unix_s = self._repeat(now_unix_s)

    def refused(self, tellings: Iterable[Telling], now_unix_s: float) -> list[Notice]:
        """The receiver will never take these as they are. Given up, but for what may have been
        taken before: that is tried again with the repeats. Returns what was given up."""
        self.changes += 1
        lost = []
        for telling in tellings:
            matter = self._matters.get(telling.notice.key)
            if matter is None or matter.turn != telling.turn:
                continue
            if matter.told is not None or matter.tries > 1:  # an earlier answer may have been lost, not a no
                matter.due_unix_s = now_unix_s + max(self.repeat_s, 60.0)
                continue
            lost.append(matter.notice)
            del self._matters[matter.notice.key]
        return lost

    def _end(self, key: str) -> None:
        del self._matters[key]
        self._ended[key] = None
        for old in list(self._ended)[: max(0, len(self._ended) - ENDED)]:
            del self._ended[old]

    # ---- what outlives us

    def encode(self) -> bytes:
        """All matters, with as many words as fit."""
        content = b""
        for words in (_whole, _without_evidence, _bare):
            matters = [words(each) for each in self._matters.values()]
            content = msgspec.json.encode(_State(matters, list(self._ended)))
            if len(content) <= STATE_BYTES:
                break
        return content

    def adopt(self, content: bytes, now_unix_s: float) -> None:
        """Go on from what an earlier life left; what was told since then comes on top. Raises msgspec's errors, and
        changes nothing then."""
        state = msgspec.json.decode(content, type=_State)
        mine = [each.notice for each in self._matters.values()]
        self._matters = {each.notice.key: each for each in state.matters[: self._at_most]}
        self._ended = dict.fromkeys(state.ended[-ENDED:])
        self._adopted = set(self._matters)
        for matter in self._matters.values():
            if matter.due_unix_s is not None:
                latest = now_unix_s + max(self.repeat_s, 60.0)  # a clock that was set back makes nobody wait for days
                matter.due_unix_s = min(matter.due_unix_s, latest)
        for notice in mine:
            self.tell(notice, now_unix_s)
        self.changes += 1


def _news(before: Notice | None, after: Notice) -> bool:
    """Is it worth a message now? New words alone wait for the repeat."""
    if before is None:
        return True
    return any(
        getattr(before, name) != getattr(after, name) for name in ("code", "severity", "labels", "pod", "resolved")
    )


def _whole(matter: Matter) -> Matter:
    return matter


def _without_evidence(matter: Matter) -> Matter:
    told = None if matter.told is None else replace(matter.told, evidence={}, sentence="")
    return msgspec.structs.replace(matter, notice=replace(matter.notice, evidence={}), told=told)


def _bare(matter: Matter) -> Matter:
    """That it was told, and no longer what: an alert whose labels are lost ends by itself, as each one says."""
    notice = replace(matter.notice, evidence={}, labels={}, sentence=matter.notice.sentence[:32])
    return msgspec.structs.replace(matter, notice=notice, told=None, tries=max(1, matter.tries))
