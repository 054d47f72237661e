"""The judge of histories finds what it is there to find (I7)."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.endpoints.history import Answered, breaches, longest_gap

pytestmark = pytest.mark.unit
FIRST = Answered("write", 1, 0.0, 1.0, "db-0", 1, 1)
SECOND = Answered("write", 2, 2.0, 3.0, "db-1", 2, 2)
ROWS = [(1, 1, "db-0", 1), (2, 2, "db-1", 2)]


def test_a_switch_is_no_breach() -> None:
    assert breaches([FIRST, SECOND], ROWS) == []


def test_two_pods_in_one_generation() -> None:
    assert "generation 1 was answered by" in breaches([FIRST, replace(SECOND, generation=1)], ROWS)[0]


def test_a_generation_that_comes_back() -> None:
    late = Answered("read", 3, 4.0, 5.0, "db-0", 1, 2)
    assert any("generation 1 of db-0 after 2" in each for each in breaches([FIRST, SECOND, late], ROWS))


def test_a_read_that_does_not_know_what_was_acknowledged() -> None:
    stale = Answered("read", 3, 4.0, 5.0, "db-1", 2, 1)
    assert any("number 1 of db-1 after 2" in each for each in breaches([FIRST, SECOND, stale], ROWS))


def test_what_overlaps_may_be_either_way_round() -> None:
    during = Answered("read", 3, 0.5, 5.0, "db-0", 1, 0)
    assert breaches([FIRST, SECOND, during], ROWS) == []


def test_an_acknowledged_write_that_is_not_there() -> None:
    assert any("write 2: acknowledged" in each for each in breaches([FIRST, SECOND], ROWS[:1]))


def test_a_number_given_twice() -> None:
    again = replace(SECOND, seq=1)
    assert any("number 1 of db-1 after 1" in each for each in breaches([FIRST, again], ROWS))


def test_the_longest_gap_is_between_answers() -> None:
    history = [replace(FIRST, came_s=at_s) for at_s in (1.0, 1.5, 4.0, 4.5, 4.75)]
    assert longest_gap(history) == 2.5 and longest_gap(history[:1]) == 0.0
