"""What counts as a second observer of a hang, and what says nothing (S4.2, S4.2b, I2)."""

from __future__ import annotations

from dataclasses import replace

import pytest

from hotswitch.decide.diagnose import diagnose
from hotswitch.decide.second import Word, beside, may_hang, word
from hotswitch.model import Facts, Fault, Opinion, PathComparison, Pressure, Tripwire
from tests.decide.scenes import EVERYTHING, NOW, OK, THRESHOLDS, TIMEOUT, dead, dump, hung, probes, well

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(
    ("fault", "opinion", "said"),
    [
        (Fault.HUNG, Opinion(3, 0, 3), Word.AGREES),
        (Fault.HUNG, Opinion(3, 1, 2), Word.CONTRADICTS),
        (Fault.HUNG, Opinion(3, 0, 2), Word.NOTHING),  # one was refused, or cut
        (Fault.HUNG, Opinion(), Word.NOTHING),
        (Fault.STUCK_WORKER, Opinion(3, 2, 1), Word.AGREES),
        (Fault.STUCK_WORKER, Opinion(3, 3, 0), Word.NOTHING),  # the other workers answer
        (Fault.STUCK_WORKER, Opinion(), Word.NOTHING),
    ],
)
def test_what_the_controller_says(fault: Fault, opinion: Opinion, said: Word) -> None:
    assert word(fault, opinion) is said


def shown(facts: Facts) -> str:
    hang = diagnose(facts, THRESHOLDS)
    assert hang.fault in (Fault.HUNG, Fault.STUCK_WORKER)
    return beside(facts, hang, THRESHOLDS)


def test_the_socket_that_was_asked_is_no_second() -> None:
    assert shown(hung(for_s=0.8)) == ""


def test_threads_request_path_and_other_queues_are() -> None:
    stopped = hung(for_s=0.8, pressure=Pressure(known=True, stopped=True))
    failed = hung(for_s=0.8, path=PathComparison(NOW, proxied=TIMEOUT, direct=OK))
    queued = hung(for_s=0.8, listeners=dump(NOW, EVERYTHING, {15021: (0.8, 0.8), 15006: (0.0, 0.5)}))
    assert "every thread" in shown(stopped)
    assert "the proxied way fails (timeout)" in shown(failed)
    assert "queue of 15006" in shown(queued)


def test_what_is_older_than_the_hang_or_has_just_begun_is_none() -> None:
    before = hung(for_s=0.8, path=PathComparison(NOW - 5.0, proxied=TIMEOUT, direct=OK))
    young = hung(for_s=0.8, listeners=dump(NOW, EVERYTHING, {15021: (0.8, 0.8), 15006: (0.1, 0.1)}))
    both_ways = hung(for_s=0.8, path=PathComparison(NOW, proxied=TIMEOUT, direct=TIMEOUT))
    assert [shown(each) for each in (before, young)] == ["", ""]
    assert beside(both_ways, diagnose(hung(for_s=0.8), THRESHOLDS), THRESHOLDS) == ""


def test_one_worker_that_is_stuck_keeps_its_queue_elsewhere_too() -> None:
    half = {15021: (0.9, 0.0)}
    facts = well(listeners=dump(NOW, EVERYTHING, half), probes=probes(OK, TIMEOUT, OK, TIMEOUT, OK))
    assert shown(facts) == ""
    both = dump(NOW, EVERYTHING, {**half, 15001: (0.0, 0.9)})
    assert "queue of 15001" in shown(replace(facts, listeners=both))


def test_a_proxy_that_answers_or_dies_is_not_looked_at_twice() -> None:
    assert not may_hang(well()) and not may_hang(dead())
    assert may_hang(hung()) and may_hang(well(tripwire=Tripwire.UNANSWERED))
