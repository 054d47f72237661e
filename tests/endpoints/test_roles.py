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
    assert roles.ask(ONE) is not None
    roles.open(other)
    roles.appoint(other, TWO, Generation(1), 5.0, frozenset({ONE, TWO}))
    assert roles.ask(ONE) is None and not roles.confirm(ONE, Generation(1))
    roles.dismiss(other)
    assert roles.ask(ONE) is not None


def test_pods_that_have_left_are_forgotten() -> None:
    now_s = 0.0
    roles = RoleBook(lambda: True, lambda: now_s)
    roles.open(SERVICE)
    for number in range(100):
        pod = BackendId("", PodUid(f"pod-{number}"))
        roles.appoint(SERVICE, None, Generation(number + 1), 5.0, frozenset({pod}))
        assert roles.ask(pod) and roles.confirm(pod, Generation(number + 1))
        now_s += REMEMBERED_S
    office = roles._offices[SERVICE]
    assert len(office.heard_s) <= 2 and len(office.confirmed) <= 2
