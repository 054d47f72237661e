"""Whole switches, step by step in simulated time: opened, renewed, degraded, restored (S4.4, S4.5, I1 to I6)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import pytest

from hotswitch.decide import MEANING, Code, step
from hotswitch.model import (
    Act,
    Capabilities,
    Decision,
    Direction,
    Facts,
    Fault,
    Generation,
    Level,
    Mode,
    Mtls,
    Opening,
    Override,
    PathComparison,
    Policy,
    Pressure,
    Standing,
    Surroundings,
)
from tests.decide.scenes import (
    AUTO,
    EVERYTHING,
    NOW,
    OK,
    PROXY_PORTS,
    RESCUE_READY,
    TIMEOUT,
    UNREADY,
    both,
    codes,
    dead,
    dump,
    hung,
    probes,
    view,
    well,
)

pytestmark = pytest.mark.unit

RESCUE, DIRECT, HOLD, CAPTURE = Level.RESCUE, Level.DIRECT, Level.HOLD, Level.CAPTURE
NO_RESCUE = Capabilities(rescue=False)
Scene = Callable[[float], Facts]


@dataclass
class Pod:
    """One pod through time: each step is taken twice, and the second must do nothing (I6)."""

    policy: Policy = AUTO
    capabilities: Capabilities = RESCUE_READY
    surroundings: Surroundings = field(default_factory=Surroundings)
    standing: Standing = field(default_factory=Standing)
    now_s: float = NOW

    def see(self, scene: Scene, after_s: float = 0.0) -> list[str]:
        return codes(self.decide(scene, after_s))

    def decide(self, scene: Scene, after_s: float = 0.0) -> tuple[Decision, ...]:
        self.now_s += after_s
        now = view(
            scene(self.now_s),
            self.standing,
            policy=self.policy,
            capabilities=self.capabilities,
            surroundings=self.surroundings,
        )
        self.standing, decisions = step(now)
        assert step(replace(now, standing=self.standing)) == (self.standing, ())
        return decisions

    def recovers(self, after_s: float = 0.0) -> list[str]:
        return [*self.see(well, after_s), *self.see(well, 1.1)]


def dead_for_sure(at_s: float) -> Facts:
    return dead(at_s, container_running=False)


def test_sidecar_dies() -> None:  # S4.4
    pod = Pod()
    opened, *rest = pod.decide(dead)
    assert (opened.act, opened.code, opened.generation) == (Act.OPEN, Code.OPENED, 1)
    assert opened.openings == {Direction.INBOUND: Opening(RESCUE), Direction.OUTBOUND: Opening(DIRECT)}
    assert opened.expiry_s == AUTO.expiry_s and not rest  # I4: an owner, a reason, a generation, an expiry
    assert opened.sentence == "opened inbound to the rescue, outbound direct, for 300 s: " + (
        "the proxy is dead: none of its ports listens"
    )
    assert opened.evidence["fault"] == "dead" and opened.evidence["listening"] == "none"
    assert pod.standing.fault is Fault.DEAD and pod.standing.expires_s == NOW + 300


def test_sidecar_hangs() -> None:
    """Stuck flows are ended after the gate is open, so that they come back through it."""
    decisions = Pod().decide(hung)
    assert [(d.act, d.generation) for d in decisions] == [(Act.OPEN, 1), (Act.CUT, 2)]


def test_sidecar_is_killed_and_gets_no_cpu() -> None:
    """Its sockets may stand for long yet: what waits in them is ended once, after the gate is open."""

    def dying(at_s: float) -> Facts:
        return well(at_s, envoy_doomed_s=at_s - 0.001)

    pod = Pod()
    decisions = pod.decide(dying)
    assert [(d.act, d.generation) for d in decisions] == [(Act.OPEN, 1), (Act.CUT, 2)]
    assert decisions[1].evidence["fault"] == "dead"
    assert pod.see(dying, 0.5) == []


def test_sidecar_hangs_while_the_gate_is_open_already() -> None:
    pod = Pod()
    assert pod.see(dead) == [Code.OPENED]
    assert pod.see(hung, 5) == [Code.CUT]
    assert pod.see(hung, 5) == []


def test_sidecar_recovers() -> None:  # S4.5
    pod = Pod()
    pod.see(dead)
    assert pod.see(well, 1) == []
    assert pod.see(lambda at: well(at, path_passes=2), 2) == []  # S4.5: not yet proven end to end
    restored = pod.decide(well)
    assert [(d.act, d.code) for d in restored] == [(Act.CLOSE, Code.RESTORED)]
    assert not pod.standing.is_open and pod.standing.levels == both(CAPTURE, CAPTURE)
    assert (pod.standing.expires_s, pod.standing.opened_s, pod.standing.openings) == (None, None, {})


def test_sidecar_recovers_where_no_path_can_be_tested() -> None:
    pod = Pod()
    pod.see(dead)
    few = probes(OK, OK, OK, OK, OK, until_s=NOW + 3)
    pod.see(lambda at: well(at, path_passes=None, probes=few), 1)
    assert pod.see(lambda at: well(at, path_passes=None, probes=few), 2) == []
    assert pod.see(lambda at: well(at, path_passes=None)) == [Code.RESTORED]


def test_sidecar_flickers_while_it_recovers() -> None:
    pod = Pod()
    pod.see(dead)
    pod.see(well, 1)
    assert pod.see(lambda at: well(at, probes=probes(OK, TIMEOUT, until_s=at)), 0.9) == []
    assert pod.see(well, 0.9) == []  # well, but only since now
    assert pod.see(well, 1.0) == [Code.RESTORED]


def test_fault_lasts() -> None:
    """Renewed at half of its expiry, and never beyond the longest time (I4)."""
    pod = Pod(policy=replace(AUTO, expiry_s=100, open_at_most_s=210))
    pod.see(dead)
    assert pod.see(dead, 49) == []
    renewed = pod.decide(dead, 2)
    assert [(d.act, d.expiry_s, d.generation) for d in renewed] == [(Act.RENEW, 100, 2)]
    assert codes(pod.decide(dead, 60)) == [Code.RENEWED]
    assert pod.standing.expires_s == NOW + 210  # at 111 s: 99 s are left of the longest time
    assert pod.see(dead, 70) == []
    assert pod.see(dead, 30) == [Code.EXPIRED, Code.OPEN_TOO_LONG, Code.HELD]
    assert pod.see(dead, 1000) == []
    assert pod.recovers() == []
    assert pod.see(dead, 5) == [Code.OPENED, Code.FAULT_AGAIN]


def test_agent_was_away_and_the_gate_expired() -> None:
    """I1: the kernel closed it; then the same episode goes on."""
    pod = Pod()
    pod.see(dead)
    assert pod.see(dead, 301) == [Code.EXPIRED, Code.OPENED]
    assert pod.standing.recent_faults_s == (NOW,)
    assert pod.see(well, 301) == [Code.EXPIRED]


@pytest.mark.parametrize("blind", [lambda at: Facts(at_s=at, ever_ready=True), lambda at: well(at, terminating=True)])
def test_nothing_shows_that_the_fault_lasts(blind: Scene) -> None:
    """Neither renewed nor closed: the kernel ends it."""
    pod = Pod()
    pod.see(dead)
    assert pod.decide(blind, 200)[1:] == ()
    assert pod.standing.is_open and pod.standing.expires_s == NOW + 300
    assert Code.EXPIRED in pod.see(blind, 101)
    assert pod.see(blind, 1) == []


def test_pod_terminates_with_an_open_gate() -> None:
    """I2: no act on a terminating pod; what is open serves its last requests until it expires."""
    pod = Pod()
    pod.see(dead)
    assert pod.see(lambda at: dead(at, terminating=True), 1) == [Code.LEFT_TO_EXPIRE]
    assert pod.see(lambda at: dead(at, terminating=True), 1) == []


def test_pod_terminates_and_its_sidecar_dies() -> None:
    pod = Pod()
    assert pod.see(lambda at: dead(at, terminating=True)) == [Code.TERMINATING]
    assert pod.see(lambda at: dead(at, terminating=True), 1) == []  # said once


def closing_down(at_s: float) -> Facts:
    return well(at_s, listeners=dump(at_s, (15000, 15001, 15021, 15090, 8080)), probes=probes(UNREADY, until_s=at_s))


def test_node_shuts_down_and_nobody_says_so() -> None:
    """I2: no deletionTimestamp, the proxy dies first, and it looks like a perfect crash."""
    pod = Pod()
    pod.see(well)
    assert pod.see(closing_down, 1) == [Code.TERMINATING]
    assert pod.see(dead_for_sure, 5) == []
    assert pod.standing.fault is Fault.WELL
    assert pod.see(dead_for_sure, 300) == [Code.OPENED]  # nothing terminates for that long


def test_node_shuts_down_again() -> None:
    """Each closing down counts anew."""
    pod = Pod()
    pod.see(closing_down)
    pod.see(dead, 250)
    pod.see(closing_down, 10)
    assert pod.see(dead, 250) == []


def drained_inbound(at_s: float) -> Facts:
    return well(at_s, listeners=dump(at_s, (15000, 15001, 15021, 15090, 8080)))


def starved(at_s: float) -> Facts:
    return replace(hung(at_s), pressure=Pressure(starved=True, known=True))


def hardly_known(at_s: float) -> Facts:
    return well(at_s, listeners=None, probes=())


@pytest.mark.parametrize("looks", [drained_inbound, starved, hardly_known])
def test_node_shuts_down_and_somebody_orders_a_bypass(looks: Scene) -> None:
    """A proxy that closes down may look drained or slow, or too little is known of it: no order opens it (I2)."""
    pod = Pod()
    pod.see(well)
    pod.see(closing_down, 1)
    pod.standing = replace(pod.standing, override=order(both(RESCUE, CAPTURE)))
    assert Code.OPENED_BY_ORDER not in pod.see(looks, 1)
    assert not pod.standing.is_open


def test_sidecar_is_restarted_gracefully_and_dies_later() -> None:
    pod = Pod()
    pod.see(closing_down)
    pod.see(dead, 5)
    assert pod.see(well, 2) == []
    assert pod.see(dead, 5) == [Code.OPENED]


def test_restarting_sidecar_looks_as_though_it_closed_down() -> None:
    """Inside an episode that means nothing: its listeners come one by one."""
    pod = Pod()
    pod.see(dead)
    assert pod.see(closing_down, 1) == [Code.LEFT_TO_EXPIRE]
    assert pod.see(dead, 250) == [Code.RENEWED]


def test_policy_is_tightened_while_terminating() -> None:
    """An opening may still shrink."""
    pod = Pod(capabilities=NO_RESCUE)
    pod.see(dead_for_sure)
    assert pod.standing.levels == both(DIRECT, DIRECT)
    pod.policy = replace(AUTO, mtls=Mtls.STRICT)
    (shrunk, _) = pod.decide(lambda at: dead(at, terminating=True), 100)
    assert (shrunk.code, shrunk.expiry_s) == (Code.CHANGED, 200)
    assert pod.standing.levels == both(HOLD, DIRECT)


def test_policy_is_relaxed_while_nothing_is_known() -> None:
    """Without evidence an opening does not grow (I2)."""
    some = replace(AUTO, mtls_by_port={9000: Mtls.STRICT, 9001: Mtls.STRICT})
    pod = Pod(policy=some, capabilities=NO_RESCUE)
    pod.see(dead_for_sure)
    pod.policy = replace(AUTO, mtls_by_port={9000: Mtls.STRICT})
    assert pod.see(lambda at: dead(at, terminating=True), 1) == [Code.LEFT_TO_EXPIRE]
    assert pod.standing.openings[Direction.INBOUND] == Opening(DIRECT, {9000: HOLD, 9001: HOLD})
    assert pod.see(dead, 1) == []  # nor on the word of a single source
    assert pod.see(dead_for_sure, 1) == [Code.CHANGED]
    assert pod.standing.openings[Direction.INBOUND] == Opening(DIRECT, {9000: HOLD})


def test_port_becomes_strict_while_direct() -> None:
    pod = Pod(capabilities=NO_RESCUE)
    pod.see(dead_for_sure)
    pod.policy = replace(AUTO, mtls_by_port={9000: Mtls.STRICT})
    assert pod.see(dead_for_sure, 1) == [Code.CHANGED]
    assert pod.standing.openings[Direction.INBOUND] == Opening(DIRECT, {9000: HOLD})


def test_rescue_dies() -> None:
    """Falls to the next level, comes back, and is given up after the second death."""
    pod = Pod()
    pod.see(dead_for_sure)
    pod.capabilities = replace(NO_RESCUE, rescue_deaths=1)
    assert pod.see(dead_for_sure, 1) == [Code.CHANGED]
    assert pod.standing.levels == both(DIRECT, DIRECT)
    pod.capabilities = replace(RESCUE_READY, rescue_deaths=1)
    assert pod.see(dead_for_sure, 1) == [Code.CHANGED]
    assert pod.standing.levels == both(RESCUE, DIRECT)
    pod.capabilities = replace(RESCUE_READY, rescue_deaths=2)
    assert pod.see(dead_for_sure, 1) == [Code.CHANGED, Code.RESCUE_DIED_TWICE]
    assert pod.standing.levels == both(DIRECT, DIRECT)


def test_rescue_is_all_there_was() -> None:
    pod = Pod(policy=replace(AUTO, inbound=(RESCUE, HOLD), outbound=(HOLD,)))
    pod.see(dead)
    pod.capabilities = NO_RESCUE
    assert pod.see(dead, 1) == [Code.CLOSED_NO_LEVEL, Code.HELD]
    assert pod.standing.levels == both(HOLD, HOLD)
    pod.capabilities = RESCUE_READY
    assert pod.see(dead, 1) == [Code.OPENED]
    assert pod.standing.opened_s == NOW  # the same episode: the longest time counts from its first opening


def test_identity_expires_while_rescued() -> None:
    pod = Pod()
    pod.see(dead)
    assert pod.see(lambda at: dead(at, identity_expires_in_s=-1.0), 1) == [Code.CHANGED]
    assert pod.standing.levels == both(HOLD, DIRECT)


def test_second_source_is_lost_while_direct() -> None:
    """kubelet restarts the container in a crash loop: evidence fades, the level stays."""
    pod = Pod(capabilities=NO_RESCUE)
    pod.see(dead_for_sure)
    starting = [
        lambda at: dead(at, listeners=dump(at, (15000, *EVERYTHING[5:]))),
        lambda at: well(at, listeners=dump(at, (15000, 15021, 8080)), probes=probes(UNREADY, until_s=at)),
        lambda at: hung(at, pressure=Pressure(known=True, throttled=True)),
    ]
    for scene in starting:
        assert pod.see(scene, 1) == []
    assert pod.standing.levels == both(DIRECT, DIRECT)
    assert pod.see(starting[0], 200) == [Code.RENEWED]


def test_sidecar_crashes_again_and_again() -> None:
    """I3: inside the hold-down the rescue may be used, `direct` may not; a person is called; the hold-down doubles."""
    pod = Pod()
    pod.see(dead_for_sure)
    assert pod.recovers() == [Code.RESTORED]
    assert pod.standing.hold_down_s == 30
    assert pod.see(dead_for_sure, 5) == [Code.OPENED, Code.FAULT_AGAIN]
    assert pod.standing.levels == both(RESCUE, HOLD)
    assert pod.recovers() == [Code.RESTORED]
    assert pod.standing.hold_down_s == 60
    assert pod.see(dead_for_sure, 61) == [Code.OPENED]
    assert pod.standing.levels == both(RESCUE, DIRECT)
    assert pod.recovers() == [Code.RESTORED] and pod.standing.hold_down_s == 120
    assert pod.see(dead_for_sure, 4000) == [Code.OPENED]
    assert pod.standing.hold_down_s == 30  # reset after a long well time


def test_hold_down_has_a_longest_length() -> None:
    pod = Pod(policy=replace(AUTO, hold_down_max_s=100))
    for _ in range(5):
        pod.see(dead, 1)
        assert pod.recovers() == [Code.RESTORED]
    assert pod.standing.hold_down_s == 100


def test_crash_loop_where_outbound_gives_nothing_away() -> None:
    pod = Pod(policy=replace(AUTO, outbound_free=True))
    pod.see(dead)
    pod.recovers()
    pod.see(dead, 5)
    assert pod.standing.levels == both(RESCUE, DIRECT)


def test_two_pods_of_a_workload_fall_ill_within_a_minute() -> None:
    """I3: never `direct`, also when the other one follows later."""
    pod = Pod(capabilities=NO_RESCUE, surroundings=Surroundings(workload_fault_ages_s=(61.0,)))
    assert pod.see(dead_for_sure) == [Code.OPENED]
    pod.surroundings = Surroundings(workload_fault_ages_s=(91.0, 10.0))
    assert pod.see(dead_for_sure, 30) == [Code.CLOSED_NO_LEVEL, Code.WORKLOAD_FAULTS, Code.HELD]
    pod.surroundings = Surroundings()
    assert pod.see(dead_for_sure, 120) == []  # not even when that is long ago
    pod.capabilities = RESCUE_READY
    assert pod.see(dead_for_sure, 1) == [Code.OPENED]


def test_the_right_to_open_runs_out_while_open() -> None:
    """I1: what is open ends with the right, and nothing opens after it, until there is a new one."""
    pod = Pod(surroundings=Surroundings(open_until_s=NOW + 250))
    assert pod.see(dead) == [Code.OPENED]
    assert pod.standing.expires_s == NOW + 250
    assert pod.see(dead, 200) == []  # half of the expiry is gone, and there is no more to be had
    assert pod.see(dead, 50) == [Code.EXPIRED, Code.HELD]
    pod.surroundings = Surroundings(open_until_s=NOW + 1000)
    assert pod.see(dead, 1) == [Code.OPENED]


def test_a_right_that_is_renewed_renews_what_is_open() -> None:
    pod = Pod(surroundings=Surroundings(open_until_s=NOW + 250))
    pod.see(dead)
    pod.surroundings = Surroundings(open_until_s=NOW + 5000)
    assert pod.see(dead, 120) == [Code.RENEWED]
    assert pod.standing.expires_s == NOW + 120 + AUTO.expiry_s


def test_a_right_that_ended_shortens_nothing() -> None:
    """I1: an agent that starts anew finds the gate open and has not been given anything yet."""
    pod = Pod(surroundings=Surroundings())
    pod.see(dead)
    left = pod.standing.expires_s
    pod.surroundings = Surroundings(open_until_s=NOW - 1)
    assert pod.see(dead, 200) == []
    assert pod.standing.expires_s == left


def test_most_of_the_node_looks_sick() -> None:
    """I3: the observer is suspected; what is open stays, nothing new is opened."""
    sick = Surroundings(pods_on_node=4, faulty_on_node=3, node_budget=4, workload_budget=4)
    pod = Pod(surroundings=sick)
    assert pod.see(dead) == [Code.MASS_FAILURE, Code.HELD]
    pod.surroundings = replace(sick, faulty_on_node=2)
    assert pod.see(dead, 1) == [Code.OPENED]
    pod.surroundings = sick
    assert pod.see(dead, 200) == [Code.RENEWED]
    assert pod.standing.levels == both(RESCUE, DIRECT)


def test_closed_for_another_reason_while_it_recovers() -> None:
    """Once closed nothing needs a proof end to end, and the episode is over at once."""
    pod = Pod(capabilities=NO_RESCUE)
    pod.see(dead_for_sure)
    pod.see(lambda at: well(at, path_passes=0), 1)
    pod.surroundings = Surroundings(workload_fault_ages_s=(1.0,))
    assert Code.CLOSED_NO_LEVEL in pod.see(lambda at: well(at, path_passes=0), 2)
    assert pod.standing.fault is Fault.WELL


@pytest.mark.parametrize(
    "scene",
    [
        hung,
        lambda at: hung(at, pressure=Pressure(known=True, dumping=True)),
        lambda at: well(
            at, listeners=dump(at, EVERYTHING, {15021: (0.9, 0.0)}), probes=probes(OK, TIMEOUT, until_s=at)
        ),
    ],
)
def test_flows_stand_in_the_proxy(scene: Scene) -> None:
    assert Pod().see(scene) == [Code.OPENED, Code.CUT]


def test_budget_does_not_close_what_is_open() -> None:
    pod = Pod()
    pod.see(dead)
    pod.surroundings = Surroundings(open_on_node=5, open_of_workload=5)
    assert pod.see(dead, 1) == []
    assert pod.standing.is_open


def test_app_dies_while_bypassed() -> None:
    pod = Pod()
    pod.see(dead)

    def gone(at_s: float) -> Facts:
        return dead(at_s, listeners=dump(at_s, ()))

    assert pod.see(gone, 1) == [Code.CLOSED_APP_SICK, Code.APP_SICK]
    assert pod.see(gone, 1) == []
    assert pod.see(dead, 1) == [Code.OPENED]  # still the same episode, so no page
    assert pod.standing.recent_faults_s == (NOW,)


def test_app_fails_one_probe_while_bypassed() -> None:
    pod = Pod()
    pod.see(dead)
    assert pod.see(lambda at: dead(at, path=PathComparison(at, TIMEOUT, TIMEOUT), path_streak=1), 1) == []
    assert pod.standing.is_open


@pytest.mark.parametrize(
    ("scene", "code"),
    [
        (lambda at: hung(at, pressure=Pressure(known=True, throttled=True)), Code.THROTTLED),
        (lambda at: dead(at, listeners=dump(at, (15000, 8080))), Code.DRAINED),
        (lambda at: well(at, probes=probes(UNREADY, until_s=at)), Code.UNREADY),
        (lambda at: well(at, listeners=dump(at, PROXY_PORTS)), Code.APP_SICK),
    ],
)
def test_left_alone(scene: Scene, code: Code) -> None:
    pod = Pod()
    (said,) = pod.decide(scene)
    assert (said.act, said.code) == (Act.HOLD, code)
    assert pod.see(scene, 1) == []
    assert pod.see(well, 1) == []
    assert pod.see(scene, 1) == [code]


def test_pod_is_starting() -> None:
    assert Pod().see(lambda at: dead(at, ever_ready=False)) == []


# ---- modes ----


def test_mode_off() -> None:
    pod = Pod(policy=replace(AUTO, mode=Mode.OFF))
    assert pod.see(dead_for_sure) == []
    assert pod.standing == Standing()


def test_mode_turned_off_while_open() -> None:
    pod = Pod()
    pod.see(dead)
    pod.policy = replace(AUTO, mode=Mode.OFF)
    assert pod.see(dead, 1) == [Code.CLOSED_BY_MODE]
    assert pod.standing.levels == both(CAPTURE, CAPTURE) and pod.standing.fault is Fault.WELL


def test_mode_observe() -> None:
    pod = Pod(policy=replace(AUTO, mode=Mode.OBSERVE))
    (said,) = pod.decide(dead)
    assert (said.act, said.code, said.generation) == (Act.HOLD, Code.WOULD_OPEN, 0)
    assert said.sentence.startswith("would be inbound to the rescue, outbound direct: the proxy is dead")
    assert pod.see(dead, 1) == []
    pod.recovers()
    (again,) = pod.decide(dead, 1)
    assert "would page" in again.sentence and again.act is Act.HOLD
    assert not pod.standing.is_open


def test_mode_turned_to_observe_while_open() -> None:
    pod = Pod()
    pod.see(dead)
    pod.policy = replace(AUTO, mode=Mode.OBSERVE)
    assert pod.see(dead, 1) == [Code.CLOSED_BY_MODE, Code.WOULD_OPEN]
    pod.policy = AUTO
    assert pod.see(dead, 1) == [Code.OPENED]


# ---- a person's order ----


def order(levels: dict[Direction, Level], for_s: float = 60.0, at_s: float = NOW) -> Override:
    return Override(levels, at_s + for_s, "maintenance", "ada")


def test_order_on_a_well_pod() -> None:
    pod = Pod(standing=Standing(override=order(both(DIRECT, DIRECT))))
    (opened,) = pod.decide(well)
    assert (opened.code, opened.expiry_s) == (Code.OPENED_BY_ORDER, 60)  # the kernel keeps the order's end (I1)
    assert "ordered by ada: maintenance" in opened.sentence
    assert pod.see(well, 30) == []
    assert pod.see(well, 31) == [Code.EXPIRED]
    assert pod.standing.override is None and not pod.standing.is_open


def test_long_order_is_renewed() -> None:
    pod = Pod(standing=Standing(override=order(both(DIRECT, HOLD), for_s=1000)))
    pod.see(well)
    assert pod.see(well, 151) == [Code.RENEWED]


def test_order_obeys_the_policy() -> None:
    """I2: an order replaces the evidence, never the policy."""
    pod = Pod(policy=replace(AUTO, mtls=Mtls.STRICT), standing=Standing(override=order(both(DIRECT, RESCUE))))
    refused = pod.decide(well)
    assert codes(refused) == [Code.ORDER_REFUSED, Code.ORDER_REFUSED]
    assert Code.STRICT_MTLS in refused[0].sentence and Code.NOT_LISTED in refused[1].sentence
    assert pod.see(well, 1) == []


@pytest.mark.parametrize(
    "scene",
    [
        lambda at: well(at, terminating=True),
        lambda at: well(at, ever_ready=False),
        lambda at: well(at, listeners=dump(at, PROXY_PORTS)),
    ],
)
def test_order_where_nobody_may_act(scene: Scene) -> None:
    pod = Pod(standing=Standing(override=order(both(RESCUE, DIRECT))))
    assert Code.ORDER_REFUSED in pod.see(scene)
    assert not pod.standing.is_open


def test_order_over_budget() -> None:
    pod = Pod(
        standing=Standing(override=order(both(RESCUE, HOLD))), surroundings=Surroundings(open_on_node=1, node_budget=1)
    )
    assert pod.see(well) == [Code.ORDER_REFUSED]


def test_order_without_an_end() -> None:
    pod = Pod(standing=Standing(override=order(both(RESCUE, HOLD), for_s=float("inf"))))
    assert pod.see(well) == [] and pod.standing.override is None


def test_order_to_keep_capture() -> None:
    pod = Pod()
    pod.see(dead)
    pod.standing = replace(pod.standing, override=order(both(CAPTURE, CAPTURE)))
    assert pod.see(dead, 1) == [Code.CLOSED_BY_ORDER, Code.HELD]
    assert pod.see(dead, 60) == [Code.OPENED]


def test_order_ends_while_the_fault_lasts() -> None:
    """What an order opened is no evidence: `direct` inbound now needs its second source."""
    pod = Pod(capabilities=NO_RESCUE, standing=Standing(override=order(both(DIRECT, DIRECT))))
    pod.see(dead)
    pod.standing = replace(pod.standing, override=None)
    assert pod.see(dead, 1) == [Code.CHANGED]
    assert pod.standing.levels == both(HOLD, DIRECT)


def test_order_is_not_limited_by_the_induced_rule() -> None:
    pod = Pod(capabilities=NO_RESCUE)
    pod.see(dead)
    pod.recovers()
    pod.standing = replace(pod.standing, override=order(both(DIRECT, HOLD), at_s=pod.now_s))
    assert pod.see(dead, 1) == [Code.OPENED_BY_ORDER, Code.FAULT_AGAIN]


# ---- the agent itself ----


def read_back(pod: Pod) -> Standing:
    """What a new agent learns from the kernel's gate."""
    kept = pod.standing
    return Standing(
        generation=kept.generation,
        levels=kept.levels,
        openings=kept.openings,
        expires_s=kept.expires_s,
        rebuilt=True,
    )


def test_agent_restarts_while_bypassed() -> None:
    pod = Pod()
    pod.see(dead)
    pod.standing = read_back(pod)
    assert pod.see(dead, 5) == []
    assert pod.standing.opened_s == NOW and pod.standing.fault is Fault.DEAD
    assert pod.recovers() == [Code.RESTORED]


def test_agent_restarts_while_bypassed_and_finds_the_sidecar_well() -> None:
    pod = Pod()
    pod.see(dead)
    pod.standing = read_back(pod)
    assert pod.recovers(2) == [Code.RESTORED]


def test_agent_restarts_and_has_never_seen_the_sidecar_ready() -> None:
    """An open gate shows that it was."""
    pod = Pod()
    pod.see(dead)
    pod.standing = read_back(pod)
    assert pod.see(lambda at: dead(at, ever_ready=False), 200) == [Code.RENEWED]


def test_agent_reads_back_a_gate_that_is_open_for_one_port() -> None:
    only = Opening(CAPTURE, {8080: DIRECT})
    lost = Standing(openings={Direction.INBOUND: only}, expires_s=NOW + 300, rebuilt=True)
    mixed = replace(AUTO, inbound=(DIRECT,), outbound=(), mtls=Mtls.STRICT, mtls_by_port={8080: Mtls.PERMISSIVE})
    pod = Pod(policy=mixed, standing=lost)
    assert pod.see(dead) == []
    assert pod.standing.levels == both(DIRECT, HOLD)


def test_agent_is_crashed_to_wash_off_the_hold_down() -> None:
    pod = Pod()
    pod.see(dead)
    pod.recovers()
    pod.standing = read_back(pod)
    assert pod.see(well) == []
    assert pod.see(dead, 5) == [Code.OPENED, Code.FAULT_AGAIN]


def test_gate_is_open_without_a_known_expiry() -> None:
    """I4: it gets one, or it is closed."""
    lost = Standing(generation=Generation(3), levels=both(RESCUE, HOLD), rebuilt=True)
    pod = Pod(standing=lost, policy=replace(AUTO, outbound=(HOLD,)))
    (renewed,) = pod.decide(dead)
    assert (renewed.act, renewed.expiry_s, renewed.generation) == (Act.RENEW, 300, 4)
    assert Pod(standing=lost).see(well) == [Code.CLOSED_NO_LEVEL]


def test_policy_without_an_expiry() -> None:
    for expiry_s in (0.0, -1.0, float("inf"), float("nan")):
        pod = Pod(policy=replace(AUTO, expiry_s=expiry_s))
        assert pod.see(dead) == [Code.HELD]


def test_clock_is_nonsense() -> None:
    nowhere = view(dead(), Standing(), now_s=float("nan"))
    assert step(nowhere) == (Standing(), ())


def test_every_code_has_its_sentence() -> None:
    assert set(MEANING) == set(Code) and len(set(Code)) == len(Code.__members__)
    assert all(text.endswith(".") for text in MEANING.values())
