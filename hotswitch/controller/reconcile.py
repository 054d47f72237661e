"""What a worker remembers against what the kernel shows: the kernel is right (I1, I6). Pure.

A gate that the annotation calls open may have run out, or have been taken away with its namespace; one that nobody
remembers may have been opened by a controller that died before it could write. Both go on from what is there.
"""

from __future__ import annotations

from dataclasses import replace

from hotswitch.act.order import Truth
from hotswitch.decide.codes import Code
from hotswitch.decide.damping import closed
from hotswitch.model import OPEN_LEVELS, Act, Decision, Generation, Opening, PodRef, Standing

EXPIRY_TOLERANCE_S = 1.0


def reconciled(standing: Standing, truth: Truth | None, now_s: float) -> Standing:
    """`truth` None: nothing could be read, and what is remembered stays."""
    if truth is None:
        return standing
    known = replace(standing, generation=Generation(max(standing.generation, truth.generation)))
    shown_open = any(level in OPEN_LEVELS for level in truth.levels.values())
    if known.is_open and not shown_open:
        return replace(known, expires_s=now_s)  # the decider will find that it has run out
    if shown_open and not _same(known, truth):
        return _adopted(known, truth, now_s)
    if shown_open and truth.expires_in_s is None:
        return known  # an actuator without an expiry of the kernel's: ours counts (`overdue`)
    if shown_open and truth.expires_in_s is not None and _differs(known.expires_s, now_s + truth.expires_in_s):
        return replace(known, expires_s=now_s + truth.expires_in_s)
    return known


def _differs(known_s: float | None, shown_s: float) -> bool:
    """By more than the way to the kernel takes: every difference is a write to the pod."""
    return known_s is None or abs(known_s - shown_s) > EXPIRY_TOLERANCE_S


def overdue(standing: Standing, truth: Truth | None, now_s: float) -> bool:
    """What the kernel does not close by itself is past its end: the controller has to (I4)."""
    if truth is None or truth.expires_in_s is not None or standing.expires_s is None:
        return False
    return any(level in OPEN_LEVELS for level in truth.levels.values()) and now_s >= standing.expires_s


def closing(pod: PodRef, standing: Standing) -> tuple[Standing, tuple[Decision, ...]]:
    """The act that ends an opening which is overdue."""
    generation = Generation(standing.generation + 1)
    sentence = "the opening ran out; nothing but the controller ends it here, so capture is restored"
    decision = Decision(Act.CLOSE, pod, generation, Code.EXPIRED, sentence)
    return replace(closed(standing), generation=generation), (decision,)


def _same(standing: Standing, truth: Truth) -> bool:
    ways = {way for way, level in truth.levels.items() if level in OPEN_LEVELS}
    return all(standing.levels.get(way) is truth.levels[way] for way in ways) and all(
        way in ways for way, level in standing.levels.items() if level in OPEN_LEVELS
    )


def _adopted(standing: Standing, truth: Truth, now_s: float) -> Standing:
    levels = {way: level for way, level in truth.levels.items() if level in OPEN_LEVELS}
    return replace(
        standing,
        levels={**Standing().levels, **levels},
        openings={way: Opening(level) for way, level in levels.items()},
        expires_s=now_s + (truth.expires_in_s or 0.0),
        rebuilt=True,
    )
