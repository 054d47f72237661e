"""One step for one pod: a consistent view in; the new standing and what to do out (S4.4, S4.5). Pure and idempotent.

The order of a step: what time has changed, what is wrong, what may be opened, what follows for the gate, what people
are told. Each act on the kernel has a generation of its own (I6), each opening an expiry that the kernel keeps (I1),
never later than the policy's or the order's end (I4). An act states the whole gate, and there is one at most (I5).
Stepping again with the same view and the standing just returned yields nothing.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from hotswitch.decide.codes import MEANING, Code
from hotswitch.decide.damping import changed, closed, end_episode, in_episode, overstayed, recovered, run_out
from hotswitch.decide.death import doomed
from hotswitch.decide.levels import Choice, Question, choose, justified
from hotswitch.decide.ports import effective, same
from hotswitch.decide.remarks import remarks, remarks_of_observer
from hotswitch.decide.track import (
    admitted_by_evidence,
    admitted_by_order,
    in_its_time,
    ordered_level,
    seen,
    settled,
    tracked,
)
from hotswitch.decide.turn import Turn, with_standing
from hotswitch.decide.verdict import SURE
from hotswitch.decide.words import cause, refusals_of, ways
from hotswitch.model import (
    OPEN_LEVELS,
    Act,
    Decision,
    Diagnosis,
    Direction,
    Fault,
    Mode,
    Opening,
    Policy,
    Standing,
    View,
)

STUCK: frozenset[Fault] = frozenset({Fault.HUNG, Fault.STUCK_WORKER, Fault.CORE_DUMPING})
"""Faults that leave flows standing in the proxy with their sockets open. A dead one's are reset by the kernel, but as
late as the dying process gets a CPU."""


def step(view: View) -> tuple[Standing, tuple[Decision, ...]]:
    """Decide for one pod. `view.standing` is what the last step returned, once its acts were carried out.

    Call it at every piece of news and at least every quarter of the shortest expiry."""
    if not math.isfinite(view.now_s):
        return view.standing, ()
    settled_view = with_standing(view, settled(view))
    now_seen = seen(settled_view)
    diagnosis = in_its_time(settled_view, now_seen)
    turn = Turn(settled_view, diagnosis)
    if run_out(view.standing, view.now_s):
        turn.tell(Act.HOLD, Code.EXPIRED, MEANING[Code.EXPIRED])
    if view.policy.mode is Mode.OFF:
        return _off(turn)
    turn.standing = tracked(turn.view, now_seen, diagnosis)
    return _observe(turn) if view.policy.mode is Mode.OBSERVE else _act(turn)


def _off(turn: Turn) -> tuple[Standing, tuple[Decision, ...]]:
    _close_by_mode(turn)
    if in_episode(turn.standing):
        turn.standing = closed(end_episode(turn.standing, turn.now_s))
    turn.standing = changed(turn.standing, well_since_s=None, said=frozenset())
    return turn.standing, tuple(turn.decisions)


def _observe(turn: Turn) -> tuple[Standing, tuple[Decision, ...]]:
    _close_by_mode(turn)
    choices, _ = _choices(turn.view, turn.diagnosis)
    remarks_of_observer(turn, choices)
    turn.standing = changed(turn.standing, levels=closed(turn.standing).levels)
    return turn.end()


def _close_by_mode(turn: Turn) -> None:
    if turn.standing.is_open:
        turn.act(Act.CLOSE, Code.CLOSED_BY_MODE, f"capture restored: the mode is {turn.view.policy.mode}")
        _be_closed(turn)


def _act(turn: Turn) -> tuple[Standing, tuple[Decision, ...]]:
    choices, renewable = _choices(turn.view, turn.diagnosis)
    openings = {direction: choice.opening for direction, choice in choices.items()}
    before = turn.before
    turn.refusals = refusals_of(choices)
    if not any(choice.level in OPEN_LEVELS for choice in choices.values()):
        _close(turn)
    elif not same(openings, turn.standing.openings):
        _open(turn, openings, renewable)
    else:
        _keep(turn, openings, renewable)
    _cut(turn, before)
    remarks(turn, choices)
    return turn.end()


def _choices(view: View, diagnosis: Diagnosis) -> tuple[dict[Direction, Choice], bool]:
    """Each direction's level, and whether all that is open may be renewed."""
    choices: dict[Direction, Choice] = {}
    renewable = True
    for direction in Direction:
        ordered = ordered_level(view, direction)
        admitted = admitted_by_evidence if ordered is None else admitted_by_order
        admission, renews = admitted(view, diagnosis)
        choices[direction] = choose(Question(view, diagnosis, direction, admission, ordered))
        renewable = renewable and (renews or choices[direction].level not in OPEN_LEVELS)
    return choices, renewable


# ---- the gate ----


def _open(turn: Turn, openings: Mapping[Direction, Opening], renewable: bool) -> None:
    was_open = turn.standing.is_open
    _stand(turn, openings, _expires_s(turn, openings, renewable))
    everything = {way for way, level in turn.standing.levels.items() if level in OPEN_LEVELS}
    opened = Code.OPENED_BY_ORDER if everything <= turn.standing.ordered else Code.OPENED
    code = Code.CHANGED if was_open else opened
    verb = "changed to" if was_open else "opened"
    _say_gate(turn, Act.OPEN, code, f"{verb} {ways(openings)}", openings)


def _keep(turn: Turn, openings: Mapping[Direction, Opening], renewable: bool) -> None:
    wanted_s = _expires_s(turn, openings, renewable)
    due = _renewal_is_due(turn.standing, turn.view.policy, turn.now_s, wanted_s)
    _stand(turn, openings, wanted_s if due else turn.standing.expires_s)
    if due:
        _say_gate(turn, Act.RENEW, Code.RENEWED, f"still {ways(openings)}", openings)


def _say_gate(turn: Turn, act: Act, code: Code, what: str, openings: Mapping[Direction, Opening]) -> None:
    left_s = (turn.standing.expires_s or turn.now_s) - turn.now_s
    sentence = f"{what}, for {left_s:.0f} s: {cause(turn.standing, turn.diagnosis)}"
    turn.act(act, code, sentence, openings, left_s)


def _renewal_is_due(standing: Standing, policy: Policy, now_s: float, wanted_s: float) -> bool:
    """At half of the expiry; at once when the end has come nearer (a shorter expiry, an order's end)."""
    if standing.expires_s is None:
        return True
    half_gone = standing.expires_s - now_s <= policy.expiry_s / 2
    return wanted_s < standing.expires_s or (half_gone and wanted_s > standing.expires_s)


def _expires_s(turn: Turn, openings: Mapping[Direction, Opening], renewable: bool) -> float:
    """The instant at which the kernel closes the gate, whoever is dead by then (I1)."""
    standing, policy = turn.standing, turn.view.policy
    opened_s = turn.now_s if standing.opened_s is None else standing.opened_s
    ends = [turn.now_s + policy.expiry_s, opened_s + policy.open_at_most_s]
    if standing.override is not None and _ordered(turn.view, openings):
        ends.append(standing.override.until_s)
    if not renewable and standing.is_open and standing.expires_s is not None:
        ends.append(standing.expires_s)
    if (until_s := turn.view.surroundings.open_until_s) is not None:  # what was given before stays as it was given
        ends.append(max(until_s, standing.expires_s or until_s) if standing.is_open else until_s)
    return min(ends)


def _stand(turn: Turn, openings: Mapping[Direction, Opening], expires_s: float | None) -> None:
    opened_s = turn.now_s if turn.standing.opened_s is None else turn.standing.opened_s
    turn.standing = changed(
        turn.standing,
        levels={way: effective(opening) for way, opening in openings.items()},
        openings=openings,
        ordered=_ordered(turn.view, openings),
        opened_s=opened_s,
        expires_s=expires_s,
    )


def _ordered(view: View, openings: Mapping[Direction, Opening]) -> frozenset[Direction]:
    open_ways = (way for way, opening in openings.items() if effective(opening) in OPEN_LEVELS)
    return frozenset(way for way in open_ways if ordered_level(view, way) is not None)


def _close(turn: Turn) -> None:
    if turn.standing.is_open:
        code = _why_closed(turn)
        turn.act(Act.CLOSE, code, MEANING[code])
    _be_closed(turn)


def _be_closed(turn: Turn) -> None:
    """Once nothing is open, being well for long enough ends the episode without a proof end to end."""
    turn.standing = closed(turn.standing)
    if in_episode(turn.standing) and recovered(turn.view, turn.diagnosis):
        turn.standing = closed(end_episode(turn.standing, turn.now_s))


def _why_closed(turn: Turn) -> Code:
    sick = turn.diagnosis.fault is Fault.APP_SICK and turn.diagnosis.grade in SURE
    reasons = (
        (overstayed(turn.standing, turn.view.policy, turn.now_s), Code.CLOSED_TOO_LONG),
        (sick, Code.CLOSED_APP_SICK),
        (in_episode(turn.before) and not in_episode(turn.standing), Code.RESTORED),
        (bool(turn.standing.ordered or turn.standing.override), Code.CLOSED_BY_ORDER),
    )
    return next((code for holds, code in reasons if holds), Code.CLOSED_NO_LEVEL)


def _cut(turn: Turn, before: Standing) -> None:
    """After the gate is open, so that the clients' new connections find it so; once per opening or new fault."""
    if not (turn.standing.is_open and justified(turn.diagnosis) and _leaves_flows(turn)):
        return
    opened = {way for way, level in turn.standing.levels.items() if level in OPEN_LEVELS}
    known = STUCK | {turn.diagnosis.fault}
    if before.fault not in known or any(before.levels.get(way) not in OPEN_LEVELS for way in opened):
        sentence = f"flows stuck in the proxy are ended: {turn.diagnosis.sentence}"
        turn.act(Act.CUT, Code.CUT, sentence, turn.standing.openings)


def _leaves_flows(turn: Turn) -> bool:
    fault = turn.diagnosis.fault
    return fault in STUCK or (fault is Fault.DEAD and doomed(turn.view.facts))
