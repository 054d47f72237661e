"""What bounds a switch: hold-down, budgets, rights that run out, and a node of which most looks sick (I1, I3)."""

from __future__ import annotations

from dataclasses import replace

import pytest

from hotswitch.decide import Code
from hotswitch.model import (
    Surroundings,
)
from tests.decide.scenes import (
    AUTO,
    NOW,
    RESCUE_READY,
    both,
    dead,
)
from tests.decide.switched import DIRECT, HOLD, NO_RESCUE, RESCUE, Pod, dead_for_sure

pytestmark = pytest.mark.unit


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


def test_budget_does_not_close_what_is_open() -> None:
    pod = Pod()
    pod.see(dead)
    pod.surroundings = Surroundings(open_on_node=5, open_of_workload=5)
    assert pod.see(dead, 1) == []
    assert pod.standing.is_open
