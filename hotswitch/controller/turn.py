"""One turn of a pod's worker: what was known before it, and what the decider wants (I4, I6). Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from hotswitch.act.order import Actuator, Order
from hotswitch.controller import memory
from hotswitch.controller.means import Protection
from hotswitch.decide.ports import effective
from hotswitch.model import OPEN_LEVELS, Act, Decision, Direction, Generation, Opening, Standing

ACTS = frozenset({Act.OPEN, Act.RENEW, Act.CLOSE, Act.CUT})


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """What was known before a turn, and what the decider wants."""

    protection: Protection
    actuator: Actuator | None
    before: Standing
    after: Standing
    decisions: Sequence[Decision]
    term: int
    now_s: float
    shift_s: float
    seen_since_s: float | None = None
    in_doubt: bool = False  # a command of before may still be running: what is seen now may not last
    begun: str = ""  # when the act was begun that is concluded here; "": now
    instants: Mapping[str, str] = field(default_factory=dict)  # code -> when, of acts that somebody else has told of

    @property
    def acts(self) -> list[Decision]:
        """What there is to do, as far as the actuator can: what it cannot is not said to be done (I8)."""
        cuts = self.actuator is None or not self.actuator.all_or_nothing
        return [each for each in self.decisions if each.act in ACTS and (cuts or each.act is not Act.CUT)]

    @property
    def closes(self) -> bool:
        return any(each.act is Act.CLOSE for each in self.decisions)

    @property
    def renews_only(self) -> bool:
        return all(each.act is Act.RENEW for each in self.acts)

    @property
    def generation(self) -> Generation:
        return Generation(max((each.generation for each in self.acts), default=self.after.generation))

    @property
    def at(self) -> str:
        """RFC 3339: the instant by which all that is told of it is known."""
        return self.begun or memory.instant(self.now_s, self.shift_s)

    def at_of(self, code: str) -> str:
        return self.instants.get(code, self.at)

    @property
    def by(self) -> str:
        order = self.after.override
        return order.by if order is not None and (self.after.ordered or self.before.ordered) else "hotswitch"

    def order(self) -> Order:
        first = self.acts[0]
        left_s = 0.0 if self.after.expires_s is None else max(0.0, self.after.expires_s - self.now_s)
        return Order(
            generation=self.generation,
            openings={} if self.closes else open_only(self.after.openings),
            expiry_s=0.0 if self.closes else left_s,
            code=first.code,
            reason=first.sentence,
            who=self.by,
            cut=any(each.act is Act.CUT for each in self.acts),
        )


def open_only(openings: Mapping[Direction, Opening]) -> dict[Direction, Opening]:
    return {way: opening for way, opening in openings.items() if effective(opening) in OPEN_LEVELS}
