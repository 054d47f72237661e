"""Requests fail in the proxy and work without it: of a proxy that listens, not of one that was still starting."""

from __future__ import annotations

import pytest

from hotswitch.decide.diagnose import diagnose
from hotswitch.model import Fault, Grade, PathComparison, Pressure, ProbeOutcome
from tests.decide.scenes import EVERYTHING, NOW, OK, REFUSED, RESET, THRESHOLDS, TIMEOUT, UNREADY, dump, well

pytestmark = pytest.mark.unit


@pytest.mark.parametrize("proxied", [UNREADY, RESET, TIMEOUT])
def test_a_listening_proxy_fails(proxied: ProbeOutcome) -> None:
    diagnosis = diagnose(well(path=PathComparison(NOW - 0.1, proxied=proxied, direct=OK), path_streak=2), THRESHOLDS)
    assert (diagnosis.fault, diagnosis.grade) == (Fault.MISROUTING, Grade.CONFIRMED)


@pytest.mark.parametrize("proxied", [UNREADY, TIMEOUT])
@pytest.mark.parametrize(
    ("pressure", "enough"),
    [
        (Pressure(known=True, workers=2, still_workers=0), 2),  # our own questions keep both at work
        (Pressure(known=True, workers=2, still_workers=0, busy=True), 16),
        (Pressure(known=True, workers=2), 16),  # not watched for long enough
        (Pressure(known=True, workers=2, still_workers=0, busy=True, stopped=True), 2),
    ],
    ids=["serves", "busy", "unknown yet", "stopped"],
)
def test_a_busy_proxy_gets_more_patience(pressure: Pressure, enough: int, proxied: ProbeOutcome) -> None:
    for streak, grade in ((enough - 1, Grade.SUSPECTED), (enough, Grade.CONFIRMED)):
        path = PathComparison(NOW - 0.1, proxied=proxied, direct=OK)
        diagnosis = diagnose(well(path=path, path_streak=streak, pressure=pressure), THRESHOLDS)
        assert (diagnosis.fault, diagnosis.grade) == (Fault.MISROUTING, grade)


def test_a_squeezed_proxy_is_excused() -> None:
    path, squeezed = PathComparison(NOW - 0.1, proxied=UNREADY, direct=OK), Pressure(known=True, starved=True)
    diagnosis = diagnose(well(path=path, path_streak=99, pressure=squeezed), THRESHOLDS)
    assert (diagnosis.fault, diagnosis.grade) == (Fault.MISROUTING, Grade.SUSPECTED)


def test_late_while_a_worker_is_stuck() -> None:
    """It was not accepted: how long that may last is the queues' matter, and the fault has another name then."""
    late = PathComparison(NOW - 0.1, proxied=TIMEOUT, direct=OK)
    for stands_s, fault in ((0.3, Fault.MISROUTING), (0.9, Fault.STUCK_WORKER)):
        half = dump(NOW, EVERYTHING, {15006: (stands_s, 0.0)})
        diagnosis = diagnose(well(path=late, path_streak=5, listeners=half), THRESHOLDS)
        assert (diagnosis.fault, diagnosis.grade) == (fault, Grade.SUSPECTED)


def test_refused_before_the_listener_came() -> None:
    """15006 listens by a newer dump, so what refused was the proxy before its configuration came."""
    path = PathComparison(NOW - 0.1, proxied=REFUSED, direct=OK)
    diagnosis = diagnose(well(path=path, path_streak=5), THRESHOLDS)
    assert (diagnosis.fault, diagnosis.grade) == (Fault.MISROUTING, Grade.SUSPECTED)
