"""Figures must not flatter: lower bounds are shown as such, and a breach of the stress test is told."""

from __future__ import annotations

import math

import pytest

from bench.figures import Figure, Sample, Table, find, number, ratio
from bench.findings import Finding, Report
from bench.trials import BEFORE, not_carried

pytestmark = pytest.mark.unit


def test_percentile_is_a_value_that_was_measured() -> None:
    sample = Sample.of(range(1, 201))
    assert (sample.n, sample.median, sample.low, sample.high, sample.p99) == (200, 100.5, 1, 200, 198)


def test_nothing_measured_is_no_zero() -> None:
    nothing = Sample.of([])
    assert math.isnan(nothing.median)
    assert math.isnan(nothing.p99)
    assert str(nothing) == "-"


@pytest.mark.parametrize(
    ("values", "at_least", "text"),
    [
        ((2.0,), 0, "2"),
        ((2.04, 3.5), 0, "2.77 (2.04 to 3.5)"),
        ((7000.0,), 1, "> 7,000"),
        ((1.0, 7000.0, 7000.0), 2, "> 7,000 (1 to 7,000)"),
    ],
)
def test_an_outage_that_did_not_end_is_a_lower_bound(values: tuple[float, ...], at_least: int, text: str) -> None:
    assert str(Sample.of(values, at_least)) == text


def test_p99_is_given_only_where_there_are_enough_values() -> None:
    assert "p99" not in str(Sample.of(range(99)))
    assert "p99" in str(Sample.of(range(100)))


def test_ratio_with_an_endless_outage_is_a_lower_bound() -> None:
    better = Sample.of([2.0])
    assert ratio(Sample.of([1000.0]), better) == "500x"
    assert ratio(Sample.of([1000.0], at_least=1), better) == "> 500x"
    assert ratio(Sample.of([1000.0]), Sample.of([0.0])) == "-"
    assert ratio(Sample.of([]), better) == "-"


@pytest.mark.parametrize(
    ("value", "text"), [(0.0, "0"), (2.345, "2.35"), (1234.5, "1,234"), (1e6, "1,000,000"), (math.nan, "-")]
)
def test_numbers_have_three_digits_or_are_whole(value: float, text: str) -> None:
    assert number(value) == text


def test_a_load_that_the_machine_did_not_carry_is_told() -> None:
    figures = [Figure(BEFORE, "kill", who, "requests", Sample.of([failed])) for who, failed in (("a", 0.0), ("b", 3.0))]
    (sentence,) = not_carried(figures)
    assert "kill, b: the machine did not carry this load: 3 requests failed" in sentence
    assert find(figures, BEFORE, "b", "kill").total == 3


def test_table_is_markdown() -> None:
    assert str(Table(("a", "b"), (("1", "2"),))) == "| a | b |\n| --- | --- |\n| 1 | 2 |"


def _well(**changes: object) -> Finding:
    finding = Finding("default profile, no quota", "default", real="kill", acted_ms=3.0)
    for name, value in changes.items():
        setattr(finding, name, value)
    return finding


def test_needless_switch_of_the_default_profile_is_a_breach() -> None:
    assert Report(60, [_well()]).breaches() == []
    assert Report(60, [_well(switches=1)]).breaches() == ["default profile, no quota: 1 needless switches"]
    assert Report(60, [_well(switches=1, profile="fast")]).breaches() == []


def test_a_blind_detector_is_a_breach() -> None:
    (breach,) = Report(60, [_well(acted_ms=None, profile="fast")]).breaches()
    assert "a real fault (kill) was not acted on" in breach
