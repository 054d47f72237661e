"""What a pod is told of its role, and what its keeper may confirm (I7)."""

from __future__ import annotations

import pytest

from hotswitch.backends import BackendId, ServiceId
from hotswitch.endpoints.roles import REMEMBERED_S, RoleBook
from hotswitch.model import Generation, PodUid
from tests.endpoints.make import SERVICE

pytestmark = pytest.mark.unit
ONE, TWO = BackendId("", PodUid("one")), BackendId("", PodUid("two"))


def book() -> RoleBook:
    roles = RoleBook(lambda: True, lambda: 0.0)
    roles.open(SERVICE)
    roles.appoint(SERVICE, ONE, Generation(3), 5.0, frozenset({ONE, TWO}))
    return roles


def test_a_generation_that_is_yet_to_come_is_not_confirmed_beforehand() -> None:  # I7: it would count as fenced
    roles = book()
    assert not roles.confirm(TWO, Generation(4))
    roles.appoint(SERVICE, TWO, Generation(4), 5.0, frozenset({ONE, TWO}))
    roles.appoint(SERVICE, None, Generation(4), 5.0, frozenset({ONE, TWO}))
    assert not roles.is_confirmed(SERVICE, TWO, Generation(4))
    assert roles.confirm(TWO, Generation(4)) and roles.is_confirmed(SERVICE, TWO, Generation(4))


def test_what_a_pod_confirmed_that_has_left_counts_in_its_generation() -> None:  # I7
    roles = book()
    roles.appoint(SERVICE, None, Generation(3), 5.0, frozenset({ONE, TWO}))
    assert roles.confirm(ONE, Generation(3))
    roles.appoint(SERVICE, None, Generation(3), 5.0, frozenset({TWO}))
    assert roles.is_confirmed(SERVICE, ONE, Generation(3))


def test_a_pod_of_two_services_with_roles_is_told_nothing() -> None:  # I7
    roles, other = book(), ServiceId("shop", "db-too")
    assert roles.ask(ONE, 0.0) is not None
    roles.open(other)
    roles.appoint(other, TWO, Generation(1), 5.0, frozenset({ONE, TWO}))
    assert roles.ask(ONE, 0.0) is None and not roles.confirm(ONE, Generation(1))
    roles.dismiss(other)
    assert roles.ask(ONE, 0.0) is not None


def aged() -> tuple[RoleBook, list[float]]:
    """One appointed at 0 s, and what the clock says."""
    now = [0.0]
    roles = RoleBook(lambda: True, lambda: now[0])
    roles.open(SERVICE)
    roles.appoint(SERVICE, ONE, Generation(3), 5.0, frozenset({ONE, TWO}))
    return roles, now


def test_a_keeper_stops_while_its_question_stands_and_counts_as_heard_when_it_came() -> None:  # S0.6, I7
    roles, now = aged()
    now[0] = 10.0
    answer = roles.ask(ONE, 8.0, by_keeper=True)
    assert answer is not None and answer.ttl_s == 5.0, "for so long from before it was asked"
    assert roles.told_s(SERVICE) == 8.0
    assert roles.quiet_s(SERVICE, 5.0) == pytest.approx(8.0 + 5.25 + 0.25)
    now[0] = 13.6
    assert ONE in roles.quiet(SERVICE, 5.0)


def test_a_keeper_stops_and_its_app_goes_on_asking() -> None:  # S0.6, I7: it would be thought well for ever
    roles, now = aged()
    assert roles.ask(ONE, 0.0, by_keeper=True)
    now[0] = 4.0
    answer = roles.ask(ONE, 4.0)
    assert answer is not None and answer.ttl_s == pytest.approx(1.0), "as long as its keeper lets it, and no longer"
    assert roles.told_s(SERVICE) == 0.0
    now[0] = 5.6
    assert roles.ask(ONE, 5.6) is None and ONE in roles.quiet(SERVICE, 5.0)


def test_a_standby_is_promoted_while_its_question_stands_and_is_not_silent_for_that() -> None:  # S0.6
    roles, now = aged()
    assert roles.ask(TWO, 1.0, by_keeper=True)
    now[0] = 8.0
    roles.appoint(SERVICE, TWO, Generation(4), 5.0, frozenset({ONE, TWO}))
    assert TWO not in roles.quiet(SERVICE, 5.0) and roles.quiet_s(SERVICE, 5.0) == pytest.approx(13.5)


def test_pods_that_have_left_are_forgotten() -> None:
    now_s = 0.0
    roles = RoleBook(lambda: True, lambda: now_s)
    roles.open(SERVICE)
    for number in range(100):
        pod = BackendId("", PodUid(f"pod-{number}"))
        roles.appoint(SERVICE, None, Generation(number + 1), 5.0, frozenset({pod}))
        assert roles.ask(pod, now_s) and roles.confirm(pod, Generation(number + 1))
        now_s += REMEMBERED_S
    office = roles._offices[SERVICE]
    assert len(office.heard_s) <= 2 and len(office.confirmed) <= 2
