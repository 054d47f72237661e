"""Accept queues of both families: what stands, what is served, and what was only never asked (S4.2b)."""

from __future__ import annotations

from dataclasses import replace

import pytest

from hotswitch.decide.diagnose import diagnose
from hotswitch.model import Facts, Fault, Grade, Listeners, Pressure
from tests.decide.scenes import EVERYTHING, NOW, OK, THRESHOLDS, TIMEOUT, dump, hung, probes, well

pytestmark = pytest.mark.unit

STOPPED = Pressure(known=True, stopped=True)


def said(facts: Facts) -> tuple[Fault, Grade]:
    diagnosis = diagnose(facts, THRESHOLDS)
    return diagnosis.fault, diagnosis.grade


def dual(listeners: Listeners | None) -> Listeners:
    """The same proxy with sockets for IPv6, at which nobody waits, because the probes go to IPv4."""
    assert listeners is not None
    idle = tuple(
        replace(queue, inode=queue.inode + 5000, waiting=0, stuck_s=0.0, ipv6=True) for queue in listeners.queues
    )
    return Listeners(listeners.at_s, (*listeners.queues, *idle))


def test_sidecar_of_a_dual_stack_pod_hangs() -> None:
    facts = hung(for_s=0.8)
    assert said(replace(facts, listeners=dual(facts.listeners))) == (Fault.HUNG, Grade.CONFIRMED)


def test_one_worker_of_a_dual_stack_pod_is_stuck() -> None:
    half = dual(dump(NOW, EVERYTHING, {15021: (0.9, 0.0)}))
    facts = well(listeners=half, probes=probes(OK, TIMEOUT, OK, TIMEOUT, OK))
    assert said(facts) == (Fault.STUCK_WORKER, Grade.CONFIRMED)


def test_whole_sidecar_is_stopped_and_only_one_worker_was_asked_yet() -> None:
    """The kernel happened to hand every probe to the same socket."""
    half = dump(NOW, EVERYTHING, {15021: (0.9, 0.0)})
    facts = well(listeners=half, probes=probes(OK, TIMEOUT, TIMEOUT, TIMEOUT), pressure=STOPPED)
    assert said(facts) == (Fault.HUNG, Grade.CORROBORATED)
    assert said(replace(facts, probes=probes(OK, TIMEOUT)))[0] is Fault.HUNG, "never one stuck worker"
