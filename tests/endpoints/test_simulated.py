"""Never two, never back: searched for in simulated time, clocks differ and messages come late (I6, I7)."""

from __future__ import annotations

import os
import random

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from tests.endpoints.simulated import Pod, Unseen, World

pytestmark = pytest.mark.unit
DELAYS = st.sampled_from([0.0, 0.001, 0.05, 0.9, 2.5, 4.9, 7.0, 20.0])
STANDS = st.sampled_from([0.0, 1.2, 2.0, 5.0])  # s
WHICH = st.integers(0, 2)
TWO_HOURS_S = 7200.0


class Election(RuleBasedStateMachine):
    """Anything in any order. Nothing here is fair: that it goes on is the matter of the long runs below."""

    @initialize(seed=st.integers(0, 2**32))
    def begin(self, seed: int) -> None:
        self.world = World(seed)

    @rule(seconds=st.sampled_from([0.001, 0.1, 0.7, 2.0, 5.4, 13.0, 16.0]))
    def time_passes(self, seconds: float) -> None:
        self.world.pass_time(seconds)

    @rule(which=WHICH, delay_s=DELAYS)
    def a_controller_renews(self, which: int, delay_s: float) -> None:
        self.world.controllers[which % 2].renew(delay_s)

    @rule(which=WHICH, delay_s=DELAYS, loses_answer=st.booleans())
    def a_controller_works(self, which: int, delay_s: float, loses_answer: bool) -> None:
        self.world.controllers[which % 2].work(delay_s, loses_answer=loses_answer)

    @rule(which=WHICH)
    def a_controller_is_killed(self, which: int) -> None:
        self.world.kill(self.world.controllers[which % 2])

    @rule(which=WHICH, whom=WHICH, there_s=DELAYS, back_s=DELAYS, stands_s=STANDS)
    def a_pod_asks(self, which: int, whom: int, there_s: float, back_s: float, stands_s: float) -> None:
        self.world.ask(self.world.pods[which], self.world.controllers[whom % 2], there_s, back_s, stands_s)

    @rule(which=WHICH, well=st.booleans())
    def an_app_falls_ill_or_gets_well(self, which: int, well: bool) -> None:
        self.world.pods[which].is_well = well

    @rule(which=WHICH)
    def a_keeper_is_started_anew(self, which: int) -> None:
        self.world.restart_keeper(self.world.pods[which])

    @rule(which=WHICH)
    def a_pod_is_deleted_by_force_and_nobody_sees_it(self, which: int) -> None:
        self.world.delete_by_force(self.world.pods[which])

    @rule(which=WHICH)
    def things_go_well_for_a_moment(self, which: int) -> None:
        """So that runs get further than a first election."""
        controller = self.world.controllers[which % 2]
        controller.renew(0.0)
        self.world.pass_time(0.01)
        for _ in range(3):
            controller.work(0.0)
            self.world.pass_time(0.01)
            for pod in self.world.pods:
                self.world.ask(pod, controller, 0.001, 0.001)
            self.world.pass_time(0.01)

    @invariant()
    def one_at_most_and_never_back(self) -> None:
        if hasattr(self, "world"):
            assert self.world.breach == ""


TestElection = Election.TestCase
TestElection.settings = settings(
    max_examples=int(os.environ.get("HOTSWITCH_EXAMPLES", "60")),
    stateful_step_count=60,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)


def days_work(seed: int, seconds: float, tick_s: float = 0.25) -> World:
    """Everything works, but for what is broken for a while; the last quarter of each ten minutes is quiet."""
    world, chance = World(seed), random.Random(seed + 1)
    frozen: dict[object, float] = {}
    while world.now.s < seconds and not world.breach:
        quiet = world.now.s % 600 > 450
        if not quiet and chance.random() < 0.02:
            _break_something(world, chance, frozen)
        if quiet:
            frozen.clear()
            for pod in world.pods:
                pod.is_well = True
        _work(world, chance, frozen)
        world.pass_time(tick_s)
    return world


def _break_something(world: World, chance: random.Random, frozen: dict[object, float]) -> None:
    pod: Pod = chance.choice(world.pods)
    match chance.choice(("ill", "keeper", "controller", "killed", "restarted", "deleted")):
        case "ill":
            pod.is_well = not pod.is_well
        case "keeper":
            frozen[pod] = world.now.s + chance.uniform(1, 40)
        case "controller":
            frozen[chance.choice(world.controllers)] = world.now.s + chance.uniform(1, 40)
        case "killed":
            world.kill(chance.choice(world.controllers))
        case "restarted":
            world.restart_keeper(pod)
        case "deleted":
            world.delete_by_force(pod)


def _work(world: World, chance: random.Random, frozen: dict[object, float]) -> None:
    def slow() -> float:
        return chance.choice((0.001, 0.01, 0.05, 3.0)) if chance.random() < 0.05 else 0.002

    for controller in world.controllers:
        if frozen.get(controller, 0.0) <= world.now.s:
            if chance.random() < 0.1:
                controller.renew(slow())
            controller.work(slow(), loses_answer=chance.random() < 0.02)
    for pod in world.pods:
        if frozen.get(pod, 0.0) <= world.now.s:
            for controller in world.controllers:
                world.ask(pod, controller, slow(), slow(), chance.choice((0.0, 0.0, 1.2, 2.0)))


@pytest.mark.parametrize("seed", range(int(os.environ.get("HOTSWITCH_SIMULATIONS", "3"))))
def test_two_hours_of_faults(seed: int) -> None:  # S0.6, S0.7
    world = days_work(seed, TWO_HOURS_S)
    assert world.breach == ""
    assert world.generations[-1] > 20, "failovers happen"
    assert world.served_s > TWO_HOURS_S * 0.6, f"somebody served for {world.served_s:.0f} s only"


def test_without_waiting_for_the_lease_two_would_serve(monkeypatch: pytest.MonkeyPatch) -> None:
    """The search finds what it is there to find."""
    monkeypatch.setattr("hotswitch.endpoints.fences.over_s", lambda told_s, ttl_s: told_s)
    assert any(days_work(seed, TWO_HOURS_S).breach for seed in range(5))


def test_a_pod_that_went_unseen_taken_for_gone_would_serve_beside_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Unseen, "was_seen", lambda self, backend: True)
    assert any(days_work(seed, TWO_HOURS_S).breach for seed in range(5))


def test_a_clock_that_is_off_by_more_than_the_bound_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """The margin for clocks is needed: with none, and clocks as far apart as is allowed, two serve."""
    monkeypatch.setattr("hotswitch.endpoints.fences.over_s", lambda told_s, ttl_s: told_s + ttl_s * 0.7)
    assert any(days_work(seed, TWO_HOURS_S).breach for seed in range(5))
