"""What a controller remembers of a pod survives it (I6)."""

from __future__ import annotations

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hotswitch.controller.memory import bounded, dump, load
from hotswitch.controller.seen import restless
from hotswitch.model import Direction, Fault, Generation, Level, Opening, Policy, Standing

pytestmark = pytest.mark.unit

instants = st.floats(0.0, 1e6)
openings = st.builds(
    Opening, st.sampled_from(Level), st.dictionaries(st.integers(1, 65535), st.sampled_from(Level), max_size=3)
)
standings = st.builds(
    Standing,
    generation=st.integers(0, 10**6).map(Generation),
    levels=st.fixed_dictionaries({way: st.sampled_from(Level) for way in Direction}),
    opened_s=st.none() | instants,
    expires_s=st.none() | instants,
    fault=st.sampled_from(Fault),
    fault_since_s=st.none() | instants,
    well_since_s=st.none() | instants,
    hold_down_s=st.floats(0.0, 3600.0),
    hold_down_until_s=instants,
    recent_faults_s=st.lists(instants, max_size=4).map(tuple),
    openings=st.dictionaries(st.sampled_from(Direction), openings),
    ordered=st.frozensets(st.sampled_from(Direction)),
    induced=st.booleans(),
    ever_ready=st.booleans(),
    closing_since_s=st.none() | instants,
    said=st.frozensets(st.text(max_size=8), max_size=3),
)


@given(standings, st.floats(-1e9, 2e9))
def test_another_controller_with_another_clock_goes_on_from_it(standing: Standing, shift_s: float) -> None:
    there_shift_s = shift_s + 12345.0  # the successor's clock began at another time
    read = load(json.loads(json.dumps(dump(standing, shift_s))), there_shift_s, now_s=1e7)
    assert read.generation == standing.generation and read.openings == standing.openings
    assert read.levels == standing.levels and read.said == standing.said and read.ordered == standing.ordered
    assert (read.induced, read.ever_ready, read.fault) == (standing.induced, standing.ever_ready, standing.fault)
    if standing.expires_s is not None:
        assert read.expires_s is not None and math.isclose(read.expires_s, standing.expires_s - 12345.0, abs_tol=0.01)


def test_a_skewed_clock_lengthens_no_episode() -> None:
    told = dump(Standing(opened_s=500.0, fault=Fault.DEAD, fault_since_s=500.0), 0.0)
    read = load(told, 0.0, now_s=100.0)
    assert read.opened_s == 100.0 and read.fault_since_s == 100.0


@pytest.mark.parametrize(
    "told",
    [
        {"fault": "bored"},
        {"opened_s": "soon"},
        {"openings": {"inbound": {"level": "wide"}}},
        {"levels": {"up": "hold"}},
    ],
)
def test_garbage_is_an_error_and_not_a_standing(told: dict[str, object]) -> None:
    with pytest.raises((ValueError, TypeError, KeyError)):
        load(told, 0.0, 0.0)


def test_a_status_at_rest_asks_for_no_worker() -> None:
    assert not restless(json.dumps(dump(Standing(generation=Generation(3), hold_down_s=30.0), 0.0)))
    assert restless(json.dumps({"step": "gate"}).replace(": ", ":"))


@given(standings, st.floats(0.0, 1e6))
def test_who_may_write_a_pod_writes_what_is_remembered_of_it(forged: Standing, now_s: float) -> None:  # I2, I4
    """No hold-down that keeps it unprotected for good, no opening without an end, no fault of tomorrow."""
    policy = Policy(expiry_s=60.0, hold_down_s=30.0, hold_down_max_s=600.0)
    believed = bounded(forged, policy, now_s)
    assert believed.hold_down_s <= 600.0 and believed.hold_down_until_s <= now_s + 600.0
    assert believed.expires_s is None or believed.expires_s <= now_s + 60.0
    assert all(at_s <= now_s for at_s in believed.recent_faults_s)


def test_what_a_controller_wrote_itself_is_believed() -> None:
    policy = Policy(expiry_s=60.0, hold_down_s=30.0, hold_down_max_s=600.0)
    known = Standing(hold_down_s=60.0, hold_down_until_s=150.0, recent_faults_s=(10.0, 90.0), expires_s=110.0)
    assert bounded(known, policy, 100.0) == known
