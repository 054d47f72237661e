"""Requests fail in the proxy and work without it: of a proxy that listens, not of one that was still starting."""

from __future__ import annotations

import pytest

from hotswitch.decide.diagnose import diagnose
from hotswitch.model import Fault, Grade, PathComparison, ProbeOutcome
from tests.decide.scenes import EVERYTHING, NOW, OK, REFUSED, RESET, THRESHOLDS, TIMEOUT, UNREADY, dump, well

pytestmark = pytest.mark.unit


@pytest.mark.parametrize("proxied", [UNREADY, RESET, TIMEOUT])
def test_a_listening_proxy_fails(proxied: ProbeOutcome) -> None:
    diagnosis = diagnose(well(path=PathComparison(NOW - 0.1, proxied=proxied, direct=OK), path_streak=2), THRESHOLDS)
    assert (diagnosis.fault, diagnosis.grade) == (Fault.MISROUTING, Grade.CONFIRMED)


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
