"""An act that was begun, and whose end nobody has written down: was it carried out? (I6, I8). Pure.

Whoever wanted it was killed before its answer came, or the answer was lost. The status says what would stand then, and
the pod shows whether it does. Such an act is told as it would have been: an opening that nobody told of would end as
one that ran out, and nobody would know who has restored capture.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from hotswitch.act.order import NEVER, Truth
from hotswitch.api.status import PodStatus
from hotswitch.controller import memory
from hotswitch.controller.seen import LATELY_S
from hotswitch.controller.turn import Turn
from hotswitch.decide.codes import MEANING, Code
from hotswitch.model import OPEN_LEVELS, Act, Decision, Direction, Generation, Level, PodRef, Standing

ACT_OF = {
    Code.OPENED: Act.OPEN, Code.CHANGED: Act.OPEN, Code.OPENED_BY_ORDER: Act.OPEN, Code.RENEWED: Act.RENEW,
    Code.CUT: Act.CUT, Code.RESTORED: Act.CLOSE, Code.CLOSED_APP_SICK: Act.CLOSE, Code.CLOSED_NO_LEVEL: Act.CLOSE,
    Code.CLOSED_TOO_LONG: Act.CLOSE, Code.CLOSED_BY_MODE: Act.CLOSE, Code.CLOSED_BY_ORDER: Act.CLOSE,
    Code.EXPIRED: Act.CLOSE,
}  # fmt: skip
_AGAIN = frozenset(code for code in Code if code[:5] in ("HSD00", "HSD01", "HSD02", "HSD03"))


def carried_out(status: PodStatus | None, before: Standing, truth: Truth | None) -> bool:
    """The generation proves it, whatever became of the gate since. Istio's own commands leave none: there the rules
    have to be as they were wanted, and were not before."""
    if status is None or truth is None or not (status.under_way and status.wanted and status.after):
        return False
    if status.code not in ACT_OF:
        return False  # written by nobody of ours
    if truth.generation != NEVER:
        return truth.generation == status.generation
    wanted, shown = _open(status.wanted), _open(truth.levels)
    return shown == wanted != _open(before.levels) and (bool(wanted) or truth.istio_complete)


def told_lately(status: PodStatus, now_unix_s: float) -> list[tuple[Code, str, str]]:
    """What whoever wrote `status` had told just before, and may not have been heard with: each with the instant by
    which it is known, and a sentence. Of what an act under way will tell nothing is told yet."""
    last = [] if status.wanted else [(status.code, status.at)]
    pairs = dict.fromkeys([*status.alerts.items(), *last])
    found = []
    for code, at in pairs:
        if code in _AGAIN and at and abs(now_unix_s - memory.unix_s(at)) <= LATELY_S:
            sentence = status.why if (code, at) in last else MEANING[Code(code)]
            found.append((Code(code), at, sentence))
    return found


def _open(levels: Mapping[Direction, Level]) -> dict[Direction, Level]:
    return {way: level for way, level in levels.items() if level in OPEN_LEVELS}


def concluded(turn: Turn, pod: PodRef, status: PodStatus, truth: Truth) -> Turn:
    """A turn that has led to what `status` says of an act that was carried out. `turn`: one without decisions. What was
    decided beside the act was to be told after it, and so was not."""
    after = memory.load(status.after, turn.shift_s, turn.now_s)
    generation = Generation(max(after.generation, status.generation))
    after = replace(after, generation=generation, said=after.said & turn.before.said)
    after = memory.bounded(after, turn.protection.policy, turn.now_s)
    return replace(turn, after=after, decisions=(_decision(pod, status, truth),), begun=status.at)


def _decision(pod: PodRef, status: PodStatus, truth: Truth) -> Decision:
    levels = ", ".join(f"{way} {level}" for way, level in truth.levels.items())
    found = {"found": f"carried out by generation {status.generation}, told by nobody; the pod shows {levels}"}
    code = Code(status.code)
    return Decision(ACT_OF[code], pod, Generation(status.generation), code, status.why, evidence=found)
