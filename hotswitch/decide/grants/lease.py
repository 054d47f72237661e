"""The agent's side of its places: how many, until when, and from whom they are taken (I1, I3, I6). Pure.

An allotment's life counts from the beat that it answers, by the agent's own clock: the controller had not begun to
count then, so the agent is always done first, however long a message was on its way or the agent asleep. A later one
replaces what was before, an older one is refused. Where more is open than there are places (a budget was cut, or gates
of a predecessor were found open), nothing is renewed: what is open ends when the lease that it was opened under does.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from hotswitch.decide.grants.scopes import Scope

BEATS_REMEMBERED = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Allotment:
    """All that one agent may have open at once. `term`: the leader's; `serial`: of that leader's for this agent.
    `beat`: the number of the beat that it answers."""

    term: int
    serial: int
    beat: int
    life_s: float
    places: Mapping[Scope, int]

    @property
    def order(self) -> tuple[int, int]:
        return self.term, self.serial


class Refused(ValueError):
    """Nothing was changed; `reason` is one word for a metric, the message a sentence."""

    def __init__(self, reason: str, sentence: str) -> None:
        super().__init__(sentence)
        self.reason = reason


@dataclass(slots=True)
class Lease:
    """Instants by the agent's clock, which nobody sets. `term` is the newest leader's that was ever heard of."""

    term: int = 0
    serial: int = 0
    places: Mapping[Scope, int] = field(default_factory=dict)
    ends_s: float = -math.inf
    acts_on: tuple[int, int] = (0, 0)  # the order of the allotment that `places` are of
    beats: int = 0
    _sent_s: dict[int, float] = field(default_factory=dict)

    def beat(self, now_s: float) -> int:
        """The number of a beat that is about to be sent."""
        self.beats += 1
        self._sent_s[self.beats] = now_s
        while len(self._sent_s) > BEATS_REMEMBERED:
            del self._sent_s[min(self._sent_s)]
        return self.beats

    def heard(self, term: int) -> None:
        """Somebody leads by `term`. Raises Refused for a leader that was deposed."""
        if term < self.term:
            raise Refused("old-term", f"term {term} is older than {self.term}: another controller leads since")
        if term > self.term:
            self.term, self.serial = term, 0

    def take(self, allotment: Allotment) -> None:
        """Raises Refused."""
        self.heard(allotment.term)
        if allotment.serial <= self.serial:
            raise Refused("replayed", f"allotment {allotment.serial} is not newer than {self.serial}")
        sent_s = self._sent_s.get(allotment.beat)
        if sent_s is None:
            raise Refused("unknown-beat", f"beat {allotment.beat} was not sent by this process, or long ago")
        if not (math.isfinite(allotment.life_s) and allotment.life_s > 0):
            raise Refused("invalid", f"life_s: {allotment.life_s} is no time")
        self.serial, self.places, self.acts_on = allotment.serial, dict(allotment.places), allotment.order
        self.ends_s = sent_s + allotment.life_s

    def until_s(self, scopes: Iterable[Scope], used: Mapping[Scope, int]) -> float:
        """Until when something in `scopes` may be open, as far as the lease goes."""
        over = any(used.get(scope, 0) > self.places.get(scope, 0) for scope in scopes)
        return -math.inf if over else self.ends_s
