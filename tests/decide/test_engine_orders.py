"""Modes, and a person's order, as the engine obeys them (S4.4, S4.6, I2)."""

from __future__ import annotations

from dataclasses import replace

import pytest

from hotswitch.decide import Code
from hotswitch.model import (
    Act,
    Fault,
    Mode,
    Mtls,
    Standing,
    Surroundings,
)
from tests.decide.scenes import (
    AUTO,
    PROXY_PORTS,
    both,
    codes,
    dead,
    dump,
    well,
)
from tests.decide.switched import CAPTURE, DIRECT, HOLD, NO_RESCUE, RESCUE, Pod, Scene, dead_for_sure, order

pytestmark = pytest.mark.unit


def test_mode_off() -> None:
    pod = Pod(policy=replace(AUTO, mode=Mode.OFF))
    assert pod.see(dead_for_sure) == []
    assert pod.standing == Standing()


def test_mode_turned_off_while_open() -> None:
    pod = Pod()
    pod.see(dead)
    pod.policy = replace(AUTO, mode=Mode.OFF)
    assert pod.see(dead, 1) == [Code.CLOSED_BY_MODE]
    assert pod.standing.levels == both(CAPTURE, CAPTURE) and pod.standing.fault is Fault.WELL


def test_mode_observe() -> None:
    pod = Pod(policy=replace(AUTO, mode=Mode.OBSERVE))
    (said,) = pod.decide(dead)
    assert (said.act, said.code, said.generation) == (Act.HOLD, Code.WOULD_OPEN, 0)
    assert said.sentence.startswith("would be inbound to the rescue, outbound direct: the proxy is dead")
    assert pod.see(dead, 1) == []
    pod.recovers()
    (again,) = pod.decide(dead, 1)
    assert "would page" in again.sentence and again.act is Act.HOLD
    assert not pod.standing.is_open


def test_mode_turned_to_observe_while_open() -> None:
    pod = Pod()
    pod.see(dead)
    pod.policy = replace(AUTO, mode=Mode.OBSERVE)
    assert pod.see(dead, 1) == [Code.CLOSED_BY_MODE, Code.WOULD_OPEN]
    pod.policy = AUTO
    assert pod.see(dead, 1) == [Code.OPENED]


def test_order_on_a_well_pod() -> None:
    pod = Pod(standing=Standing(override=order(both(DIRECT, DIRECT))))
    (opened,) = pod.decide(well)
    assert (opened.code, opened.expiry_s) == (Code.OPENED_BY_ORDER, 60)  # the kernel keeps the order's end (I1)
    assert "ordered by ada: maintenance" in opened.sentence
    assert pod.see(well, 30) == []
    assert pod.see(well, 31) == [Code.EXPIRED]
    assert pod.standing.override is None and not pod.standing.is_open


def test_long_order_is_renewed() -> None:
    pod = Pod(standing=Standing(override=order(both(DIRECT, HOLD), for_s=1000)))
    pod.see(well)
    assert pod.see(well, 151) == [Code.RENEWED]


def test_order_obeys_the_policy() -> None:
    """I2: an order replaces the evidence, never the policy."""
    pod = Pod(policy=replace(AUTO, mtls=Mtls.STRICT), standing=Standing(override=order(both(DIRECT, RESCUE))))
    refused = pod.decide(well)
    assert codes(refused) == [Code.ORDER_REFUSED, Code.ORDER_REFUSED]
    assert Code.STRICT_MTLS in refused[0].sentence and Code.NOT_LISTED in refused[1].sentence
    assert pod.see(well, 1) == []


@pytest.mark.parametrize(
    "scene",
    [
        lambda at: well(at, terminating=True),
        lambda at: well(at, ever_ready=False),
        lambda at: well(at, listeners=dump(at, PROXY_PORTS)),
    ],
)
def test_order_where_nobody_may_act(scene: Scene) -> None:
    pod = Pod(standing=Standing(override=order(both(RESCUE, DIRECT))))
    assert Code.ORDER_REFUSED in pod.see(scene)
    assert not pod.standing.is_open


def test_order_over_budget() -> None:
    pod = Pod(
        standing=Standing(override=order(both(RESCUE, HOLD))), surroundings=Surroundings(open_on_node=1, node_budget=1)
    )
    assert pod.see(well) == [Code.ORDER_REFUSED]


def test_order_without_an_end() -> None:
    pod = Pod(standing=Standing(override=order(both(RESCUE, HOLD), for_s=float("inf"))))
    assert pod.see(well) == [] and pod.standing.override is None


def test_order_to_keep_capture() -> None:
    pod = Pod()
    pod.see(dead)
    pod.standing = replace(pod.standing, override=order(both(CAPTURE, CAPTURE)))
    assert pod.see(dead, 1) == [Code.CLOSED_BY_ORDER, Code.HELD]
    assert pod.see(dead, 60) == [Code.OPENED]


def test_order_ends_while_the_fault_lasts() -> None:
    """What an order opened is no evidence: `direct` inbound now needs its second source."""
    pod = Pod(capabilities=NO_RESCUE, standing=Standing(override=order(both(DIRECT, DIRECT))))
    pod.see(dead)
    pod.standing = replace(pod.standing, override=None)
    assert pod.see(dead, 1) == [Code.CHANGED]
    assert pod.standing.levels == both(HOLD, DIRECT)


def test_order_is_not_limited_by_the_induced_rule() -> None:
    pod = Pod(capabilities=NO_RESCUE)
    pod.see(dead)
    pod.recovers()
    pod.standing = replace(pod.standing, override=order(both(DIRECT, HOLD), at_s=pod.now_s))
    assert pod.see(dead, 1) == [Code.OPENED_BY_ORDER, Code.FAULT_AGAIN]
