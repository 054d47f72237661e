"""What a receiver must still be told: nothing doubled, nothing without end, no fire without its end (S4.6)."""

import hypothesis.strategies as st
import msgspec
import pytest
from hypothesis import given, settings

from hotswitch.report.alerts.ledger import ENDED, NEVER, STATE_BYTES, Ledger, Taken
from hotswitch.report.alerts.payload import Phase
from hotswitch.report.notice import Severity
from hotswitch.report.scrub import scrub
from tests.report.receiving import notice

pytestmark = pytest.mark.unit
T = 1_764_230_400.0


def said(ledger, now, at_most=64):
    return [(each.notice.key, str(each.phase)) for each in ledger.due(now, at_most)]


def test_the_same_fault_is_told_again_and_again() -> None:
    ledger = Ledger(repeat_s=60)
    assert ledger.tell(notice(), T)[0] is Taken.QUEUED
    assert ledger.tell(notice(), T + 1)[0] is Taken.FOLDED
    ledger.taken(ledger.due(T + 1, 64), T + 1)
    assert ledger.tell(notice(sentence="Other words."), T + 2)[0] is Taken.FOLDED
    assert said(ledger, T + 60) == []
    (repeat,) = ledger.due(T + 61, 64)
    assert (repeat.phase, repeat.notice.sentence) == (Phase.REPEATED, "Other words.")


def test_a_graver_word_does_not_wait_for_the_repeat() -> None:
    ledger = Ledger(repeat_s=3600)
    ledger.tell(notice(), T)
    ledger.taken(ledger.due(T, 1), T)
    ledger.tell(notice(severity=Severity.CRITICAL), T + 1)
    (now,) = ledger.due(T + 1, 1)
    assert (now.phase, now.before.severity) == (Phase.FIRED, Severity.WARNING)


def test_without_repeat_nothing_is_due_any_more() -> None:
    ledger = Ledger(repeat_s=0)
    ledger.tell(notice(), T)
    ledger.taken(ledger.due(T, 1), T)
    assert ledger.next_due() == NEVER
    ledger.tell(notice(ends=T + 9), T + 9)
    assert said(ledger, T + 9) == [("u1/HSD001", "resolved")]


def test_fault_ends_before_the_receiver_could_be_reached() -> None:
    """One message tells both: when it began and when it ended."""
    ledger = Ledger(repeat_s=60)
    ledger.tell(notice(starts=T), T)
    ledger.tell(notice(starts=T + 5, ends=T + 5), T + 5)
    (only,) = ledger.due(T + 5, 64)
    assert (only.phase, only.notice.starts_unix_s, only.notice.ends_unix_s) == (Phase.RESOLVED, T, T + 5)
    ledger.taken([only], T + 6)
    assert len(ledger) == 0
    assert ledger.tell(notice(ends=T + 5), T + 7)[0] is Taken.FOLDED, "its end is known"


def test_fault_ends_while_its_fire_is_on_the_way() -> None:
    ledger = Ledger(repeat_s=60)
    ledger.tell(notice(), T)
    flying = ledger.due(T, 1)
    ledger.tell(notice(ends=T + 1), T + 1)
    ledger.taken(flying, T + 2)
    assert said(ledger, T + 2) == [("u1/HSD001", "resolved")]


def test_fault_comes_back_while_its_end_is_on_the_way() -> None:
    ledger = Ledger(repeat_s=60)
    ledger.tell(notice(), T)
    ledger.taken(ledger.due(T, 1), T)
    ledger.tell(notice(ends=T + 1), T + 1)
    flying = ledger.due(T + 1, 1)
    ledger.tell(notice(starts=T + 2), T + 2)
    ledger.taken(flying, T + 3)
    assert said(ledger, T + 3) == [("u1/HSD001", "fired")]


def test_flapping_between_two_messages_is_no_message() -> None:
    ledger = Ledger(repeat_s=3600)
    ledger.tell(notice(), T)
    ledger.taken(ledger.due(T, 1), T)
    for step in range(100):
        ledger.tell(notice(ends=T + step), T + step)
        ledger.tell(notice(), T + step)
    assert said(ledger, T + 100) == []


def test_too_many_at_once_drop_the_oldest_and_least_grave() -> None:
    ledger = Ledger(repeat_s=60, at_most=3)
    ledger.tell(notice("warning"), T)
    ledger.tell(notice("old", severity=Severity.INFO, starts=T - 9), T)
    ledger.tell(notice("new", severity=Severity.INFO, starts=T - 1), T)
    assert ledger.tell(notice("page", severity=Severity.CRITICAL), T)[1].key == "old"
    assert ledger.tell(notice("page2", severity=Severity.CRITICAL), T)[1].key == "new"
    assert ledger.tell(notice("late", severity=Severity.INFO), T) == (
        Taken.DROPPED,
        notice("late", severity=Severity.INFO),
    )
    assert [key for key, _ in said(ledger, T)] == ["page", "page2", "warning"]


def test_an_end_that_is_owed_is_never_dropped() -> None:
    ledger = Ledger(repeat_s=60, at_most=2)
    for key in ("a", "b"):
        ledger.tell(notice(key, severity=Severity.INFO), T)
    ledger.taken(ledger.due(T, 2), T)
    assert ledger.tell(notice("page", severity=Severity.CRITICAL), T)[0] is Taken.DROPPED
    ledger.tell(notice("a", severity=Severity.INFO, ends=T + 1), T + 1)
    assert said(ledger, T + 1) == [("a", "resolved")]


def test_a_message_refused_for_good_is_given_up_but_not_an_end() -> None:
    ledger = Ledger(repeat_s=60)
    ledger.tell(notice("never"), T)
    assert [lost.key for lost in ledger.refused(ledger.due(T, 1), T)] == ["never"]
    ledger.tell(notice("told"), T)
    ledger.taken(ledger.due(T, 1), T)
    ledger.tell(notice("told", ends=T + 1), T + 1)
    assert ledger.refused(ledger.due(T + 1, 1), T + 1) == []
    assert said(ledger, T + 61) == [("told", "resolved")]


def test_each_attempt_has_the_same_id_and_each_new_word_another() -> None:
    ledger = Ledger(repeat_s=60)
    ledger.tell(notice(), T)
    first, again = ledger.due(T, 1)[0], ledger.due(T + 9, 1)[0]
    assert first.id == again.id
    ledger.taken([again], T + 9)
    repeat = ledger.due(T + 69, 1)[0]
    ledger.taken([repeat], T + 69)
    ledger.tell(notice(ends=T + 70), T + 70)
    assert len({first.id, repeat.id, ledger.due(T + 70, 1)[0].id}) == 3


def test_controller_restarts_between_fire_and_end() -> None:
    ledger = Ledger(repeat_s=3600)
    ledger.tell(notice(), T)
    ledger.tell(notice("unsent"), T)
    ledger.taken(ledger.due(T, 1), T)
    after = Ledger(repeat_s=3600)
    after.tell(notice("u1/HSD001", ends=T + 9), T + 9)  # told before the state was read
    after.adopt(ledger.encode(), T + 10)
    assert sorted(said(after, T + 10)) == [("u1/HSD001", "resolved"), ("unsent", "fired")]


def test_controller_is_killed_with_an_end_that_it_has_told_and_not_kept() -> None:
    """The receiver knows that it was over, so what begins then is news; what goes on is none."""
    first = Ledger(repeat_s=3600)
    first.tell(notice(), T)
    first.taken(first.due(T, 1), T)
    kept = first.encode()
    first.tell(notice(ends=T + 5), T + 5)
    assert [each.phase for each in first.due(T + 5, 1)] == [Phase.RESOLVED]
    second = Ledger(repeat_s=3600)
    second.adopt(kept, T + 6)
    assert second.tell(notice(), T + 7)[0] is Taken.FOLDED
    assert second.tell(notice(starts=T + 8), T + 8)[0] is Taken.QUEUED
    (anew,) = second.due(T + 8, 64)
    assert (anew.phase, anew.notice.starts_unix_s) == (Phase.FIRED, T + 8)
    second.taken([anew], T + 8)
    assert second.tell(notice(starts=T + 9), T + 9)[0] is Taken.FOLDED, "from then on it is known"
    second.tell(notice(starts=T + 8, ends=T + 10), T + 10)
    assert [(each.phase, each.notice.starts_unix_s) for each in second.due(T + 10, 64)] == [(Phase.RESOLVED, T + 8)]


def test_what_was_told_while_the_store_was_read_may_begin_anew() -> None:
    first, second = Ledger(repeat_s=3600), Ledger(repeat_s=3600)
    first.tell(notice(), T)
    first.taken(first.due(T, 1), T)
    second.tell(notice(starts=T + 8), T + 8)
    second.adopt(first.encode(), T + 9)
    assert [(each.phase, each.notice.starts_unix_s) for each in second.due(T + 9, 64)] == [(Phase.FIRED, T + 8)]


def test_the_clock_is_set_back_over_a_restart() -> None:
    ledger = Ledger(repeat_s=60)
    ledger.tell(notice(), T + 1e6)
    after = Ledger(repeat_s=60)
    after.adopt(ledger.encode(), T)
    assert after.next_due() <= T + 60


@pytest.mark.parametrize("content", [b"", b"{", b'{"matters": 1}', b'{"matters": [{}]}', b"\xff\xfe"])
def test_state_that_is_not_ours_changes_nothing(content: bytes) -> None:
    ledger = Ledger(repeat_s=60)
    ledger.tell(notice(), T)
    with pytest.raises(ValueError):
        ledger.adopt(content, T)
    assert said(ledger, T) == [("u1/HSD001", "fired")]


def test_state_stays_small_whatever_workloads_write() -> None:
    """Labels and sentences come from whoever owns a workload."""
    wide = "\N{SNOWMAN}" * 9999
    ledger = Ledger(repeat_s=60)
    for number in range(260):
        labels = {f"label_{n}": wide for n in range(50)}
        evidence = {f"evidence {n}": wide for n in range(50)}
        ledger.tell(scrub(notice(f"{number}{wide}", sentence=wide, labels=labels, evidence=evidence)), T)
    ledger.taken(ledger.due(T, 999), T)
    content = ledger.encode()
    assert len(content) <= STATE_BYTES
    after = Ledger(repeat_s=60)
    after.adopt(content, T)
    assert after.standing.keys() == ledger.standing.keys()


KEYS = st.sampled_from("abcdef")
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("fire"), KEYS, st.sampled_from(list(Severity))),
        st.tuples(st.just("end"), KEYS),
        st.tuples(st.sampled_from(["send", "lose answer", "refuse", "restart", "pick up", "arrive"])),
    ),
    max_size=60,
)


@settings(max_examples=400, deadline=None)
@given(STEPS)
def test_whoever_was_told_of_a_fire_is_told_of_its_end(steps) -> None:
    """A receiver's view, after all is quiet, is what is true (S4.6); whatever was lost, refused, or crashed before."""
    ledger, now = Ledger(repeat_s=60, at_most=3), T
    believes, truth, flying = set(), set(), []

    def receive(tellings):
        for each in tellings:
            (believes.discard if each.notice.resolved else believes.add)(each.notice.key)

    for step in steps:
        now += 1
        if flying and step[0] in ("send", "lose answer", "refuse", "pick up"):
            continue  # one message at a time is on its way to a receiver
        match step:
            case ("fire", key, severity):
                truth.add(key)
                ledger.tell(notice(key, starts=now, severity=severity), now)
            case ("end", key):
                truth.discard(key)
                ledger.tell(notice(key, starts=now, ends=now), now)
            case ("send",):
                tellings = ledger.due(now, 2)
                receive(tellings)
                ledger.taken(tellings, now)
            case ("lose answer",):
                receive(ledger.due(now, 2))
            case ("refuse",):
                ledger.refused(ledger.due(now, 2), now)
            case ("restart",):
                flying, after = [], Ledger(repeat_s=60, at_most=3)
                after.adopt(ledger.encode(), now)
                ledger = after
            case ("pick up",):
                flying = ledger.due(now, 2)
            case ("arrive",):
                receive(flying)
                ledger.taken(flying, now)
                flying = []
        assert len(ledger) <= 3
    for _ in range(10):
        now += 61
        tellings = ledger.due(now, 2)
        receive(tellings)
        ledger.taken(tellings, now)
    assert believes <= truth, "an alert that fires for ever"


def test_ended_keys_are_bounded() -> None:
    ledger = Ledger(repeat_s=60)
    for number in range(ENDED + 50):
        ledger.tell(notice(str(number), ends=T), T)
        ledger.taken(ledger.due(T, 9), T)
    assert len(msgspec.json.decode(ledger.encode())["ended"]) == ENDED
