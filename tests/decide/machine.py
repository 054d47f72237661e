"""The random walk: faults, recoveries, crashes, lies, orders and time, with every invariant looked at on the way."""

from __future__ import annotations

import contextlib
import random
from dataclasses import replace

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

import hotswitch.decide.engine as engine
from hotswitch.decide import diagnose
from hotswitch.decide.levels import ANSWERS
from hotswitch.model import Act, Decision, Direction, Fault, Level, Mode, Override, Policy, Supply
from tests.decide.forgery import forged_facts
from tests.decide.invariants import (
    TOLD,
    Breach,
    Flow,
    check_always,
    check_decisions,
    check_gate,
    check_new_flows,
    hold,
)
from tests.decide.world import POLICIES, UNSEEN_NAMES, App, Pod, Proxy, Refused, World

PODS = st.integers(0, 3)
MOMENTS = st.sampled_from((0.0005, 0.1, 0.3, 0.6, 1.2, 2.5, 12.0))
WAITS = st.sampled_from((31.0, 61.0, 160.0, 301.0, 4000.0))
MOSTLY_NOT = st.sampled_from((False, False, False, True))
SUPPLIES = st.sampled_from(
    (None, Supply(100.0), Supply(100.0, ("x",), 1e4, ("listeners",), ("default",), 5.0), Supply(100.0, ("x",), 1.0))
)
LEVELS = st.sampled_from((*Level, None))
BROKEN = st.sampled_from([proxy for proxy in Proxy if proxy is not Proxy.WELL])
LIKELY = st.sampled_from([Proxy.DEAD, Proxy.DEAD, Proxy.HUNG, Proxy.DUMPING, Proxy.HALF_STUCK, Proxy.BARE])


class Mesh(RuleBasedStateMachine):
    """After every rule that lets time pass, the living agent steps each pod, and each step is looked at."""

    def __init__(self) -> None:
        super().__init__()
        self.world = World()
        self.acts_until_crash: int | None = None

    @initialize(policies=st.tuples(*[st.sampled_from(POLICIES)] * 4), budgets=st.sampled_from([(2, 1), (1, 1), (4, 2)]))
    def install(self, policies: tuple[Policy, ...], budgets: tuple[int, int]) -> None:
        self.world.node_budget, self.world.workload_budget = budgets
        for pod, policy in zip(self.world.pods, policies, strict=True):
            pod.policy = policy

    # ---- what happens to pods ----

    @rule(place=PODS, proxy=LIKELY, wait_s=MOMENTS)
    def breaks(self, place: int, proxy: Proxy, wait_s: float) -> None:
        self._becomes(place, proxy, wait_s)

    @rule(place=PODS, proxy=BROKEN, wait_s=MOMENTS)
    def breaks_oddly(self, place: int, proxy: Proxy, wait_s: float) -> None:
        self._becomes(place, proxy, wait_s)

    @rule(place=PODS, wait_s=MOMENTS)
    def recovers(self, place: int, wait_s: float) -> None:
        self._becomes(place, Proxy.WELL, wait_s)

    @rule(place=PODS, proxy=LIKELY, at_first_s=MOMENTS, then_s=MOMENTS)
    def breaks_and_recovers(self, place: int, proxy: Proxy, at_first_s: float, then_s: float) -> None:
        self._becomes(place, proxy, 1.2)
        self._becomes(place, Proxy.WELL, at_first_s)
        self.wait(then_s)

    @rule(place=PODS, wait_s=WAITS)
    def closes_down_and_dies(self, place: int, wait_s: float) -> None:
        self._becomes(place, Proxy.CLOSING, 0.6)
        self._becomes(place, Proxy.DEAD, 1.2)
        self.wait(wait_s)

    @rule(place=PODS, proxy=LIKELY)
    def breaks_while_terminating(self, place: int, proxy: Proxy) -> None:
        pod = self.world.pods[place]
        pod.terminating = True
        self._becomes(place, proxy, 1.2)
        pod.terminating = False

    def _becomes(self, place: int, proxy: Proxy, wait_s: float) -> None:
        pod = self.world.pods[place]
        pod.proxy, pod.since_s = proxy, self.world.now_s
        self.wait(wait_s)

    @rule(place=PODS, proxy=st.sampled_from((Proxy.DRAINED, Proxy.DRAINED_INBOUND, Proxy.WELL)), wait_s=MOMENTS)
    def drained_by_a_command(self, place: int, proxy: Proxy, wait_s: float) -> None:
        pod = self.world.pods[place]
        pod.exec_ends = True
        self._becomes(place, proxy, 0.0005)
        self.wait(0.1)
        pod.exec_ends = False
        self.wait(wait_s)

    @rule(place=PODS, app=st.sampled_from((App.WELL, *App)), wait_s=MOMENTS)
    def app_changes(self, place: int, app: App, wait_s: float) -> None:
        pod = self.world.pods[place]
        pod.app, pod.app_since_s = app, self.world.now_s
        self.wait(wait_s)

    @rule(place=PODS, terminating=MOSTLY_NOT, ever_ready=st.booleans())
    def life_changes(self, place: int, terminating: bool, ever_ready: bool) -> None:
        """`ever_ready`: what observe/ remembers; the agent may remember more."""
        pod = self.world.pods[place]
        pod.terminating, pod.ever_ready = terminating, ever_ready

    @rule(place=PODS, proxy=LIKELY)
    def is_replaced_and_breaks(self, place: int, proxy: Proxy) -> None:
        old = self.world.pods[place]
        new = Pod(old.name, old.workload, since_s=self.world.now_s, ever_ready=False, policy=old.policy)
        self.world.pods[place] = new
        self.wait(0.3)
        self._becomes(place, proxy, 1.2)

    @rule(
        place=PODS, identity_s=st.sampled_from((None, -1.0, 5.0, 1e9)), certificate_s=st.sampled_from((-1.0, 1e9, 1e9))
    )
    def certificates_change(self, place: int, identity_s: float | None, certificate_s: float) -> None:
        pod, now_s = self.world.pods[place], self.world.now_s
        pod.identity_until_s = None if identity_s is None else now_s + identity_s
        pod.certificate_until_s = now_s + certificate_s

    @rule(place=PODS, supply=SUPPLIES)
    def supplies_change(self, place: int, supply: Supply | None) -> None:
        self.world.pods[place].supply = supply
        self._pass(0.01)

    @rule(place=PODS, alive=st.booleans(), deaths=st.integers(0, 2), foreign_nat=MOSTLY_NOT)
    def capabilities_change(self, place: int, alive: bool, deaths: int, foreign_nat: bool) -> None:
        pod = self.world.pods[place]
        pod.rescue, pod.rescue_deaths, pod.foreign_nat = alive, deaths, foreign_nat
        self.wait(0.3)

    @rule(place=PODS, policy=st.sampled_from(POLICIES))
    def policy_changes(self, place: int, policy: Policy) -> None:
        self.world.pods[place].policy = policy
        self.wait(0.3)

    @rule(place=PODS, proxy=LIKELY, policy=st.sampled_from(POLICIES))
    def policy_changes_while_broken(self, place: int, proxy: Proxy, policy: Policy) -> None:
        self._becomes(place, proxy, 1.2)
        self.policy_changes(place, policy)

    # ---- what happens to the agent ----

    @rule(place=PODS, blind=st.frozensets(st.sampled_from(UNSEEN_NAMES), max_size=3))
    def partly_blind(self, place: int, blind: frozenset[str]) -> None:
        self.world.pods[place].blind = blind

    @rule(place=PODS, seed=st.integers(0, 2**32))
    def lied_to(self, place: int, seed: int) -> None:
        pod = self.world.pods[place]
        pod.forged = forged_facts(random.Random(seed), self.world.now_s)
        self.wait(0.05)
        pod.forged = None

    @rule(place=PODS, inbound=LEVELS, outbound=LEVELS, for_s=st.sampled_from((1.0, 60.0, 1000.0, float("inf"))))
    def is_ordered(self, place: int, inbound: Level | None, outbound: Level | None, for_s: float) -> None:
        wanted = {Direction.INBOUND: inbound, Direction.OUTBOUND: outbound}
        levels = {direction: level for direction, level in wanted.items() if level is not None}
        pod = self.world.pods[place]
        order = Override(levels, self.world.now_s + for_s, "because", "ada")
        pod.standing = replace(pod.standing, override=order if levels else None)

    @rule(acts=st.integers(0, 2))
    def agent_will_crash(self, acts: int) -> None:
        """In the middle of carrying out what the next step decides, after so many acts."""
        self.acts_until_crash = acts

    @rule(wait_s=WAITS)
    def agent_is_away(self, wait_s: float) -> None:
        self.world.crash_agent()
        self.wait(wait_s)
        self.world.start_agent()
        self._pass(0.0)

    @rule(restarts=MOSTLY_NOT, wait_s=MOMENTS)
    def agent_restarts(self, restarts: bool, wait_s: float) -> None:
        """Not too often: what it remembers is half of what is tested."""
        if restarts:
            self.world.start_agent()
            self._pass(0.0)
        self.wait(wait_s)

    @rule(place=PODS, which=st.integers(0, 50))
    def late_repeat(self, place: int, which: int) -> None:
        """A deposed agent's decision arrives again (I6)."""
        pod = self.world.pods[place]
        if pod.sent:
            before = replace(pod.gate)
            with contextlib.suppress(Refused):
                pod.gate.tell(pod.sent[which % len(pod.sent)], self.world.now_s)
            hold("I6", before == pod.gate, "a repeat was carried out")

    # ---- time ----

    @rule(wait_s=MOMENTS)
    def wait(self, wait_s: float) -> None:
        self._pass(wait_s)

    @rule(wait_s=WAITS)
    def wait_long(self, wait_s: float) -> None:
        self._pass(wait_s)

    def _pass(self, wait_s: float) -> None:
        """An agent that crashes is started anew at once, and begins with the first pod again."""
        self.world.pass_time(wait_s)
        if self.world.agent_alive:
            while not all(self._step(pod) for pod in self.world.pods):
                self.world.start_agent()
            self.world.last_alive_s = self.world.now_s

    def _step(self, pod: Pod) -> bool:
        """False when the agent crashed before the last act."""
        view = self.world.view(pod)
        pod.looks_faulty = diagnose(view.facts, view.policy.thresholds).fault in ANSWERS
        self._watch_closing(pod)
        pod.known_ready = pod.known_ready or (view.facts.ever_ready and view.policy.mode is not Mode.OFF)
        before: list[Flow] = list(pod.gate.flows())
        standing, decisions = engine.step(view)
        check_decisions(self.world, pod, view, standing, decisions)
        if not self._carry_out(pod, decisions):
            return False
        check_new_flows(self.world, pod, view, before, standing)
        check_gate(self.world, pod, view, standing)
        if pod.standing.fault is not Fault.WELL and standing.fault is Fault.WELL:
            pod.last_end_s = self.world.now_s
        pod.standing = standing
        again, nothing = engine.step(replace(view, standing=standing))
        hold("I6", not nothing and again == standing, f"a second step does {[d.code for d in nothing]}")
        return True

    def _watch_closing(self, pod: Pod) -> None:
        """What the agent cannot but have seen: a well pod's proxy that closes down, in plain sight."""
        plain = pod.forged is None and not pod.blind and pod.ever_ready and pod.app is App.WELL
        seen = plain and self.world.now_s - pod.since_s >= 0.3 and pod.certificate_until_s > self.world.now_s
        lasting = pod.proxy in {Proxy.DEAD, Proxy.CLOSING} and self.world.now_s - pod.closed_down_s <= 300.0
        if pod.forged or pod.policy.mode is Mode.OFF or not (lasting or pod.proxy is Proxy.CLOSING):
            pod.closing = False
        elif pod.proxy is Proxy.CLOSING and seen and pod.standing.fault is Fault.WELL and not pod.standing.rebuilt:
            pod.closing, pod.closed_down_s = True, self.world.now_s

    def _carry_out(self, pod: Pod, decisions: tuple[Decision, ...]) -> bool:
        for decision in decisions:
            if decision.act not in TOLD:
                continue
            if self.acts_until_crash == 0:
                self.acts_until_crash = None
                return False
            self._tell(pod, decision)
            if self.acts_until_crash:
                self.acts_until_crash -= 1
        return True

    def _tell(self, pod: Pod, decision: Decision) -> None:
        try:
            pod.gate.tell(decision, self.world.now_s)
        except Refused as refusal:
            raise Breach(f"I6: a fresh decision was refused: {refusal}") from refusal
        pod.sent.append(decision)
        hold("I4", decision.act is not Act.CLOSE or not pod.gate.is_open, "something is open after a close")

    @invariant()
    def nothing_outlives_its_end(self) -> None:
        check_always(self.world)
