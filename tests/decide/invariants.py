"""The invariants I1 to I6, as they can be seen from outside: from a view, what was decided on it, and the gate.

Written without looking at how decide/ works: only the model's words are shared. Each breach begins with the name of the
invariant.
"""

from __future__ import annotations

from collections.abc import Iterable

from hotswitch.decide import MEANING
from hotswitch.model import (
    Act,
    Decision,
    Direction,
    Facts,
    Level,
    Mode,
    Mtls,
    ProbeOutcome,
    Standing,
    Tripwire,
    View,
)
from tests.decide.world import Gate, Pod, World

PROXY = frozenset({15000, 15001, 15006, 15021, 15090})
TOLD = frozenset({Act.OPEN, Act.RENEW, Act.CLOSE, Act.CUT})
NO_ANSWER = frozenset({ProbeOutcome.REFUSED, ProbeOutcome.RESET, ProbeOutcome.TIMEOUT})
SLACK_S = 1e-6
Flow = tuple[Direction, int, Level]


class Breach(AssertionError):
    """An invariant does not hold."""


def hold(invariant: str, holds: bool, text: str) -> None:
    if not holds:
        raise Breach(f"{invariant}: {text}")


# ---- what can be known from facts ----


def app_is_gone(facts: Facts) -> bool:
    return app_listens_nowhere(facts) or (facts.path is not None and facts.path.direct in NO_ANSWER)


def app_listens_nowhere(facts: Facts) -> bool:
    """By a dump of now; a terminating pod's app goes away as it should."""
    dump = facts.listeners
    if dump is None or facts.at_s - dump.at_s > 1.0 or facts.terminating or not facts.ever_ready:
        return False
    return bool(facts.app_ports) and not facts.app_ports & dump.ports


def newest(facts: Facts) -> ProbeOutcome | None:
    said = [probe.outcome for probe in facts.probes if probe.outcome is not ProbeOutcome.INVALID]
    return said[-1] if said else None


def drained(facts: Facts) -> bool:
    """Refused, and something of the proxy still listens."""
    listening = facts.listeners.ports & PROXY if facts.listeners else frozenset()
    refused = facts.tripwire is Tripwire.REFUSED and newest(facts) is ProbeOutcome.REFUSED
    return refused and bool(listening) and not facts.pressure.dumping and not dying(facts)


def dying(facts: Facts) -> bool:
    gone = facts.listeners is not None and not facts.listeners.ports & {15000, 15001, 15006}
    cut = facts.tripwire_cut_s is not None and facts.at_s - facts.tripwire_cut_s <= 1.0
    doomed = facts.envoy_doomed_s is not None and facts.at_s - facts.envoy_doomed_s <= 1.0
    admin = facts.admin_closed_s is not None and facts.at_s - facts.admin_closed_s <= 1.1
    return doomed or (facts.proxy_exiting and gone) or (cut and (facts.envoy_exiting or admin))


def only_slow(facts: Facts) -> bool:
    squeezed = facts.pressure.explains_slowness and not facts.pressure.dumping
    expired = facts.proxy_certificate_expires_in_s is not None and facts.proxy_certificate_expires_in_s <= 0
    silent = newest(facts) is ProbeOutcome.TIMEOUT and facts.tripwire is Tripwire.HELD
    return squeezed and silent and not (expired or dying(facts))


def only_busy(facts: Facts) -> bool:
    """Every worker is at work, and no queue has stood for long."""
    stood_s = max((queue.stuck_s for queue in facts.listeners.queues), default=0.0) if facts.listeners else 0.0
    busy = facts.pressure.still_workers == 0 and not (facts.pressure.stopped or facts.pressure.dumping)
    expired = facts.proxy_certificate_expires_in_s is not None and facts.proxy_certificate_expires_in_s <= 0
    blamed = facts.path is not None and facts.path.blames_proxy
    silent = newest(facts) is ProbeOutcome.TIMEOUT and facts.tripwire is Tripwire.HELD
    return busy and stood_s < 2.0 and silent and not (expired or blamed or dying(facts))


def nothing_is_wrong(facts: Facts) -> bool:
    """Every source says well, or nothing."""
    stuck = any(queue.stuck_s > 0 for queue in facts.listeners.queues) if facts.listeners else False
    expired = facts.proxy_certificate_expires_in_s is not None and facts.proxy_certificate_expires_in_s <= 0
    blamed = facts.path is not None and facts.path.blames_proxy
    answers = newest(facts) in {ProbeOutcome.OK, None} and facts.tripwire in {Tripwire.HELD, Tripwire.UNARMED}
    return answers and not (stuck or expired or blamed or facts.pressure.dumping or dying(facts))


def second_source(facts: Facts) -> bool:
    blamed = facts.path is not None and facts.path.blames_proxy
    return facts.container_running is False or facts.pressure.dumping or facts.pressure.stopped or blamed


# ---- one step ----


def ordered(view: View, standing: Standing, direction: Direction) -> bool:
    order = standing.override
    return order is not None and view.now_s < order.until_s and direction in order.levels


def check_decisions(world: World, pod: Pod, view: View, standing: Standing, decisions: tuple[Decision, ...]) -> None:
    gate_acts = [decision for decision in decisions if decision.act in TOLD - {Act.CUT}]
    hold("I5", len(gate_acts) <= 1, f"{len(gate_acts)} changes of the gate in one step")
    last = int(view.standing.generation)
    for decision in decisions:
        hold("I4", decision.code in MEANING and bool(decision.sentence), f"no code or reason: {decision}")
        if decision.act in TOLD:
            hold("I6", decision.generation > last, f"{decision.code} repeats generation {last}")
            last = int(decision.generation)
        if decision.act in {Act.OPEN, Act.RENEW}:
            _check_opening(world, pod, view, decision)
        if decision.code == "HSD010":
            _check_restore(view)
    hold("I6", standing.generation == last, "the standing is of another generation than its acts")


def _check_opening(world: World, pod: Pod, view: View, decision: Decision) -> None:
    policy, until_s = view.policy, view.now_s + decision.expiry_s
    hold("I1", 0 < decision.expiry_s <= policy.expiry_s + SLACK_S, f"expiry {decision.expiry_s} of {policy.expiry_s}")
    hold("I5", set(decision.openings) == set(Direction), "an opening that does not state the whole gate")
    opened_s = max(pod.gate.opened_s, world.agent_since_s) if pod.gate.is_open else view.now_s
    hold("I4", until_s <= opened_s + policy.open_at_most_s + SLACK_S, f"open until {until_s}, since {opened_s}")
    hold("I2", policy.mode is Mode.AUTO, f"opened in mode {policy.mode}")


def _check_restore(view: View) -> None:
    facts, thresholds = view.facts, view.policy.thresholds
    proven = facts.path_passes is None or facts.path_passes >= thresholds.recover_probes
    hold("I4", proven or not view.standing.is_open, f"restored after {facts.path_passes} passes end to end")
    hold("I4", newest(facts) is ProbeOutcome.OK, "restored while the proxy is not well")


# ---- the kernel, before and after the acts ----


def check_new_flows(world: World, pod: Pod, view: View, before: Iterable[Flow], standing: Standing) -> None:
    old = set(before)
    new = [flow for flow in pod.gate.flows() if flow not in old]
    if not new:
        return
    facts = view.facts
    hold("I2", not facts.terminating, "opened on a terminating pod")
    hold("I2", facts.ever_ready or pod.known_ready, "opened on a pod that was never ready")
    hold("I2", not app_is_gone(facts), "opened although the app is the sick one")
    hold("I2", not pod.closing, "opened on a proxy that had closed down before it died")
    hold("I2", view.capabilities.gate, "opened a gate that refuses")
    hold("I2", view.policy.mode is Mode.AUTO, f"opened in mode {view.policy.mode}")
    if not old:
        _check_budget(world, pod)
    for direction, _, level in new:
        if level is Level.RESCUE:
            _check_rescue(view)
        if not ordered(view, standing, direction):
            stood_s = None if pod.forged else world.now_s - pod.since_s
            _check_evidence(view, direction, level, stood_s)


def _check_budget(world: World, pod: Pod) -> None:
    on_node = sum(other.gate.is_open for other in world.others(pod))
    of_workload = sum(other.gate.is_open for other in world.siblings(pod))
    hold("I3", on_node < world.node_budget, f"{on_node} others are open on the node")
    hold("I3", of_workload < world.workload_budget, f"{of_workload} others are open of the workload")


def _check_rescue(view: View) -> None:
    left_s = view.facts.identity_expires_in_s
    hold("I2", left_s is not None and left_s > 0, f"rescued with an identity that lasts {left_s}")
    hold("I2", view.capabilities.rescue, "rescued where no rescue listens")
    hold("I2", view.capabilities.rescue_deaths < 2, "rescued though the rescue died twice")


def _check_evidence(view: View, direction: Direction, level: Level, stood_s: float | None) -> None:
    facts, around = view.facts, view.surroundings
    mass = around.pods_on_node >= 4 and around.faulty_on_node * 2 > around.pods_on_node
    hold("I3", not mass, f"opened while {around.faulty_on_node} of {around.pods_on_node} look sick")
    hold("I2", not nothing_is_wrong(facts), "opened though nothing was seen to be wrong")
    hold("I2", not drained(facts), "opened on a drained proxy")
    hold("I2", not only_slow(facts), "opened on a proxy that is only slow")
    hold("I2", not only_busy(facts), "opened on a proxy that has much to do")
    if level is Level.DIRECT and direction is Direction.INBOUND:
        hold("I2", second_source(facts), "direct inbound on a single source")
        hold("I2", stood_s is None or stood_s >= 0.25, f"direct inbound {stood_s} s after the fault")


def check_gate(world: World, pod: Pod, view: View, standing: Standing) -> None:
    """What holds of the gate after every step, whatever was decided."""
    gate, policy = pod.gate, view.policy
    hold("I4", policy.mode is Mode.AUTO or not gate.is_open, f"open in mode {policy.mode}")
    facts = view.facts
    hold("I2", not (gate.is_open and app_listens_nowhere(facts)), "still open for an app that is gone")
    for direction, port, level in gate.flows():
        listed = policy.inbound if direction is Direction.INBOUND else policy.outbound
        hold("I2", level in listed, f"{direction} {level} is not listed")
        if direction is Direction.INBOUND and level is Level.DIRECT:
            strict = policy.mtls_on(port) is Mtls.STRICT and not policy.strict_granted
            hold("I2", not strict, f"plaintext on STRICT port {port}")
            hold("I2", port not in policy.never_direct, f"direct on port {port}, which the preflight refuses")
        if level is Level.DIRECT and not ordered(view, standing, direction):
            free = direction is Direction.OUTBOUND and policy.outbound_free
            hold("I3", free or not _induced(world, pod, standing), f"{direction} direct in an induced episode")
    _check_same(gate, standing)


def _induced(world: World, pod: Pod, standing: Standing) -> bool:
    began_s = standing.fault_since_s
    if began_s is None:
        return False
    again = pod.last_end_s <= began_s < pod.last_end_s + 30.0
    others = [at for other in world.siblings(pod) for at in other.standing.recent_faults_s]
    return again or any(abs(at - began_s) <= 60.0 for at in others)


def _check_same(gate: Gate, standing: Standing) -> None:
    hold("I6", gate.is_open == standing.is_open, "the standing and the kernel disagree on whether it is open")
    if gate.is_open and standing.expires_s is not None:
        hold(
            "I6", abs(gate.expires_s - standing.expires_s) < SLACK_S, "the standing and the kernel disagree on the end"
        )
    hold("I4", not gate.is_open or standing.expires_s is not None, "open without an end")


def check_always(world: World) -> None:
    """I1: at no instant is a gate open past its end, or for longer than an expiry after the agent's last breath."""
    longest_s = max(pod.policy.expiry_s for pod in world.pods)
    longest_s = max(longest_s, 300.0)  # the policy it was opened under may have been a longer one
    for pod in world.pods:
        hold("I1", not pod.gate.is_open or world.now_s < pod.gate.expires_s, "open past its expiry")
        silent_s = world.now_s - world.last_alive_s
        hold("I1", not pod.gate.is_open or silent_s <= longest_s, f"open {silent_s} s after the agent died")
