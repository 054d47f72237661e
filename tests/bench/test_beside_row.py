"""How many times another's outage: round by round, and none is shorter than what requests can show."""

from __future__ import annotations

import pytest

from bench.figures import Sample
from bench.rows.beside import ratios

pytestmark = pytest.mark.unit


def test_round_by_round() -> None:
    assert ratios(Sample.of([3.0, 8.0]), Sample.of([2.0, 4.0]), 1.0).values == (1.5, 2.0)


def test_less_than_a_gap_between_requests_counts_as_one() -> None:
    assert ratios(Sample.of([0.0, 0.0, 4.0]), Sample.of([0.0, 4.0, 0.0]), 4.0).values == (1.0, 1.0, 1.0)


def test_one_that_had_not_ended_is_no_less() -> None:
    assert str(ratios(Sample.of([900.0], at_least=1), Sample.of([300.0]), 4.0)) == "> 3"
