"""Hung, throttled, or one worker stuck: what each is told from (S4.2b)."""

from __future__ import annotations

from dataclasses import replace

import pytest

from hotswitch.model import Fault, PathComparison, Pressure, Tripwire
from tests.decide.scenes import (
    APP,
    EVERYTHING,
    INVALID,
    NOW,
    OK,
    TIMEOUT,
    dead,
    dump,
    hung,
    probes,
    well,
)
from tests.decide.test_diagnose import CONFIRMED, CORROBORATED, NONE, SUSPECTED, said

pytestmark = pytest.mark.unit


def test_sidecar_hangs() -> None:
    assert said(hung(for_s=0.8)) == (Fault.HUNG, CONFIRMED)


def test_sidecar_is_stopped() -> None:
    stopped = Pressure(known=True, stopped=True, throttled=True)
    assert said(hung(pressure=stopped)) == (Fault.HUNG, CORROBORATED)


def test_sidecar_hangs_too_briefly() -> None:
    assert said(hung(for_s=0.5)) == (Fault.HUNG, SUSPECTED)  # two timeouts


def test_sidecar_accepts_and_does_not_answer() -> None:
    """15021 is answered by pilot-agent behind Envoy: timeouts without a standing queue do not blame the proxy."""
    slow_agent = hung(listeners=dump(NOW, EVERYTHING))
    assert said(slow_agent) == (Fault.HUNG, SUSPECTED)


def test_queue_seen_before_the_timeouts() -> None:
    old = hung(for_s=0.75, listeners=dump(NOW - 0.8, EVERYTHING, {15021: (1.0, 1.0)}))
    assert said(old) == (Fault.HUNG, SUSPECTED)


def test_hang_between_answers() -> None:
    assert said(hung(probes=probes(TIMEOUT, TIMEOUT, OK, TIMEOUT)))[1] is SUSPECTED


def test_our_own_loop_was_late() -> None:
    assert said(hung(probes=probes(OK, *[INVALID] * 12))) == (Fault.WELL, NONE)
    assert said(hung(probes=probes(TIMEOUT, INVALID, TIMEOUT, INVALID, TIMEOUT))) == (Fault.HUNG, CONFIRMED)


@pytest.mark.parametrize("reason", ["throttled", "memory", "starved"])
def test_sidecar_is_only_slow(reason: str) -> None:
    squeezed = Pressure(known=True, **{reason: True})
    assert said(hung(for_s=5.0, pressure=squeezed)) == (Fault.THROTTLED, CONFIRMED)
    assert said(hung(for_s=0.5, pressure=squeezed)) == (Fault.THROTTLED, SUSPECTED)


def test_throttled_and_the_proxied_way_times_out() -> None:
    squeezed = Pressure(known=True, throttled=True)
    blames = PathComparison(NOW, proxied=TIMEOUT, direct=OK)
    assert said(well(pressure=squeezed, path=blames, path_streak=9)) == (Fault.MISROUTING, SUSPECTED)


def test_pressure_is_not_known() -> None:
    """Nothing can be excluded, so twice as many timeouts are asked for."""
    assert said(hung(for_s=0.8, pressure=Pressure())) == (Fault.HUNG, SUSPECTED)
    assert said(hung(for_s=1.5, pressure=Pressure())) == (Fault.HUNG, CONFIRMED)


def test_one_of_two_workers_is_stuck() -> None:
    half = dump(NOW, EVERYTHING, {15021: (0.9, 0.0)})
    assert said(well(listeners=half, probes=probes(OK, TIMEOUT, OK, TIMEOUT, OK))) == (Fault.STUCK_WORKER, CONFIRMED)
    assert said(well(listeners=half)) == (Fault.STUCK_WORKER, SUSPECTED)  # no probe has suffered yet
    assert said(well(listeners=half, probes=probes(TIMEOUT, TIMEOUT, TIMEOUT)))[0] is Fault.STUCK_WORKER


def test_one_worker_is_busy_for_a_moment() -> None:
    half = dump(NOW, EVERYTHING, {15006: (0.3, 0.0)})
    assert said(well(listeners=half, probes=probes(OK, TIMEOUT, OK))) == (Fault.WELL, NONE)


def test_one_worker_is_stuck_while_throttled() -> None:
    half = dump(NOW, EVERYTHING, {15021: (0.9, 0.0)})
    squeezed = Pressure(known=True, throttled=True)
    assert said(well(listeners=half, probes=probes(OK, TIMEOUT, OK), pressure=squeezed))[0] is Fault.THROTTLED


def test_drained_and_its_certificate_has_ended() -> None:
    """Until it is clear what the refusal means, nothing else is said of it: it may be drained, on purpose."""
    coming = dead(for_s=0.001, listeners=dump(NOW, (15000, 15020, APP)), proxy_certificate_expires_in_s=-5.0)
    assert said(coming) == (Fault.DEAD, SUSPECTED)


def test_sidecar_has_much_to_do() -> None:
    """All of its workers work, and its queues never shrink: no hang, unless it goes on for long."""
    busy = Pressure(known=True, still_workers=0)
    assert said(hung(for_s=1.9, pressure=busy)) == (Fault.HUNG, SUSPECTED)
    assert said(hung(for_s=2.1, pressure=busy)) == (Fault.HUNG, CONFIRMED)
    assert said(hung(for_s=1.0, pressure=replace(busy, stopped=True))) == (Fault.HUNG, CORROBORATED)
    half = dump(NOW, EVERYTHING, {15021: (0.9, 0.0)})
    assert said(well(listeners=half, probes=probes(OK, TIMEOUT, OK), pressure=busy))[0] is Fault.WELL
    stands = replace(busy, still_workers=1)
    assert said(well(listeners=half, probes=probes(OK, TIMEOUT, OK), pressure=stands))[0] is Fault.STUCK_WORKER


def test_its_workers_were_not_watched_for_long_enough() -> None:
    """They may be waiting for a CPU."""
    unknown = Pressure(known=True, workers=2)
    assert said(hung(for_s=0.8, pressure=unknown)) == (Fault.HUNG, SUSPECTED)
    assert said(hung(for_s=0.8, pressure=replace(unknown, still_workers=2))) == (Fault.HUNG, CONFIRMED)
    assert said(hung(for_s=0.8, pressure=replace(unknown, stopped=True))) == (Fault.HUNG, CORROBORATED)


def test_unanswered_and_yet_accepted() -> None:
    """Seen under stress: inbound had its queues full, and those of 15021 moved."""
    inbound = dump(NOW, EVERYTHING, {15006: (0.9, 0.9)})
    assert said(hung(for_s=1.0, listeners=inbound)) == (Fault.HUNG, SUSPECTED)
    half = well(listeners=dump(NOW, EVERYTHING, {15006: (0.9, 0.0)}), probes=probes(OK, TIMEOUT, OK, TIMEOUT, OK))
    assert said(half) == (Fault.STUCK_WORKER, SUSPECTED)


def test_one_worker_stands_and_nearly_all_is_answered() -> None:
    """Of two workers, a stuck one would have got every other question."""
    half = dump(NOW, EVERYTHING, {15006: (4.5, 0.0), 15021: (4.5, 0.0)})
    rare = probes(*[OK] * 7, TIMEOUT, *[OK] * 8, every_s=0.05)
    assert said(well(listeners=half, probes=rare)) == (Fault.STUCK_WORKER, SUSPECTED)
    often = probes(*[OK, OK, OK, TIMEOUT] * 4, every_s=0.05)
    assert said(well(listeners=half, probes=often)) == (Fault.STUCK_WORKER, CONFIRMED)


def test_broken_connection_neither_refused_nor_accepted() -> None:
    assert said(well(tripwire=Tripwire.UNANSWERED, tripwire_since_s=NOW - 0.1)) == (Fault.HUNG, SUSPECTED)
