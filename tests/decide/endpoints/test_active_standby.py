"""Who is promoted, who is withdrawn, and when nobody is: one step at a time (S0.2 to S0.7, I7)."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from hotswitch.backends import ActivityLease, Backend, Role, Rotation, ServiceOptions, Staleness
from hotswitch.decide.endpoints.active_standby import (
    PREEMPT_AFTER_S,
    REINSTATE_AFTER_S,
    Election,
    Situation,
    Verdict,
    Word,
    published,
    step,
)
from hotswitch.model import Generation
from tests.endpoints.make import backend, service

pytestmark = pytest.mark.unit
A, B, C = (backend(f"db-{number}", number) for number in range(3))
ILL = {"kubelet_ready": False}
SERVING = Election(generation=Generation(4), active=A.id)
FENCING = Election(generation=Generation(4), fencing=A.id, why="db-0 is unavailable")


def taken(election: Election, *backends: Backend, options: ServiceOptions | None = None, **more: Any) -> Verdict:
    return step(Situation(service=service(options=options), backends=backends, election=election, **more))


def ill(one: Backend) -> Backend:
    return replace(one, kubelet_ready=False)


def test_first_of_all_the_first_is_promoted() -> None:  # S0.3
    verdict = taken(Election(), A, B)
    assert verdict.election == Election(generation=Generation(1), active=A.id, why="nobody served")
    assert verdict.word is Word.PROMOTED


def test_unavailable_ones_are_never_promoted() -> None:  # S0.2, S0.4
    assert taken(Election(), ill(A), B).election.active == B.id


@pytest.mark.parametrize(
    "unfit",
    [
        {"kubelet_ready": False},
        {"terminating": True},
        {"rotation": Rotation.DRAINING},
        {"rotation": Rotation.OUT},
        {"staleness": Staleness.LOST},
        {"ended": True},
    ],
)
def test_nobody_fit_nobody_promoted_and_it_is_said(unfit: dict[str, Any]) -> None:  # S0.7
    verdict = taken(Election(generation=Generation(3)), replace(A, **unfit))
    assert verdict.word is Word.NONE_AVAILABLE and verdict.alarm
    assert verdict.election.active is None and verdict.election.generation == 3


def test_the_highest_priority_then_the_name() -> None:
    assert taken(Election(), A, replace(B, priority=5), replace(C, priority=5)).election.active == B.id


def test_a_cluster_that_is_not_heard_of_comes_last() -> None:  # S2.7
    stale = replace(A, staleness=Staleness.STALE, priority=9)
    assert taken(Election(), stale, B).election.active == B.id
    assert taken(Election(), stale).election.active == A.id


def test_an_active_that_is_well_stays() -> None:
    verdict = taken(SERVING, A, replace(B, priority=9), since_s=3600.0)
    assert verdict.election is SERVING and verdict.word is Word.SERVES and not verdict.alarm


def test_an_active_that_fails_is_withdrawn_and_nobody_is_promoted_yet() -> None:  # S0.6, I7
    verdict = taken(SERVING, ill(A), B)
    assert verdict.word is Word.WITHDRAWN
    assert (verdict.election.active, verdict.election.fencing, verdict.election.generation) == (None, A.id, 4)


def test_without_a_fence_nobody_is_promoted() -> None:  # I7
    verdict = taken(FENCING, ill(A), B, since_s=1e9)
    assert verdict.election is FENCING and verdict.word is Word.FENCING and verdict.alarm


def test_fenced_and_the_best_of_that_moment_is_promoted() -> None:  # S0.6, S0.7
    verdict = taken(FENCING, ill(A), ill(B), C, fenced="the pod is gone")
    assert verdict.election.active == C.id and verdict.election.generation == 5
    assert "the pod is gone" in verdict.sentence


def test_fenced_and_nobody_is_left() -> None:  # S0.7
    verdict = taken(FENCING, ill(A), ill(B), fenced="the pod is gone")
    assert verdict.election.active is None and verdict.election.fencing is None
    assert verdict.election.generation == 4 and verdict.word is Word.NONE_AVAILABLE


def test_one_that_is_well_again_succeeds_itself_when_no_fence_is_to_be_had() -> None:  # S0.7
    assert taken(FENCING, A, B, since_s=REINSTATE_AFTER_S - 0.1).word is Word.FENCING
    verdict = taken(FENCING, A, B, since_s=REINSTATE_AFTER_S)
    assert verdict.election.active == A.id and verdict.election.generation == 5


def test_the_only_one_keeps_its_role_while_it_is_ill() -> None:  # S0.7
    verdict = taken(SERVING, ill(A), ill(B))
    assert verdict.election is SERVING and verdict.word is Word.NONE_AVAILABLE and verdict.alarm


def test_a_pod_that_is_gone_is_withdrawn_though_nobody_can_follow() -> None:
    assert taken(SERVING, ill(B)).election.fencing == A.id
    assert taken(SERVING, replace(A, ended=True)).election.fencing == A.id


@pytest.mark.parametrize("leaving", [{"rotation": Rotation.DRAINING}, {"terminating": True}])
def test_an_active_that_leaves_makes_room(leaving: dict[str, Any]) -> None:
    going = replace(A, **leaving)
    assert taken(SERVING, going, B).word is Word.WITHDRAWN
    assert taken(SERVING, going, ill(B)).election is SERVING  # until there is somebody


def test_preempting_only_where_it_is_wanted_and_not_at_once() -> None:
    better, wanted = replace(B, priority=1), ServiceOptions(preempt=True)
    assert taken(SERVING, A, better, options=wanted, since_s=PREEMPT_AFTER_S - 1).election is SERVING
    assert taken(SERVING, A, better, options=wanted, since_s=PREEMPT_AFTER_S).word is Word.WITHDRAWN
    assert taken(SERVING, A, B, options=wanted, since_s=3600.0).election is SERVING  # not for a name


def test_paused_nobody_is_promoted_and_what_has_begun_is_finished() -> None:
    paused = ServiceOptions(paused=True)
    assert taken(SERVING, ill(A), B, options=paused).word is Word.PAUSED
    assert taken(Election(), A, options=paused).word is Word.PAUSED
    assert taken(FENCING, ill(A), B, options=paused, fenced="gone").election.active == B.id


def test_a_switchover_goes_where_it_was_ordered_to() -> None:
    first = taken(SERVING, A, B, C, order=("db-2", 100.0))
    assert first.word is Word.WITHDRAWN and first.election.target == "db-2"
    second = taken(first.election, A, B, C, order=("db-2", 100.0), fenced="confirmed")
    assert second.election.active == C.id and second.election.target == ""
    third = taken(second.election, A, B, C, order=("db-2", 100.0))  # carried out once
    assert third.election is second.election


def test_a_switchover_counts_while_paused() -> None:
    assert taken(SERVING, A, B, options=ServiceOptions(paused=True), order=("db-1", 1.0)).word is Word.WITHDRAWN


@pytest.mark.parametrize(("name", "why"), [("db-9", "no pod"), ("db-0", "already"), ("db-1", "not available")])
def test_a_switchover_that_cannot_be_is_refused_for_good(name: str, why: str) -> None:
    verdict = taken(SERVING, A, ill(B), order=(name, 100.0))
    assert verdict.word is Word.ORDER_REFUSED and why in verdict.sentence
    assert verdict.election == replace(SERVING, handled_unix_s=100.0)
    assert taken(verdict.election, A, B, order=(name, 100.0)).election is verdict.election


def test_the_time_to_live_is_that_of_the_promotion() -> None:  # I7
    leased = ServiceOptions(lease=ActivityLease(5.0, frozenset({"lease"})))
    assert taken(Election(), A, options=leased).election.ttl_s == 5.0
    serving = replace(SERVING, ttl_s=5.0)
    assert taken(serving, ill(A), B).election.ttl_s == 5.0  # though the annotation is gone


def test_an_election_with_two_in_it_cannot_be_made() -> None:  # I7
    with pytest.raises(ValueError, match="is not fenced"):
        Election(active=A.id, fencing=B.id)


def test_one_is_published_as_ready_and_standbys_never() -> None:  # S0.4, S0.5
    told = published(service(), (A, B, replace(C, staleness=Staleness.LOST)), replace(SERVING, active=B.id))
    assert [each.pod.name for each in told.ready] == ["db-1"]
    assert [(each.backend.role, each.conditions.ready) for each in told.endpoints] == [
        (Role.ACTIVE, True),
        (Role.STANDBY, False),
    ]
    assert told.generation == 4 and told.endpoints[0].backend.generation == 4


def test_while_somebody_is_to_be_fenced_nobody_is_published() -> None:  # I7
    assert published(service(), (A, B), FENCING).ready == ()
