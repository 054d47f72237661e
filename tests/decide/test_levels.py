"""Which level each direction gets: the policy's order, and why a level falls to the next (I2, I3)."""

from __future__ import annotations

from dataclasses import replace

import pytest

from hotswitch.decide import Code, step
from hotswitch.decide.levels import ANSWERS
from hotswitch.decide.ports import direct_inbound, effective, within
from hotswitch.model import (
    Act,
    Capabilities,
    Decision,
    Direction,
    Facts,
    Fault,
    Level,
    Mtls,
    Opening,
    PathComparison,
    Policy,
    Surroundings,
)
from tests.decide.scenes import (
    APP,
    AUTO,
    NOW,
    OK,
    RESCUE_READY,
    RESET,
    both,
    dead,
    hung,
    view,
    well,
)

pytestmark = pytest.mark.unit

RESCUE, DIRECT, HOLD = Level.RESCUE, Level.DIRECT, Level.HOLD
NO_RESCUE = Capabilities(rescue=False, rescue_refusal="still starting")
SURE = dead(for_s=1.0, container_running=False)  # corroborated


def levels(
    facts: Facts,
    policy: Policy = AUTO,
    capabilities: Capabilities = RESCUE_READY,
    surroundings: Surroundings | None = None,
) -> dict[Direction, Level]:
    standing, _ = step(view(facts, policy=policy, capabilities=capabilities, surroundings=surroundings))
    return dict(standing.levels)


def first(
    facts: Facts,
    policy: Policy = AUTO,
    capabilities: Capabilities = RESCUE_READY,
    surroundings: Surroundings | None = None,
) -> Decision:
    return step(view(facts, policy=policy, capabilities=capabilities, surroundings=surroundings))[1][0]


def test_order_of_the_policy() -> None:
    assert levels(SURE) == both(RESCUE, DIRECT)
    assert levels(SURE, replace(AUTO, inbound=(DIRECT, RESCUE))) == both(DIRECT, DIRECT)
    assert levels(SURE, replace(AUTO, inbound=(HOLD, RESCUE), outbound=(HOLD,))) == both(HOLD, HOLD)


def test_level_that_is_not_listed() -> None:
    assert levels(SURE, replace(AUTO, inbound=(RESCUE,)), NO_RESCUE) == both(HOLD, DIRECT)
    assert levels(SURE, replace(AUTO, inbound=(), outbound=())) == both(HOLD, HOLD)


@pytest.mark.parametrize(
    ("facts", "capabilities", "code"),
    [
        (SURE, NO_RESCUE, Code.NO_RESCUE),
        (SURE, replace(RESCUE_READY, rescue_deaths=2), Code.RESCUE_DIES),
        (replace(SURE, identity_expires_in_s=None), RESCUE_READY, Code.NO_IDENTITY),
        (replace(SURE, identity_expires_in_s=0.0), RESCUE_READY, Code.IDENTITY_EXPIRED),
        (SURE, replace(RESCUE_READY, gate=False, gate_refusal="foreign NAT"), Code.GATE_REFUSES),
    ],
)
def test_rescue_cannot_hold(facts: Facts, capabilities: Capabilities, code: Code) -> None:
    fallen = first(facts, capabilities=capabilities)
    assert fallen.evidence["not inbound rescue"].startswith(code)
    assert levels(facts, capabilities=capabilities)[Direction.INBOUND] is (DIRECT if capabilities.gate else HOLD)


def test_one_death_of_the_rescue_is_forgiven() -> None:
    assert levels(SURE, capabilities=replace(RESCUE_READY, rescue_deaths=1)) == both(RESCUE, DIRECT)


def test_direct_inbound_needs_a_second_source() -> None:
    alone = dead(for_s=5.0)
    assert levels(alone, capabilities=NO_RESCUE) == both(HOLD, DIRECT)
    assert first(alone, capabilities=NO_RESCUE).evidence["not inbound direct"].startswith(Code.NOT_SURE_ENOUGH)
    assert levels(SURE, capabilities=NO_RESCUE) == both(DIRECT, DIRECT)


def test_strict_port_is_never_direct() -> None:
    """I2, port by port."""
    strict = replace(AUTO, mtls=Mtls.STRICT)
    assert levels(SURE, strict, NO_RESCUE) == both(HOLD, DIRECT)
    assert first(SURE, strict, NO_RESCUE).evidence["not inbound direct"].startswith(Code.STRICT_MTLS)
    assert levels(SURE, strict) == both(RESCUE, DIRECT)


def test_some_ports_are_strict() -> None:
    mixed = replace(AUTO, mtls_by_port={9000: Mtls.STRICT})
    opened = first(SURE, mixed, NO_RESCUE)
    assert opened.openings[Direction.INBOUND] == Opening(DIRECT, {9000: HOLD})
    assert opened.openings[Direction.OUTBOUND] == Opening(DIRECT)


def test_all_ports_but_one_are_strict() -> None:
    mixed = replace(AUTO, mtls=Mtls.STRICT, mtls_by_port={APP: Mtls.PERMISSIVE, 15008: Mtls.DISABLE})
    opened = first(SURE, mixed, NO_RESCUE)
    assert opened.openings[Direction.INBOUND] == Opening(HOLD, {APP: DIRECT})  # 15008 is never opened (S4.3a)


def test_strict_is_granted_by_the_mesh() -> None:
    """The administrators accept plaintext where STRICT forbids it; the rescue still comes first, if listed."""
    granted = replace(AUTO, mtls=Mtls.STRICT, strict_granted=True)
    assert first(SURE, granted, NO_RESCUE).openings[Direction.INBOUND] == Opening(DIRECT)
    assert levels(SURE, granted) == both(RESCUE, DIRECT)


def test_ports_that_the_preflight_refuses() -> None:
    some = replace(AUTO, never_direct=frozenset({9000}))
    assert first(SURE, some, NO_RESCUE).openings[Direction.INBOUND] == Opening(DIRECT, {9000: HOLD})
    every = replace(AUTO, never_direct=frozenset({APP}))
    assert levels(SURE, every, NO_RESCUE) == both(HOLD, DIRECT)
    assert first(SURE, every, NO_RESCUE).evidence["not inbound direct"].startswith(Code.PORTS_REFUSED)


def test_every_declared_port_is_strict() -> None:
    assert direct_inbound(replace(AUTO, mtls_by_port={APP: Mtls.STRICT}), frozenset({APP})) is None
    assert direct_inbound(replace(AUTO, mtls=Mtls.STRICT), frozenset()) is None


@pytest.mark.parametrize(
    ("surroundings", "code"),
    [
        (Surroundings(open_on_node=1, node_budget=1), Code.NODE_BUDGET),
        (Surroundings(open_of_workload=2, workload_budget=2, node_budget=9), Code.WORKLOAD_BUDGET),
        (Surroundings(pods_on_node=4, faulty_on_node=3), Code.FROZEN),
        (Surroundings(frozen="most of the mesh looks sick"), Code.FROZEN),
        (Surroundings(open_until_s=NOW), Code.GRANT_ENDED),
    ],
)
def test_budget_is_spent(surroundings: Surroundings, code: Code) -> None:
    """I3: the budget holds for the rescue too."""
    held = step(view(SURE, surroundings=surroundings))[1]
    assert all(decision.act not in {Act.OPEN, Act.CUT} for decision in held)
    assert any(decision.evidence["not inbound rescue"].startswith(code) for decision in held)


@pytest.mark.parametrize(
    "surroundings", [Surroundings(pods_on_node=3, faulty_on_node=3), Surroundings(pods_on_node=4, faulty_on_node=2)]
)
def test_too_few_to_suspect_the_observer(surroundings: Surroundings) -> None:
    assert levels(SURE, surroundings=surroundings) == both(RESCUE, DIRECT)


def test_only_what_was_seen_to_fail_is_opened() -> None:
    """The two ways were compared inbound; outbound mTLS may be working."""
    blames = PathComparison(NOW, proxied=RESET, direct=OK)
    assert levels(well(path=blames, path_streak=2)) == both(RESCUE, HOLD)


def test_expired_certificate_is_answered_by_the_rescue_only() -> None:
    expired = well(proxy_certificate_expires_in_s=-1.0, container_running=False)
    assert levels(expired) == both(RESCUE, HOLD)
    assert levels(expired, capabilities=NO_RESCUE) == both(HOLD, HOLD)
    assert levels(replace(expired, identity_expires_in_s=-1.0)) == both(HOLD, HOLD)
    assert levels(expired, replace(AUTO, outbound=(RESCUE,))) == both(RESCUE, RESCUE)


def test_faults_that_are_never_acted_on() -> None:
    """I2."""
    never = {Fault.THROTTLED, Fault.DRAINED, Fault.TERMINATING, Fault.STARTING, Fault.APP_SICK}
    assert not (never | {Fault.UNKNOWN, Fault.WELL}) & ANSWERS.keys()
    assert set(Fault) == never | {Fault.UNKNOWN, Fault.WELL} | ANSWERS.keys()


def test_suspicion_opens_nothing() -> None:
    assert levels(hung(for_s=0.5)) == both(Level.CAPTURE, Level.CAPTURE)


def test_one_opening_within_another() -> None:
    everything, but_one, only = Opening(DIRECT), Opening(DIRECT, {9: HOLD}), Opening(HOLD, {8: DIRECT})
    assert within(but_one, everything) and within(only, but_one) and within(Opening(HOLD), only)
    assert not within(everything, but_one) and not within(but_one, only)
    assert not within(Opening(RESCUE), everything)
    assert effective(only) is DIRECT and effective(Opening(HOLD, {8: HOLD})) is HOLD
