"""Pods and proxies that end on purpose: terminating, drained, restarted; nothing opens for them (I2)."""

from __future__ import annotations

from dataclasses import replace

import pytest

from hotswitch.decide import Code
from hotswitch.model import (
    Facts,
    Fault,
    Mtls,
    Pressure,
)
from tests.decide.scenes import (
    AUTO,
    UNREADY,
    both,
    dead,
    dump,
    hung,
    probes,
    well,
)
from tests.decide.switched import CAPTURE, DIRECT, HOLD, NO_RESCUE, RESCUE, Pod, Scene, dead_for_sure, order

pytestmark = pytest.mark.unit


def test_pod_terminates_with_an_open_gate() -> None:
    """I2: no act on a terminating pod; what is open serves its last requests until it expires."""
    pod = Pod()
    pod.see(dead)
    assert pod.see(lambda at: dead(at, terminating=True), 1) == [Code.LEFT_TO_EXPIRE]
    assert pod.see(lambda at: dead(at, terminating=True), 1) == []


def test_pod_terminates_and_its_sidecar_dies() -> None:
    pod = Pod()
    assert pod.see(lambda at: dead(at, terminating=True)) == [Code.TERMINATING]
    assert pod.see(lambda at: dead(at, terminating=True), 1) == []  # said once


def closing_down(at_s: float) -> Facts:
    return well(at_s, listeners=dump(at_s, (15000, 15001, 15021, 15090, 8080)), probes=probes(UNREADY, until_s=at_s))


def test_node_shuts_down_and_nobody_says_so() -> None:
    """I2: no deletionTimestamp, the proxy dies first, and it looks like a perfect crash."""
    pod = Pod()
    pod.see(well)
    assert pod.see(closing_down, 1) == [Code.TERMINATING]
    assert pod.see(dead_for_sure, 5) == []
    assert pod.standing.fault is Fault.WELL
    assert pod.see(dead_for_sure, 300) == [Code.OPENED]  # nothing terminates for that long


def test_node_shuts_down_again() -> None:
    """Each closing down counts anew."""
    pod = Pod()
    pod.see(closing_down)
    pod.see(dead, 250)
    pod.see(closing_down, 10)
    assert pod.see(dead, 250) == []


def drained_inbound(at_s: float) -> Facts:
    return well(at_s, listeners=dump(at_s, (15000, 15001, 15021, 15090, 8080)))


def starved(at_s: float) -> Facts:
    return replace(hung(at_s), pressure=Pressure(starved=True, known=True))


def hardly_known(at_s: float) -> Facts:
    return well(at_s, listeners=None, probes=())


@pytest.mark.parametrize("looks", [drained_inbound, starved, hardly_known])
def test_node_shuts_down_and_somebody_orders_a_bypass(looks: Scene) -> None:
    """A proxy that closes down may look drained or slow, or too little is known of it: no order opens it (I2)."""
    pod = Pod()
    pod.see(well)
    pod.see(closing_down, 1)
    pod.standing = replace(pod.standing, override=order(both(RESCUE, CAPTURE)))
    assert Code.OPENED_BY_ORDER not in pod.see(looks, 1)
    assert not pod.standing.is_open


def test_sidecar_is_restarted_gracefully_and_dies_later() -> None:
    pod = Pod()
    pod.see(closing_down)
    pod.see(dead, 5)
    assert pod.see(well, 2) == []
    assert pod.see(dead, 5) == [Code.OPENED]


def test_restarting_sidecar_looks_as_though_it_closed_down() -> None:
    """Inside an episode that means nothing: its listeners come one by one."""
    pod = Pod()
    pod.see(dead)
    assert pod.see(closing_down, 1) == [Code.LEFT_TO_EXPIRE]
    assert pod.see(dead, 250) == [Code.RENEWED]


def test_policy_is_tightened_while_terminating() -> None:
    """An opening may still shrink."""
    pod = Pod(capabilities=NO_RESCUE)
    pod.see(dead_for_sure)
    assert pod.standing.levels == both(DIRECT, DIRECT)
    pod.policy = replace(AUTO, mtls=Mtls.STRICT)
    (shrunk, _) = pod.decide(lambda at: dead(at, terminating=True), 100)
    assert (shrunk.code, shrunk.expiry_s) == (Code.CHANGED, 200)
    assert pod.standing.levels == both(HOLD, DIRECT)
