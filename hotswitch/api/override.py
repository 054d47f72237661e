"""A person's order for one pod, by annotations: what to do, until when, why, and who says so (S4.6, I4).

An order replaces the evidence, never the policy (I2): the levels it names must be allowed for the pod, and the codes
it accepts count only where the root namespace lets an order accept them. It always ends by itself.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from hotswitch.api import names
from hotswitch.api.values import CODE_PATTERN, WEEK_S, InvalidValue, instant_unix_s, shown_instant, words
from hotswitch.model import OPEN_LEVELS, Direction, Level, Override

Word = Literal["hold", "rescue", "direct", "capture"]
WORDS: tuple[Word, ...] = ("hold", "rescue", "direct", "capture")
LONGEST_S = WEEK_S
LONGEST_REASON = 1024  # characters
_BY_CHARACTERS = 253
_CODE = re.compile(CODE_PATTERN)


class Ended(InvalidValue):
    """The order was one, and its time is over: nothing is wrong, and nothing is ordered any more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """`levels`: per direction that the order speaks of. `accept`: codes whose loss the person accepts."""

    levels: Mapping[Direction, Level]
    until_unix_s: float
    reason: str
    by: str
    accept: frozenset[str] = frozenset()

    def at(self, *, now_s: float, now_unix_s: float) -> Override:
        """The same on the decider's monotonic clock."""
        return Override(self.levels, now_s + self.until_unix_s - now_unix_s, self.reason, self.by)


def read(annotations: Mapping[str, str], now_unix_s: float) -> Order | None:
    """None: nothing is ordered. Raises InvalidValue; Ended, one of them, when the order's time is over."""
    word = annotations.get(names.OVERRIDE)
    if word is None:
        _no_half_order(annotations)
        return None
    if word not in WORDS:
        raise InvalidValue(names.OVERRIDE, word, f"is none of {', '.join(WORDS)}")
    order = Order(
        levels=dict.fromkeys(_directions(annotations), Level(word)),
        until_unix_s=_until(annotations, now_unix_s),
        reason=_text(annotations, names.OVERRIDE_REASON, LONGEST_REASON),
        by=_text(annotations, names.OVERRIDE_BY, _BY_CHARACTERS) or "annotation",
        accept=_accepted(annotations),
    )
    if not order.reason and Level(word) in OPEN_LEVELS:
        raise InvalidValue(names.OVERRIDE_REASON, "", f"is missing, and {word} needs one")
    return order


def write(word: Word, order: Order) -> dict[str, str | None]:
    """The annotations that say this order; None: to be removed, for none of an older order may be left."""
    direction = next(iter(order.levels)) if len(order.levels) == 1 else None
    return {
        names.OVERRIDE: word,
        names.OVERRIDE_UNTIL: shown_instant(order.until_unix_s),
        names.OVERRIDE_DIRECTION: direction,
        names.OVERRIDE_REASON: order.reason or None,
        names.OVERRIDE_BY: order.by,
        names.OVERRIDE_ACCEPT: ",".join(sorted(order.accept)) or None,
    }


MEAN_NOTHING_ALONE = (names.OVERRIDE_UNTIL, names.OVERRIDE_DIRECTION, names.OVERRIDE_ACCEPT)


def _no_half_order(annotations: Mapping[str, str]) -> None:
    """Half an order is a mistake that its author should hear of."""
    name = next((name for name in MEAN_NOTHING_ALONE if name in annotations), None)
    if name is not None:
        raise InvalidValue(name, annotations[name], f"means nothing without {names.OVERRIDE}")


def _until(annotations: Mapping[str, str], now_unix_s: float) -> float:
    text = annotations.get(names.OVERRIDE_UNTIL)
    if text is None:
        raise InvalidValue(names.OVERRIDE_UNTIL, "", f"is missing: {names.OVERRIDE} needs an end")
    try:
        until_unix_s = instant_unix_s(text)
    except ValueError as failure:
        raise InvalidValue(names.OVERRIDE_UNTIL, text, str(failure)) from failure
    if until_unix_s <= now_unix_s:
        raise Ended(names.OVERRIDE_UNTIL, text, "is over")
    if until_unix_s > now_unix_s + LONGEST_S:
        raise InvalidValue(names.OVERRIDE_UNTIL, text, "is more than 7 days ahead")
    return until_unix_s


def _directions(annotations: Mapping[str, str]) -> tuple[Direction, ...]:
    text = annotations.get(names.OVERRIDE_DIRECTION)
    if text is None:
        return tuple(Direction)
    if text not in tuple(Direction):
        raise InvalidValue(names.OVERRIDE_DIRECTION, text, "is neither inbound nor outbound")
    return (Direction(text),)


def _text(annotations: Mapping[str, str], name: str, most: int) -> str:
    text = annotations.get(name, "").strip()
    if len(text) > most:
        raise InvalidValue(name, text, f"is longer than {most} characters")
    if not text.isprintable():
        raise InvalidValue(name, text, "has control characters")
    return text


def _accepted(annotations: Mapping[str, str]) -> frozenset[str]:
    text = annotations.get(names.OVERRIDE_ACCEPT, "")
    try:
        codes = words(text)
    except ValueError as failure:
        raise InvalidValue(names.OVERRIDE_ACCEPT, text, str(failure)) from failure
    wrong = next((code for code in codes if not _CODE.fullmatch(code)), None)
    if wrong is not None:
        raise InvalidValue(names.OVERRIDE_ACCEPT, text, f"{wrong!r} is not a code like HSW0101")
    return frozenset(codes)
