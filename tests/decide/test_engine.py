"""Whole switches, step by step in simulated time: opened, renewed, degraded, restored (S4.4, S4.5, I1 to I6)."""

from __future__ import annotations

from dataclasses import replace

import pytest

from hotswitch.decide import MEANING, Code
from hotswitch.model import (
    Act,
    Direction,
    Facts,
    Fault,
    Mtls,
    Opening,
    PathComparison,
    Pressure,
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
    well,
)
from tests.decide.switched import CAPTURE, DIRECT, HOLD, NO_RESCUE, RESCUE, Pod, Scene, dead_for_sure

pytestmark = pytest.mark.unit


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


def test_every_code_has_its_sentence() -> None:
    assert set(MEANING) == set(Code) and len(set(Code)) == len(Code.__members__)
    assert all(text.endswith(".") for text in MEANING.values())
