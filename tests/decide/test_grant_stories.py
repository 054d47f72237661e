"""Places that are given and given back: single stories, each of one safeguard (I3, I6)."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hotswitch.decide.grants import (
    MESH,
    Allotment,
    Holder,
    Lease,
    Ledger,
    Party,
    Refused,
    shares,
)
from tests.decide.test_grants import LIFE_S, SKEW_S

pytestmark = pytest.mark.unit
PARTIES = st.lists(
    st.builds(Party, st.text("abc", min_size=1), st.integers(0, 9), st.integers(0, 3), st.integers(0, 2)),
    unique_by=lambda party: party.name,
)


def ledger(term: int = 1, cautious_until_s: float = -math.inf) -> Ledger:
    return Ledger(term, life_s=LIFE_S, skew_s=SKEW_S, cautious_until_s=cautious_until_s)


def give(book: Ledger, agent: str, count: int, *, now_s: float = 0.0, budget: int = 4, cap: int = 9) -> Allotment:
    return book.allot(Holder(agent, "i"), {MESH: count}, {MESH: budget}, cap=cap, now_s=now_s)


def said(book: Ledger, agent: str, given: Allotment, number: int, used: int = 0) -> None:
    book.beat(Holder(agent, "i"), number, order=given.order, used={MESH: used} if used else {})


def test_what_was_given_is_spent_until_it_has_run_out() -> None:
    book = ledger()
    assert give(book, "a", 3).places == {MESH: 3}
    assert give(book, "b", 3).places == {MESH: 1}
    assert give(book, "c", 1, now_s=LIFE_S + SKEW_S - 0.1).places == {MESH: 0}
    assert give(book, "c", 1, now_s=LIFE_S + SKEW_S).places == {MESH: 1}


def test_given_back_counts_only_once_it_is_said() -> None:
    book = ledger()
    give(book, "a", 4)
    less = give(book, "a", 1)
    assert give(book, "b", 4).places == {MESH: 0}
    said(book, "a", less, 1, used=2)  # two are still open
    assert give(book, "b", 4).places == {MESH: 0}
    said(book, "a", less, 2, used=1)
    assert give(book, "b", 4).places == {MESH: 3}


def test_an_old_beat_gives_nothing_back() -> None:
    book = ledger()
    first = give(book, "a", 1)
    said(book, "a", first, 5)
    less = give(book, "a", 0)
    assert not book.beat(Holder("a", "i"), 5, order=less.order, used={})
    assert give(book, "b", 4).places == {MESH: 3}


def test_a_new_leader_gives_nothing_that_the_old_one_may_have_given() -> None:
    book = ledger(2, cautious_until_s=LIFE_S + SKEW_S)
    book.hello(Holder("a", "i"), held={MESH: 2}, order=(1, 7), cap=9, now_s=0.0)
    assert give(book, "b", 4).places == {MESH: 0}
    assert give(book, "a", 4, now_s=50.0).places == {MESH: 2}
    assert book.held(MESH, 0.0, budget=4) == 4
    assert give(book, "b", 4, now_s=LIFE_S + SKEW_S).places == {MESH: 2}


def test_a_second_process_of_a_node_shares_its_cap() -> None:
    """I3: and nobody proves that the first one is dead."""
    book = ledger()
    give(book, "a", 2, cap=3)
    second = book.allot(Holder("a", "new"), {MESH: 3}, {MESH: 9}, cap=3, now_s=1.0)
    assert second.places == {MESH: 1}


def test_the_life_counts_from_the_beat() -> None:
    lease = Lease()
    number = lease.beat(10.0)
    lease.take(Allotment(term=1, serial=1, beat=number, life_s=LIFE_S, places={MESH: 1}))
    assert lease.until_s([MESH], {MESH: 1}) == 10.0 + LIFE_S
    assert lease.until_s([MESH], {MESH: 2}) == -math.inf


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"term": 1}, "old-term"),
        ({"serial": 3}, "replayed"),
        ({"serial": 2}, "replayed"),
        ({"beat": 2}, "unknown-beat"),
        ({"life_s": math.inf}, "invalid"),
        ({"life_s": -1.0}, "invalid"),
    ],
)
def test_refused_by_the_agent(changes: dict[str, Any], reason: str) -> None:
    """I6: sent by a deposed leader, repeated, or never asked for."""
    lease = Lease()
    good = Allotment(term=2, serial=3, beat=lease.beat(0.0), life_s=LIFE_S, places={MESH: 1})
    lease.take(good)
    before = (lease.acts_on, dict(lease.places), lease.ends_s)
    with pytest.raises(Refused) as refused:
        lease.take(replace(good, **{"serial": 4, **changes}))
    assert refused.value.reason == reason
    assert (lease.acts_on, dict(lease.places), lease.ends_s) == before


@pytest.mark.parametrize("scope", ["mesh", "workload/a/web"])
def test_shares(scope: str) -> None:
    parties = [Party("a", 30), Party("b", 10), Party("c", 10, used=1), Party("d", 0)]
    assert shares(scope, 10, parties) == {"a": 6, "b": 2, "c": 2, "d": 0}
    assert sum(shares(scope, 1, [Party("a", 5), Party("b", 5)]).values()) == 1
    assert shares(scope, 1, [Party("a", 5), Party("b", 5, wants=1)]) == {"a": 0, "b": 1}
    assert shares(scope, 2, [Party("a", 5, used=3), Party("b", 5)]) == {"a": 3, "b": 0}


@given(st.integers(0, 20), PARTIES)
def test_shares_never_exceed_what_there_is(budget: int, parties: list[Party]) -> None:
    got = shares("mesh", budget, parties)
    in_use = sum(party.used for party in parties)
    assert sum(got.values()) <= max(budget, in_use)
    assert all(got[party.name] <= max(party.used, min(party.pods, party.at_most)) for party in parties)
    assert all(got[party.name] >= party.used for party in parties)
    spare = any(got[party.name] < min(party.pods, party.at_most) for party in parties)
    assert not spare or sum(got.values()) >= budget  # nothing is left lying
