"""The sentences that people read: one per decision, in plain words, with what was done first and why after (I8)."""

from __future__ import annotations

from collections.abc import Mapping

from hotswitch.decide.levels import Choice
from hotswitch.decide.ports import CLOSED, effective
from hotswitch.model import OPEN_LEVELS, Diagnosis, Direction, Fault, Level, Opening, Standing

_WHERE = {Level.RESCUE: "to the rescue", Level.DIRECT: "direct"}


def ways(openings: Mapping[Direction, Opening]) -> str:
    """Like "inbound to the rescue, outbound held"."""
    return ", ".join(_way(direction, openings.get(direction, CLOSED)) for direction in Direction)


def _way(direction: Direction, opening: Opening) -> str:
    level = effective(opening)
    if level not in OPEN_LEVELS:
        return f"{direction} held"
    exceptions = sorted(port for port, other in opening.ports.items() if other is not opening.level)
    if not exceptions:
        return f"{direction} {_WHERE[level]}"
    only = "except" if opening.level in OPEN_LEVELS else "only"
    return f"{direction} {_WHERE[level]} ({only} {', '.join(str(port) for port in exceptions)})"


def why(diagnosis: Diagnosis, refusals: Mapping[str, str]) -> dict[str, str]:
    """The evidence of a decision: what is wrong, what shows it, and which levels were refused."""
    head = {"fault": str(diagnosis.fault), "grade": str(diagnosis.grade)}
    return {**head, **diagnosis.evidence, **{f"not {level}": reason for level, reason in refusals.items()}}


def refusals_of(choices: Mapping[Direction, Choice]) -> dict[str, str]:
    return {level: reason for choice in choices.values() for level, reason in choice.refusals.items()}


def codes_of(refusals: Mapping[str, str]) -> str:
    """The refusals without their changing details: what decides whether something new is to be said."""
    return ", ".join(sorted(f"{level} {reason.split(' ', 1)[0]}" for level, reason in refusals.items()))


def cause(standing: Standing, diagnosis: Diagnosis) -> str:
    """Why the gate is open: an order while it lasts, else the fault."""
    override = standing.override
    if standing.ordered and override is not None:
        return f"ordered by {override.by}: {override.reason}"
    if diagnosis.fault is Fault.WELL and standing.fault is not Fault.WELL:
        return f"{standing.fault}, not yet recovered"
    return diagnosis.sentence
