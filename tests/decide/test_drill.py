"""Who may be drilled and whose turn it is: never a pod that is not well, never two of a workload (S4.4, I2, I3)."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hotswitch.decide.drill import (
    Candidate,
    Heard,
    Mesh,
    Schedule,
    canary,
    first_s,
    mesh_refusal,
    next_s,
    overdue_s,
    refusal,
    turn_s,
    unheard,
    workload_of,
)
from hotswitch.decide.track import assess
from hotswitch.model import (
    Capabilities,
    Direction,
    Level,
    Mode,
    Opening,
    Override,
    PodRef,
    PodUid,
    Standing,
    Surroundings,
    View,
)
from tests.decide.scenes import AUTO, NOW, RESCUE_READY, both, dead, view, well

pytestmark = pytest.mark.unit

ORDER = Override({Direction.INBOUND: Level.CAPTURE}, NOW + 60, "a test", "me")
OPEN = Standing(
    levels=both(Level.RESCUE, Level.CAPTURE), openings={Direction.INBOUND: Opening(Level.RESCUE)}, expires_s=NOW + 60
)
REFUSED: dict[str, tuple[View, str]] = {
    "observes": (view(well(), policy=replace(AUTO, mode=Mode.OBSERVE)), "the mode is observe"),
    "no-rescue-listed": (view(well(), policy=replace(AUTO, inbound=(Level.DIRECT,))), "does not list the rescue"),
    "dead": (view(dead()), "the pod is not well: "),
    "terminating": (view(well(terminating=True)), "the pod is not well: "),
    "never-ready": (view(well(ever_ready=False, probes=(), listeners=None)), "the pod is not well: "),
    "ordered": (view(well(), Standing(override=ORDER)), "an order of me stands: a test"),
    "open": (view(well(), OPEN), "the pod is bypassed"),
    "held-down": (view(well(), Standing(hold_down_until_s=NOW + 1)), "the hold-down runs"),
    "failed-lately": (view(well(), Standing(recent_faults_s=(NOW - 20,))), "the hold-down runs"),
    "gate": (view(well(), capabilities=replace(RESCUE_READY, gate=False, gate_refusal="foreign NAT")), "foreign NAT"),
    "rescue": (view(well(), capabilities=Capabilities(rescue_refusal="not set up yet")), "no rescue: not set up yet"),
    "rescue-died": (view(well(), capabilities=replace(RESCUE_READY, rescue_deaths=1)), "the rescue died"),
    "no-identity": (view(well(identity_expires_in_s=None)), "no identity"),
    "identity-ended": (view(well(identity_expires_in_s=-1.0)), "no identity"),
    "mate-open": (view(well(), surroundings=Surroundings(open_of_workload=1, workload_budget=9)), "another pod"),
    "mate-failed": (view(well(), surroundings=Surroundings(workload_fault_ages_s=(5.0,))), "another pod"),
    "neighbour-sick": (view(well(), surroundings=Surroundings(faulty_on_node=1)), "beside it looks sick"),
    "node-budget": (view(well(), surroundings=Surroundings(open_on_node=1, node_budget=1)), "the budget is used up"),
    "no-budget": (view(well(), surroundings=Surroundings(workload_budget=0)), "the budget is used up"),
    "namespace-budget": (
        view(well(), surroundings=Surroundings(open_in_namespace=2, namespace_budget=2)),
        "the budget is used up",
    ),
}


@pytest.mark.parametrize(("seen", "why"), REFUSED.values(), ids=REFUSED)
def test_no_moment_for_a_drill(seen: View, why: str) -> None:
    assert why in refusal(seen, assess(seen))


def test_well_pod_may_be_drilled() -> None:
    seen = view(well(), Standing(recent_faults_s=(NOW - 10_000,), hold_down_until_s=NOW - 9_000))
    assert refusal(seen, assess(seen)) == ""


def pod(name: str, workload: str = "deploy/web") -> PodRef:
    return PodRef(name, "shop", PodUid(name), workload)


def test_pods_of_a_workload_take_turns() -> None:
    candidates = [Candidate(pod("a"), "", 50.0), Candidate(pod("b"), "sick", None), Candidate(pod("c"), "", 20.0)]
    assert canary(candidates) == candidates[2]
    assert canary([*candidates, Candidate(pod("d"), "")]) == Candidate(pod("d"), "")
    assert canary(candidates[1:2]) is None
    assert canary([]) is None


def test_pod_without_an_owner_stands_for_itself() -> None:
    assert workload_of(pod("a")) == workload_of(pod("b")) == "shop/deploy/web"
    assert workload_of(pod("a", "")) != workload_of(pod("b", ""))


TIMES = st.floats(0, 4e9)
SCHEDULES = st.builds(Schedule, every_s=st.floats(60, 7e6), jitter=st.floats(0, 0.5))


@given(SCHEDULES, st.text(max_size=20), TIMES)
def test_turns_are_spread_and_never_fall_out(schedule: Schedule, workload: str, last_s: float) -> None:
    first, following = first_s(schedule, workload, last_s), next_s(schedule, workload, last_s)
    assert last_s <= first <= last_s + schedule.every_s
    assert abs(following - last_s - schedule.every_s) <= schedule.every_s * schedule.jitter + 1e-3
    assert following == next_s(schedule, workload, last_s)  # whoever asks, and whenever
    assert overdue_s(schedule, last_s) >= following + schedule.every_s / 2  # one turn may fall out


def test_workloads_do_not_fall_into_step() -> None:
    day = Schedule(86400.0)
    firsts = sorted(first_s(day, f"shop/deploy/{number}", 0.0) for number in range(200))
    assert max(later - earlier for earlier, later in pairwise(firsts)) < 86400 / 20


@given(SCHEDULES, TIMES, st.text(max_size=20))
def test_turns_lie_at_fixed_places_in_time(schedule: Schedule, after_s: float, workload: str) -> None:  # I6
    """Whoever leads, and since when: the next turn is the same one, and it comes within an interval."""
    turn = turn_s(schedule, workload, after_s)
    assert after_s <= turn <= after_s + schedule.every_s
    halfway = (after_s + turn) / 2
    assert turn_s(schedule, workload, halfway) == pytest.approx(turn, abs=1.0)


@pytest.mark.parametrize(
    ("mesh", "why"),
    [
        (Mesh(), ""),
        (Mesh(cautious=True), "the leader is new"),
        (Mesh(frozen="the observers are suspected"), "the observers are suspected"),
        (Mesh(open="shop/web-0"), "shop/web-0 is open"),
        (Mesh(sick=2), "2 pods look sick"),
    ],
)
def test_a_mesh_that_is_not_at_rest(mesh: Mesh, why: str) -> None:  # I3
    assert why in mesh_refusal(mesh) and bool(why) == bool(mesh_refusal(mesh))


QUIET = Heard(told=False, is_there=True, is_another=False, ours=True, overdue=False)


@pytest.mark.parametrize(
    ("heard", "result"),
    [
        (QUIET, None),
        (replace(QUIET, is_there=False), None),  # its link is away: it may come back and tell
        (replace(QUIET, is_another=True), "failed"),
        (replace(QUIET, is_another=True, ours=False), None),  # whom the leader before meant is not known
        (replace(QUIET, overdue=True), "failed"),
        (replace(QUIET, overdue=True, is_there=False), "failed"),
        (replace(QUIET, overdue=True, ours=False), "interrupted"),
        (replace(QUIET, overdue=True, ours=False, is_there=False), "failed"),
        (replace(QUIET, overdue=True, told=True), None),
    ],
)
def test_a_drill_of_which_nobody_tells(heard: Heard, result: str | None) -> None:  # I1
    found = unheard(heard)
    assert (None if found is None else found[0]) == result
