"""How long is waited before a receiver is asked again (S4.6)."""

import pytest

from hotswitch.report.alerts.backoff import Backoff, retry_after_s

pytestmark = pytest.mark.unit


def test_retry_after_in_all_its_forms() -> None:
    assert retry_after_s("120", 0) == 120
    assert retry_after_s("Thu, 01 Jan 1970 00:02:00 GMT", 60) == 60
    assert retry_after_s("Thu, 01 Jan 1970 00:00:00 GMT", 60) == 0
    for nonsense in (None, "", "soon", "-5", "1e9", "9" * 999, "Thu, 99 Jan 1970 99:99:99 GMT"):
        assert retry_after_s(nonsense, 0) is None
    assert Backoff(base_s=0.001).failed(1e12) <= 3600


def test_back_off_grows_to_a_bound_and_is_not_the_same_for_all() -> None:
    backoff = Backoff(base_s=1, at_most_s=60)
    waits = [backoff.failed() for _ in range(100)]
    assert all(0.5 * 2**n <= wait <= 2**n for n, wait in enumerate(waits[:6]))
    assert all(30 <= wait <= 60 for wait in waits[6:])
    assert len(set(waits[6:])) > 50
    backoff.succeeded()
    assert backoff.failed() <= 1
