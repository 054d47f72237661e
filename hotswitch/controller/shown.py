"""What the decider is shown of one pod: witnesses, means, what it remembers, what happens around it (S4.2, I2). Pure.

Two may disagree about what a pod allows: its settings, and the actuator that would have to do it. Only what both allow
is shown as possible; what is open already keeps its level, for the decider to judge.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from hotswitch.act.order import Ability, Truth
from hotswitch.controller.means import Protection
from hotswitch.controller.seen import SeenPod
from hotswitch.decide.agree import Witnesses, agree
from hotswitch.model import (
    Capabilities,
    Diagnosis,
    Direction,
    Facts,
    Fault,
    Grade,
    Level,
    Mode,
    Policy,
    Standing,
    Surroundings,
    View,
)

LIKELY_IDENTITY_S = 12 * 3600.0  # Istio renews at half of a life of 24 h


@dataclass(frozen=True, slots=True, kw_only=True)
class Sight:
    """One look at one pod. `afar`: what the central prober heard; `able`: what the actuator can do, and the truth it
    read. `standing`: reconciled with that truth."""

    now_s: float
    pod: SeenPod
    protection: Protection
    able: Ability
    afar: Facts | None
    standing: Standing

    @property
    def truth(self) -> Truth | None:
        return self.able.truth


def view(sight: Sight, surroundings: Surroundings) -> View:
    able, protection = sight.able, sight.protection
    policy = _within_ability(protection.policy, able, sight.standing)
    if able.actuator and able.actuator not in protection.actuators:  # of the status: it may only close (I2)
        policy = replace(policy, inbound=(Level.HOLD,), outbound=(Level.HOLD,))
    return View(
        now_s=sight.now_s,
        pod=sight.pod.ref,
        policy=policy,
        facts=_facts(sight),
        standing=sight.standing,
        capabilities=_capabilities(protection.policy, able),
        surroundings=surroundings,
    )


def _facts(sight: Sight) -> Facts:
    pod, truth, now_s = sight.pod, sight.truth, sight.now_s
    beside = None if truth is None else truth.diagnosis
    judged = judge(pod, sight.protection.policy, beside, sight.afar, now_s)
    near_ready = beside is not None and beside.fault not in (Fault.STARTING, Fault.UNKNOWN)
    return Facts(
        at_s=now_s,
        probes=() if sight.afar is None else sight.afar.probes,
        path_passes=None if truth is None else truth.path_passes,
        app_ports=pod.app_ports,
        identity_expires_in_s=_identity_s(sight.protection.policy, truth),
        container_running=pod.container.running,
        ever_ready=pod.life.ever_ready or near_ready,
        terminating=bool(pod.life.terminating),
        judged=judged,
    )


def judge(pod: SeenPod, policy: Policy, beside: Diagnosis | None, afar: Facts | None, now_s: float) -> Diagnosis:
    """What all observers agree on, the one beside the proxy among them."""
    if pod.life.app_down:
        return Diagnosis(Fault.APP_SICK, Grade.CONFIRMED, pod.life.app_down, {"status": pod.life.app_down}, now_s)
    return agree(Witnesses(now_s, pod.container, afar, beside), policy.thresholds)


def _capabilities(policy: Policy, able: Ability) -> Capabilities:
    """Who only observes says what would be done by somebody who could."""
    if policy.mode is not Mode.AUTO and not able.actuator:
        return Capabilities(gate=True, rescue=True)
    return Capabilities(
        gate=not able.refusal,
        gate_refusal=able.refusal,
        rescue=not able.rescue_refusal and not able.refusal,
        rescue_refusal=able.rescue_refusal,
        rescue_deaths=able.rescue_deaths,
    )


def _identity_s(policy: Policy, truth: Truth | None) -> float | None:
    if truth is not None:
        return truth.identity_expires_in_s
    return None if policy.mode is Mode.AUTO else LIKELY_IDENTITY_S


def _within_ability(policy: Policy, able: Ability, standing: Standing) -> Policy:
    """Levels that the actuator does not know are not tried; what is open keeps its level, for the decider to judge."""
    if policy.mode is not Mode.AUTO or able.refusal or not able.levels:
        return policy
    levels = {way: _known(way, _listed(policy, way), able, standing) for way in Direction}
    return replace(policy, inbound=levels[Direction.INBOUND], outbound=levels[Direction.OUTBOUND])


def _listed(policy: Policy, way: Direction) -> tuple[Level, ...]:
    return policy.inbound if way is Direction.INBOUND else policy.outbound


def _known(way: Direction, listed: tuple[Level, ...], able: Ability, standing: Standing) -> tuple[Level, ...]:
    kept = tuple(
        level for level in listed
        if level is Level.HOLD or able.can(way, level) or standing.levels.get(way) is level or level is Level.RESCUE
    )  # fmt: skip
    return kept or (Level.HOLD,)
