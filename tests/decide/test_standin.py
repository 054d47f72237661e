"""When the app's probes may be answered in pilot-agent's place (S4.2, I2)."""

from __future__ import annotations

from dataclasses import replace

import pytest

from hotswitch.decide import assess, step
from hotswitch.decide.standin import Duty, duty
from hotswitch.model import Capabilities, Facts, Listeners, Mode, Policy
from tests.decide.scenes import AUTO, NOW, RESCUE_READY, dead, view, well

pytestmark = pytest.mark.unit

PILOT = 15020


def without_pilot(facts: Facts) -> Facts:
    assert facts.listeners is not None
    kept = tuple(queue for queue in facts.listeners.queues if queue.port != PILOT)
    return replace(facts, listeners=Listeners(facts.listeners.at_s, kept))


def asked(facts: Facts, later: Facts | None = None, policy: Policy = AUTO, gate: Capabilities = RESCUE_READY) -> Duty:
    """After a step on `facts`, on what is seen `later`."""
    seen = view(facts, policy=policy, capabilities=gate)
    standing, _ = step(seen)
    after = replace(seen, standing=standing, facts=later or facts)
    return duty(after, assess(after), PILOT)


def test_it_is_its_duty_while_the_proxy_is_dead_and_pilot_agent_away() -> None:
    assert asked(without_pilot(dead())).answer is True


def test_pilot_agent_itself_comes_first() -> None:
    assert asked(dead(), replace(dead(), listeners=well().listeners)).answer is False


def test_a_proxy_that_is_well_needs_nobody() -> None:
    assert asked(without_pilot(well())) == Duty(False, "no fault of the proxy is proven")


def test_an_app_that_falls_sick_meanwhile_goes_on_being_asked() -> None:
    gone = without_pilot(dead())
    assert gone.listeners is not None
    no_app = replace(gone, listeners=Listeners(NOW, ()), app_ports=frozenset({8080}))
    assert asked(gone, no_app).answer is True


@pytest.mark.parametrize("forbidden", [{"terminating": True}, {"ever_ready": False}])
def test_what_is_forbidden_to_the_gate_is_forbidden_here(forbidden: dict[str, bool]) -> None:
    assert asked(replace(without_pilot(dead()), **forbidden)).answer is False


def test_a_pod_that_begins_to_terminate() -> None:
    assert asked(without_pilot(dead()), replace(without_pilot(dead()), terminating=True)).answer is False


def test_only_in_mode_auto_and_where_the_gate_may_be_written() -> None:
    assert asked(without_pilot(dead()), policy=replace(AUTO, mode=Mode.OBSERVE)).answer is False
    refuses = replace(RESCUE_READY, gate=False, gate_refusal="somebody else's NAT")
    assert asked(without_pilot(dead()), gate=refuses) == Duty(False, "somebody else's NAT")


def test_what_is_not_known_changes_nothing() -> None:
    old = replace(without_pilot(dead()), listeners=Listeners(NOW - 5.0, ()))
    assert asked(without_pilot(dead()), old).answer is None
    assert asked(without_pilot(dead()), replace(old, listeners=None)).answer is None
