"""Annotations, policies and defaults become one typed, validated picture of what may be done for a pod (I2, S4.6).

No namespace and no workload ever gets more than the mesh gives: safety fields are intersected (config.safety), timings
are chosen within limits (config.timings), accepted codes come from the root namespace alone. What only the preflight
can know, mTLS and whether anything is enforced on the way out, is left at its most careful here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from hotswitch.api.names import TRUSTS_PROXY_HEADERS
from hotswitch.api.policy import Acceptance
from hotswitch.api.values import Allowance
from hotswitch.config import drilling, safety, telling, thresholds, timings
from hotswitch.config.drilling import Turns
from hotswitch.config.layers import THE_POD, Bearing, Layer, Provenance, Tier, layers
from hotswitch.config.objects import PolicyObject, Problem, problem
from hotswitch.config.scope import scoped
from hotswitch.config.telling import ReceiverAt
from hotswitch.model import Direction, Level, Mode, Policy


@dataclass(frozen=True, slots=True)
class Budgets:
    """How many may be open at once, of all meshed pods of each (I3)."""

    mesh: Allowance
    node: Allowance
    namespace: Allowance
    workload: Allowance


@dataclass(frozen=True, slots=True, kw_only=True)
class Effective:
    """`policy`: what may be done before the preflight has taken from it. `accepted`: codes whose loss the root
    namespace accepts for this pod; `accepted_by_order`: those that a person's order may accept besides. `problems`:
    of its namespace and the policies that speak of it, and its own. `provenance`: by field, as in the policy's YAML."""

    policy: Policy
    budgets: Budgets
    accepted: frozenset[str]
    accepted_by_order: frozenset[str]
    actuators: tuple[str, ...]
    receivers: tuple[ReceiverAt, ...]
    alert_labels: Mapping[str, str]
    alert_repeat_s: float
    drill: Turns = field(default_factory=Turns)
    provenance: Mapping[str, Provenance] = field(default_factory=dict)
    problems: tuple[Problem, ...] = ()

    def accepts(self, ordered: Iterable[str] = ()) -> frozenset[str]:
        """The codes that count while an order that names `ordered` is in force."""
        return self.accepted | (self.accepted_by_order & frozenset(ordered))


def effective(
    policies: Iterable[PolicyObject], *, root_namespace: str, namespace: Bearing | None, pod: Bearing
) -> Effective:
    """`policies`: all that are known; those that do not speak of the pod are passed over."""
    answer = merge([scoped(policy, root_namespace) for policy in policies], root_namespace, namespace, pod)
    return with_problems(answer, pod)


def merge(policies: Iterable[PolicyObject], root_namespace: str, namespace: Bearing | None, pod: Bearing) -> Effective:
    """The same, for policies that were scoped before, and without the pod's own problems."""
    mine = [policy for policy in policies if policy.ref.namespace in (root_namespace, pod.ref.namespace)]
    mine = [policy for policy in mine if policy.selects(pod.ref.namespace, pod.labels)]
    found = layers(mine, root_namespace, namespace, pod)
    where: dict[str, Provenance] = {}
    policy = _policy(found, pod, where)
    accepted, by_order = _accepted(mine, root_namespace, pod, where)
    return Effective(
        policy=policy,
        budgets=Budgets(**{name: _safe(budget, found, where) for name, budget in safety.BUDGETS.items()}),
        accepted=accepted,
        accepted_by_order=by_order,
        actuators=_safe(safety.ACTUATOR, found, where),
        receivers=telling.receivers(mine, where),
        alert_labels=telling.labels(found, where),
        alert_repeat_s=telling.repeat_s(found, where),
        drill=drilling.resolve(found, pod, where),
        provenance=where,
        problems=_problems(mine, namespace),
    )


def _safe(wanted: safety.Safety[safety.T], found: tuple[Layer, ...], where: dict[str, Provenance]) -> safety.T:
    value, where[wanted.name] = safety.resolve(wanted, found)
    return value


def _policy(found: tuple[Layer, ...], pod: Bearing, where: dict[str, Provenance]) -> Policy:
    seconds, origins = timings.resolve(found)
    where.update({f"timings.{name}": origin for name, origin in origins.items()})
    ways = _safe(safety.DIRECTIONS, found, where)
    inbound, outbound = (_levels(way, ways, found, pod, where) for way in (Direction.INBOUND, Direction.OUTBOUND))
    return Policy(
        mode=_mode(found, where),
        inbound=inbound,
        outbound=outbound,
        expiry_s=seconds["expiry"],
        open_at_most_s=seconds["openAtMost"],
        hold_down_s=seconds["holdDown"],
        hold_down_max_s=seconds["holdDownMax"],
        thresholds=thresholds.resolve(found, seconds["recoverAfter"], where),
        dependencies={each: _safe(reaction, found, where) for each, reaction in safety.DEPENDENCIES.items()},
        stale_after_s=seconds["staleAfter"],
        certificate_ends_s=seconds["certificateEnds"],
    )


def _mode(found: tuple[Layer, ...], where: dict[str, Provenance]) -> Mode:
    """Without opting in, by label or by a policy of one's own, nobody is acted on."""
    mode, opt_in = _safe(safety.MODE, found, where), _safe(safety.OPT_IN, found, where)
    asked = any(layer.spec.mode is Mode.AUTO for layer in found if layer.tier is not Tier.MESH)
    if mode is not Mode.AUTO or opt_in == "all" or asked:
        return mode
    why = f"{where['mode'].source} gives auto, and neither the pod nor its namespace asks for it"
    notes = (*where["mode"].notes, why)
    where["mode"] = Provenance(Mode.OBSERVE, f"optIn {opt_in}", notes)
    return Mode.OBSERVE


def _levels(
    way: Direction, ways: frozenset[Direction], found: tuple[Layer, ...], pod: Bearing, where: dict[str, Provenance]
) -> tuple[Level, ...]:
    field_ = safety.LEVELS[way]
    levels = _safe(field_, found, where)
    if way not in ways:
        levels = _cut(field_, where, levels, {Level.RESCUE, Level.DIRECT}, where["directions"].source, "directions")
    if way is Direction.INBOUND and pod.knobs.trusts_proxy_headers is not False:
        why = f'needs the annotation {TRUSTS_PROXY_HEADERS}: "false"'
        levels = _cut(field_, where, levels, {Level.DIRECT}, THE_POD, why)
    return tuple(level for level in safety.ORDER if level in levels)


def _cut(
    field_: safety.Safety[frozenset[Level]],
    where: dict[str, Provenance],
    levels: frozenset[Level],
    gone: set[Level],
    source: str,
    why: str,
) -> frozenset[Level]:
    if not levels & gone:
        return levels
    before, left = where[field_.name], levels - gone
    lost = safety.shown_levels(levels & gone)
    notes = (*before.notes, f"{before.source} gives {before.value}", f"without {lost}: {why}")
    where[field_.name] = Provenance(safety.shown_levels(left), source, notes)
    return left


def _accepted(
    mine: Iterable[PolicyObject], root_namespace: str, pod: Bearing, where: dict[str, Provenance]
) -> tuple[frozenset[str], frozenset[str]]:
    """Codes accepted always, and those only by order. Asked of the place once more: no other namespace can accept."""
    always, by_order = set[str](), set[str]()
    for policy in mine:
        for entry in policy.spec.accept if policy.ref.namespace == root_namespace else ():
            if not (policy.may_accept(entry) and _speaks_of(entry, pod)):
                continue
            (by_order if entry.only_by_order else always).add(entry.code)
            how = "only by order" if entry.only_by_order else "accepted"
            name = f"accept.{entry.code}" + (" (by order)" if entry.only_by_order else "")
            others = (*where[name].notes, f"also by {where[name].source}") if name in where else ()
            where[name] = Provenance(how, str(policy.ref), (*others, entry.reason))
    return frozenset(always), frozenset(by_order)


def _speaks_of(entry: Acceptance, pod: Bearing) -> bool:
    here = not entry.namespaces or pod.ref.namespace in entry.namespaces
    return here and entry.selector.selects(pod.labels)


def _problems(mine: Iterable[PolicyObject], namespace: Bearing | None) -> tuple[Problem, ...]:
    said = () if namespace is None else (problem(namespace.ref, each) for each in namespace.knobs.problems)
    return (*(each for policy in mine for each in policy.problems), *said)


def with_problems(answer: Effective, pod: Bearing) -> Effective:
    """The pod's own added."""
    own = tuple(problem(pod.ref, each) for each in pod.knobs.problems)
    return replace(answer, problems=(*answer.problems, *own)) if own else answer
