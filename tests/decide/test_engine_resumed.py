"""The agent itself restarts, or reads what makes no sense (I1, I6)."""

from __future__ import annotations

from dataclasses import replace

import pytest

from hotswitch.decide import Code, step
from hotswitch.model import (
    Act,
    Direction,
    Fault,
    Generation,
    Mtls,
    Opening,
    Standing,
)
from tests.decide.scenes import (
    AUTO,
    NOW,
    both,
    dead,
    view,
    well,
)
from tests.decide.switched import CAPTURE, DIRECT, HOLD, RESCUE, Pod

pytestmark = pytest.mark.unit


def read_back(pod: Pod) -> Standing:
    """What a new agent learns from the kernel's gate."""
    kept = pod.standing
    return Standing(
        generation=kept.generation,
        levels=kept.levels,
        openings=kept.openings,
        expires_s=kept.expires_s,
        rebuilt=True,
    )


def test_agent_restarts_while_bypassed() -> None:
    pod = Pod()
    pod.see(dead)
    pod.standing = read_back(pod)
    assert pod.see(dead, 5) == []
    assert pod.standing.opened_s == NOW and pod.standing.fault is Fault.DEAD
    assert pod.recovers() == [Code.RESTORED]


def test_agent_restarts_while_bypassed_and_finds_the_sidecar_well() -> None:
    pod = Pod()
    pod.see(dead)
    pod.standing = read_back(pod)
    assert pod.recovers(2) == [Code.RESTORED]


def test_agent_restarts_and_has_never_seen_the_sidecar_ready() -> None:
    """An open gate shows that it was."""
    pod = Pod()
    pod.see(dead)
    pod.standing = read_back(pod)
    assert pod.see(lambda at: dead(at, ever_ready=False), 200) == [Code.RENEWED]


def test_agent_reads_back_a_gate_that_is_open_for_one_port() -> None:
    only = Opening(CAPTURE, {8080: DIRECT})
    lost = Standing(openings={Direction.INBOUND: only}, expires_s=NOW + 300, rebuilt=True)
    mixed = replace(AUTO, inbound=(DIRECT,), outbound=(), mtls=Mtls.STRICT, mtls_by_port={8080: Mtls.PERMISSIVE})
    pod = Pod(policy=mixed, standing=lost)
    assert pod.see(dead) == []
    assert pod.standing.levels == both(DIRECT, HOLD)


def test_agent_is_crashed_to_wash_off_the_hold_down() -> None:
    pod = Pod()
    pod.see(dead)
    pod.recovers()
    pod.standing = read_back(pod)
    assert pod.see(well) == []
    assert pod.see(dead, 5) == [Code.OPENED, Code.FAULT_AGAIN]


def test_gate_is_open_without_a_known_expiry() -> None:
    """I4: it gets one, or it is closed."""
    lost = Standing(generation=Generation(3), levels=both(RESCUE, HOLD), rebuilt=True)
    pod = Pod(standing=lost, policy=replace(AUTO, outbound=(HOLD,)))
    (renewed,) = pod.decide(dead)
    assert (renewed.act, renewed.expiry_s, renewed.generation) == (Act.RENEW, 300, 4)
    assert Pod(standing=lost).see(well) == [Code.CLOSED_NO_LEVEL]


def test_policy_without_an_expiry() -> None:
    for expiry_s in (0.0, -1.0, float("inf"), float("nan")):
        pod = Pod(policy=replace(AUTO, expiry_s=expiry_s))
        assert pod.see(dead) == [Code.HELD]


def test_clock_is_nonsense() -> None:
    nowhere = view(dead(), Standing(), now_s=float("nan"))
    assert step(nowhere) == (Standing(), ())
