"""How long nobody may answer, from the settings (S0.6, S0.7, I7)."""

from __future__ import annotations

import pytest

from hotswitch.backends import Check, CheckKind
from hotswitch.decide.endpoints.activity import over_s, renewal_s
from hotswitch.decide.endpoints.bounds import Fault, Timing, bounds, found_s

pytestmark = pytest.mark.unit
CHECK = Check(CheckKind.HTTP, period_s=0.3, timeout_s=0.3, fall=2)


def timing(*, ttl_s: float = 3.0, check: Check = CHECK) -> Timing:
    return Timing(check=check, ttl_s=ttl_s, lease_s=15.0, retry_s=2.0)


def test_each_bound_is_the_sum_of_its_terms() -> None:
    known = bounds(timing())
    assert set(known) == set(Fault)
    for bound in known.values():
        assert bound.seconds == pytest.approx(sum(each.seconds for each in bound.terms))
        assert all(each.seconds > 0 for each in bound.terms)


def test_failures_are_counted_in_a_hurry() -> None:
    assert found_s(CHECK) == pytest.approx(0.3 + 2 * 0.3 + 0.03)
    assert found_s(Check()) is None, "the kubelet's settings are its own"


def test_the_kubelet_asks_and_what_it_finds_has_no_bound() -> None:
    assert set(bounds(timing(check=Check()))) == {Fault.KEEPER, Fault.LEADER}


def test_a_pod_that_stops_is_waited_for_by_its_lease_or_by_the_checks_not_by_both() -> None:
    slow = Check(CheckKind.HTTP, period_s=10.0, timeout_s=1.0, fall=3)
    by_lease, by_checks = bounds(timing())[Fault.POD].terms[0], bounds(timing(check=slow))[Fault.POD].terms[0]
    assert by_lease.seconds == pytest.approx(over_s(0.0, 3.0))
    assert by_checks.seconds == pytest.approx(15.0 + 0.1)


@pytest.mark.parametrize("ttl_s", [2.0, 3.0, 15.0, 300.0])
def test_a_permit_is_renewed_more_than_once_before_it_ends(ttl_s: float) -> None:
    assert 0 < 2 * renewal_s(ttl_s) < ttl_s
