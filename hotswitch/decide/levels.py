"""Which level each direction gets: the policy's order, each level falling to the next when it cannot hold (I2, I3).

A level that is not in use yet must pass every check. One that is in use keeps its place on less: evidence may fade
while a proxy restarts, and that must not flap the gate. But what gives policy away is checked always: the gate's own
refusal, the rescue's identity and deaths, STRICT mTLS, the policy's list, the induced-bypass rule. A person's order
replaces the evidence, never the policy.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from enum import Enum, auto

from hotswitch.decide.codes import Code
from hotswitch.decide.damping import in_episode, mass_failure
from hotswitch.decide.ports import CLOSED, direct_inbound, effective, within
from hotswitch.decide.supply import left_to_people
from hotswitch.decide.verdict import SURE
from hotswitch.model import OPEN_LEVELS, Diagnosis, Direction, Fault, Grade, Level, Opening, Port, View

RESCUE_DEATHS_AT_MOST = 1  # inside the hold-down: what kills the proxy may be killing it too
OPEN_AT_LEAST_S = 1.0  # an opening that ends sooner is not worth the switch

_ALL = frozenset({Level.RESCUE, Level.DIRECT})
_NONE: frozenset[Level] = frozenset()
_NO_PORTS: frozenset[Port] = frozenset()
_BOTH_WAYS = {Direction.INBOUND: _ALL, Direction.OUTBOUND: _ALL}
_INBOUND_ONLY = {Direction.INBOUND: _ALL, Direction.OUTBOUND: _NONE}
_RESCUE_ONLY = dict.fromkeys(Direction, frozenset({Level.RESCUE}))

ANSWERS: Mapping[Fault, Mapping[Direction, frozenset[Level]]] = {
    Fault.DEAD: _BOTH_WAYS,
    Fault.CORE_DUMPING: _BOTH_WAYS,
    Fault.HUNG: _BOTH_WAYS,
    Fault.STUCK_WORKER: _BOTH_WAYS,
    Fault.UNCONFIGURED: _BOTH_WAYS,
    Fault.MISROUTING: _INBOUND_ONLY,  # only the inbound way was compared, and outbound mTLS may be working
    Fault.UNREADY: _INBOUND_ONLY,
    Fault.CERTIFICATE_EXPIRED: _RESCUE_ONLY,  # the proxy serves plaintext as before; only an identity helps
}
"""Faults that justify opening at all, and the levels that answer them. A fault that is not here is never acted on."""


class Admission(Enum):
    ENTER = auto()  # new levels may be opened
    KEEP = auto()  # what is open may stay or shrink
    LEAVE = auto()  # back to capture


@dataclass(frozen=True, slots=True)
class Question:
    """May this pod's direction be opened? `ordered`: by a person, at this level; None: by the evidence alone."""

    view: View
    diagnosis: Diagnosis
    direction: Direction
    admission: Admission
    ordered: Level | None = None

    @property
    def in_use(self) -> Opening:
        """What is open here on the same authority: an order's opening is no evidence once the order has ended."""
        standing = self.view.standing
        if self.ordered is None and self.direction in standing.ordered:
            return CLOSED
        return standing.openings.get(self.direction, CLOSED)

    @property
    def listed(self) -> tuple[Level, ...]:
        policy = self.view.policy
        return policy.inbound if self.direction is Direction.INBOUND else policy.outbound


@dataclass(frozen=True, slots=True)
class Choice:
    opening: Opening
    refusals: Mapping[str, str]  # "inbound direct" -> "HSD045 ...": why the levels before it were not taken

    @property
    def level(self) -> Level:
        return effective(self.opening)


def justified(diagnosis: Diagnosis) -> bool:
    return diagnosis.fault in ANSWERS and diagnosis.grade in SURE


def choose(question: Question) -> Choice:
    rest = Level.HOLD if in_episode(question.view.standing) else Level.CAPTURE
    refusals: dict[str, str] = {}
    for level in _order(question):
        opening, why = _try(question, level)
        if opening is not None:
            return Choice(opening, refusals)
        refusals[f"{question.direction} {level}"] = why
    return Choice(Opening(rest), refusals)


def _order(question: Question) -> tuple[Level, ...]:
    """The open levels to try; HOLD or CAPTURE ends the list."""
    if question.admission is Admission.LEAVE:
        return ()
    wanted = question.listed if question.ordered is None else (question.ordered,)
    end = next((place for place, level in enumerate(wanted) if level not in OPEN_LEVELS), len(wanted))
    return wanted[:end]


def _try(question: Question, level: Level) -> tuple[Opening | None, str]:
    opening = _opening(question, level)
    never = _first_refusal(question, level, _ALWAYS)
    if opening is None or never is not None:
        return None, _because(question, never or _no_port(question))
    now = _first_refusal(question, level, _ON_ENTRY)
    if now is None:
        return opening, ""
    in_use = effective(question.in_use) is level
    return (_no_wider(question.in_use, opening) if in_use else None), _because(question, now)


def _first_refusal(question: Question, level: Level, when: bool) -> Code | None:
    return next((code for refuses, code, at in _CHECKS[level] if at is when and refuses(question)), None)


def _because(question: Question, code: Code) -> str:
    return f"{code} {_detail(question, code)}".strip()


def _detail(question: Question, code: Code) -> str:
    capabilities, around = question.view.capabilities, question.view.surroundings
    details = {
        Code.GATE_REFUSES: capabilities.gate_refusal,
        Code.NO_RESCUE: capabilities.rescue_refusal or "no rescue listens here",
        Code.RESCUE_DIES: f"died {capabilities.rescue_deaths} times",
        Code.FROZEN: around.frozen,
        Code.NODE_BUDGET: f"{around.open_on_node} of {around.node_budget} open on the node",
        Code.NAMESPACE_BUDGET: f"{around.open_in_namespace} of {around.namespace_budget} open in the namespace",
        Code.WORKLOAD_BUDGET: f"{around.open_of_workload} of {around.workload_budget} open of the workload",
        Code.NOT_SURE_ENOUGH: f"{question.diagnosis.grade} is not corroborated",
        Code.NOT_FOR_THIS_FAULT: str(question.diagnosis.fault),
    }
    return details.get(code, "")


def _opening(question: Question, level: Level) -> Opening | None:
    if level is Level.DIRECT and question.direction is Direction.INBOUND:
        return direct_inbound(question.view.policy, question.view.facts.app_ports)
    return Opening(level)


def _no_port(question: Question) -> Code:
    """Whether it is mTLS that leaves no port to `direct`, or the preflight besides."""
    by_mtls = direct_inbound(replace(question.view.policy, never_direct=_NO_PORTS), question.view.facts.app_ports)
    return Code.STRICT_MTLS if by_mtls is None else Code.PORTS_REFUSED


def _no_wider(in_use: Opening, wanted: Opening) -> Opening | None:
    """Without enough evidence to enter anew, an opening may shrink with the policy but not grow."""
    if within(wanted, in_use):
        return wanted
    return in_use if within(in_use, wanted) else None


# ---- the checks: True refuses ----


def _gate_refuses(question: Question) -> bool:
    return not question.view.capabilities.gate


def _not_listed(question: Question) -> bool:
    return question.ordered is not None and question.ordered not in question.listed


def _no_rescue(question: Question) -> bool:
    return not question.view.capabilities.rescue


def _rescue_dies(question: Question) -> bool:
    return question.view.capabilities.rescue_deaths > RESCUE_DEATHS_AT_MOST


def _no_identity(question: Question) -> bool:
    return question.view.facts.identity_expires_in_s is None


def _identity_expired(question: Question) -> bool:
    left_s = question.view.facts.identity_expires_in_s
    return left_s is not None and not left_s > 0


def _induced(question: Question) -> bool:
    """Outbound `direct` that gives nothing away is no prize for an attacker."""
    free = question.direction is Direction.OUTBOUND and question.view.policy.outbound_free
    return question.view.standing.induced and question.ordered is None and not free


def _not_now(question: Question) -> bool:
    return question.admission is not Admission.ENTER


def _not_for_this_fault(question: Question, level: Level) -> bool:
    fault = question.diagnosis.fault
    levels = ANSWERS.get(fault, {}).get(question.direction, _NONE)
    return question.ordered is None and (level not in levels or left_to_people(fault, question.view.policy))


def _frozen(question: Question) -> bool:
    around = question.view.surroundings
    return question.ordered is None and (bool(around.frozen) or mass_failure(around))


def _grant_ended(question: Question) -> bool:
    until_s = question.view.surroundings.open_until_s
    return until_s is not None and not until_s - question.view.now_s >= OPEN_AT_LEAST_S


def _not_sure(question: Question) -> bool:
    inbound = question.direction is Direction.INBOUND
    return question.ordered is None and inbound and question.diagnosis.grade is not Grade.CORROBORATED


def _node_budget(question: Question) -> bool:
    around = question.view.surroundings
    return not question.view.standing.is_open and around.open_on_node >= around.node_budget


def _namespace_budget(question: Question) -> bool:
    around, budget = question.view.surroundings, question.view.surroundings.namespace_budget
    return budget is not None and not question.view.standing.is_open and around.open_in_namespace >= budget


def _workload_budget(question: Question) -> bool:
    around = question.view.surroundings
    return not question.view.standing.is_open and around.open_of_workload >= around.workload_budget


_ALWAYS, _ON_ENTRY = True, False
_Check = tuple[Callable[[Question], bool], Code, bool]

_COMMON_FIRST: tuple[_Check, ...] = (
    (_not_listed, Code.NOT_LISTED, _ALWAYS),
    (_gate_refuses, Code.GATE_REFUSES, _ALWAYS),
)
_COMMON_LAST: tuple[_Check, ...] = (
    (_grant_ended, Code.GRANT_ENDED, _ON_ENTRY),
    (_frozen, Code.FROZEN, _ON_ENTRY),
    (_node_budget, Code.NODE_BUDGET, _ON_ENTRY),
    (_namespace_budget, Code.NAMESPACE_BUDGET, _ON_ENTRY),
    (_workload_budget, Code.WORKLOAD_BUDGET, _ON_ENTRY),
    (_not_now, Code.NOT_NOW, _ON_ENTRY),
)
_CHECKS: Mapping[Level, tuple[_Check, ...]] = {
    Level.RESCUE: (
        *_COMMON_FIRST,
        (_no_rescue, Code.NO_RESCUE, _ALWAYS),
        (_rescue_dies, Code.RESCUE_DIES, _ALWAYS),
        (_no_identity, Code.NO_IDENTITY, _ALWAYS),
        (_identity_expired, Code.IDENTITY_EXPIRED, _ALWAYS),
        (lambda question: _not_for_this_fault(question, Level.RESCUE), Code.NOT_FOR_THIS_FAULT, _ON_ENTRY),
        *_COMMON_LAST,
    ),
    Level.DIRECT: (
        *_COMMON_FIRST,
        (_induced, Code.INDUCED, _ALWAYS),
        (lambda question: _not_for_this_fault(question, Level.DIRECT), Code.NOT_FOR_THIS_FAULT, _ON_ENTRY),
        (_not_sure, Code.NOT_SURE_ENOUGH, _ON_ENTRY),
        *_COMMON_LAST,
    ),
}
