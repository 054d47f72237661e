"""What people are told beside the acts: why nothing was done (HOLD), and when somebody must come (PAGE). Each is said
once per episode: `Turn.say` remembers. In mode observe everything is a HOLD that says what would have been done.
"""

from __future__ import annotations

from collections.abc import Mapping

from hotswitch.decide.codes import MEANING, Code
from hotswitch.decide.damping import in_episode, mass_failure, overstayed
from hotswitch.decide.evidence import answers, trailing
from hotswitch.decide.levels import RESCUE_DEATHS_AT_MOST, Choice, justified
from hotswitch.decide.second import SECOND_OBSERVER
from hotswitch.decide.supply import concerns
from hotswitch.decide.track import ordered_level
from hotswitch.decide.turn import Turn
from hotswitch.decide.words import codes_of, refusals_of, ways
from hotswitch.model import OPEN_LEVELS, Act, Direction, Fault, Grade, Level, ProbeOutcome, Reaction, View

_LEFT_ALONE: Mapping[Fault, Code] = {
    Fault.THROTTLED: Code.THROTTLED,
    Fault.DRAINED: Code.DRAINED,
    Fault.TERMINATING: Code.TERMINATING,
    Fault.UNREADY: Code.UNREADY,
    Fault.APP_SICK: Code.APP_SICK,
}
ALONE_ANSWERS = 8
"""Silent in a row from afar, in some 5 s: an observer beside the proxy would have spoken by then. The kubelet's probe
of readiness, the second witness where there is none, takes up to a minute as Istio sets it (every 15 s, 4 times)."""


def remarks(turn: Turn, choices: Mapping[Direction, Choice]) -> None:
    for code in _pages(turn):
        turn.say(Act.PAGE, code, f"{turn.view.pod}: {MEANING[code]}")
    _order_refused(turn, choices)
    if justified(turn.diagnosis) and not turn.standing.is_open:
        turn.say(Act.HOLD, Code.HELD, f"held: {turn.diagnosis.sentence}", codes_of(turn.refusals))
    _left_alone(turn)
    for reaction, code, sentence in concerns(turn.view, turn.diagnosis):
        turn.say(Act.PAGE if reaction is Reaction.PAGE else Act.HOLD, code, sentence)


def remarks_of_observer(turn: Turn, choices: Mapping[Direction, Choice]) -> None:
    if justified(turn.diagnosis):
        turn.refusals = refusals_of(choices)
        what = ways({direction: choice.opening for direction, choice in choices.items()})
        pages = "".join(f"; would page: {MEANING[code]}" for code in _pages(turn))
        sentence = f"would be {what}: {turn.diagnosis.sentence}{pages}"
        turn.say(Act.HOLD, Code.WOULD_OPEN, sentence, what)
    _left_alone(turn)
    for reaction, code, sentence in concerns(turn.view, turn.diagnosis):
        turn.say(Act.HOLD, code, f"would page: {sentence}" if reaction is Reaction.PAGE else sentence)


def _pages(turn: Turn) -> list[Code]:
    view = turn.view
    if not in_episode(view.standing):
        return []
    found = {
        Code.FAULT_AGAIN: view.standing.induced and _inside_hold_down(view),
        Code.WORKLOAD_FAULTS: view.standing.induced and not _inside_hold_down(view),
        Code.MASS_FAILURE: justified(turn.diagnosis) and mass_failure(view.surroundings),
        Code.OPEN_TOO_LONG: overstayed(view.standing, view.policy, view.now_s),
        Code.RESCUE_DIED_TWICE: _rescue_listed(view) and view.capabilities.rescue_deaths > RESCUE_DEATHS_AT_MOST,
    }
    return [code for code, holds in found.items() if holds]


def _inside_hold_down(view: View) -> bool:
    began_s = view.standing.fault_since_s
    return began_s is not None and began_s < view.standing.hold_down_until_s


def _rescue_listed(view: View) -> bool:
    return Level.RESCUE in (*view.policy.inbound, *view.policy.outbound)


def _order_refused(turn: Turn, choices: Mapping[Direction, Choice]) -> None:
    override = turn.standing.override
    for direction, choice in choices.items():
        wanted = ordered_level(turn.view, direction)
        if override is not None and wanted in OPEN_LEVELS and choice.level is not wanted:
            reason = choice.refusals.get(f"{direction} {wanted}", str(turn.diagnosis.fault))
            sentence = f"the order of {override.by} for {direction} {wanted} is not carried out: {reason}"
            detail = f"{override.until_s} {direction} {reason.split(' ', 1)[0]}"
            turn.say(Act.HOLD, Code.ORDER_REFUSED, sentence, detail)


def _left_alone(turn: Turn) -> None:
    if _is_seen_by_one(turn):
        turn.say(Act.HOLD, Code.NOT_SECONDED, f"nothing was done yet: {turn.diagnosis.sentence}")
    code = _LEFT_ALONE.get(turn.diagnosis.fault)
    if code is None or justified(turn.diagnosis):
        return
    if not turn.standing.is_open:
        turn.say(Act.HOLD, code, f"nothing was done: {turn.diagnosis.sentence}")
    elif code is Code.TERMINATING:
        turn.say(Act.HOLD, Code.LEFT_TO_EXPIRE, f"left to its expiry: {turn.diagnosis.sentence}")


def _is_seen_by_one(turn: Turn) -> bool:
    facts, diagnosis = turn.view.facts, turn.diagnosis
    if facts.judged is None or diagnosis.fault is not Fault.HUNG or diagnosis.grade is not Grade.SUSPECTED:
        return False
    if SECOND_OBSERVER in diagnosis.evidence:  # an agent's: it knows better how long to wait, and says so itself
        return False
    quiet = not turn.standing.is_open and not in_episode(turn.standing)
    return quiet and len(trailing(answers(facts), ProbeOutcome.TIMEOUT)) >= ALONE_ANSWERS
