"""A worker between the API and the kernel, and what is left when either, or it, fails at any step (I1, I4, I6)."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from hotswitch.act.order import Outcome
from hotswitch.api import names
from hotswitch.decide.codes import Code
from hotswitch.model import Diagnosis, Direction, Fault, Grade, Level, Mode, Override, ProbeOutcome
from tests.controller.world import (
    CLOSED,
    OPEN,
    SHIFT_S,
    Kernel,
    Killed,
    Mischief,
    World,
    leading,
    run,
)

pytestmark = pytest.mark.k8s


def test_a_sidecar_dies_and_comes_back() -> None:  # S4.2a, S4.4, S4.5
    async def story() -> None:
        world, uid = leading()
        world.kill(uid)
        await world.turn(2)
        assert world.levels(uid) == OPEN
        status = world.api.status(uid)
        assert status is not None and not status.under_way and status.levels[Direction.INBOUND] is Level.RESCUE
        assert status.code == Code.OPENED and status.expires and status.by == "hotswitch"
        world.heal(uid)
        await world.turn(4)
        assert world.levels(uid) == CLOSED
        status = world.api.status(uid)
        assert status is not None and not status.alerts and not status.under_way
        assert [notice.resolved for notice in world.notices if notice.code == Code.OPENED] == [False, True]

    run(story)


def test_where_the_evidence_is_kept_is_told_with_the_fault() -> None:  # S4.7
    async def story() -> None:
        world, uid = leading()
        world.kill(uid)
        await world.turn(2)
        told = next(notice for notice in world.notices if notice.code == Code.OPENED)
        assert told.sentence.endswith("kubectl exec -n shop web-0 -c hotswitch-helper -- hotswitch evidence")

    run(story)


def test_what_was_seen_before_an_act_is_not_taken_for_the_truth_after_it() -> None:  # I6
    async def story() -> None:
        world, uid = leading()
        world.kill(uid)
        await world.turn(3, later=False)  # the second turn comes at once, on news
        assert world.levels(uid) == OPEN and world.kernel.gates[uid].log == [1]

    run(story)


def test_it_is_written_down_before_it_is_done() -> None:  # I6, I8
    async def story() -> None:
        world, uid = leading()
        world.kill(uid)
        world.kernel.mischief = Mischief(at=1)  # ability, then the act
        with pytest.raises(Killed):
            await world.turn()
        status = world.api.status(uid)
        assert status is not None and status.step == "gate" and status.wanted[Direction.INBOUND] is Level.RESCUE
        assert world.levels(uid) == CLOSED

    run(story)


def test_mode_observe_writes_and_opens_nothing() -> None:
    async def story() -> None:
        world, uid = leading(policy=replace(World().policy, mode=Mode.OBSERVE))
        world.kill(uid)
        await world.turn(3)
        assert world.levels(uid) == CLOSED and world.api.status(uid) is None
        assert world.codes() == [Code.WOULD_OPEN] and world.kernel.mischief.calls == 0  # no pod was entered
        assert "would be inbound to the rescue, outbound direct" in world.notices[0].sentence

    run(story)


def test_garbage_in_the_status_annotation() -> None:
    async def story() -> None:
        world = World()
        uid = world.add("web-0")
        world.api.change(uid, annotations={names.STATUS: '{"uid": 7'})
        world.lead()
        world.kill(uid)
        await world.turn(3)
        assert "HSC001" in world.codes() and world.levels(uid) == OPEN
        assert world.api.status(uid) is not None

    run(story)


def test_status_of_another_pod_is_not_believed() -> None:  # I6
    async def story() -> None:
        world = World()
        uid, other = world.add("web-0"), world.add("web-1", "deploy/other")
        world.lead()
        world.kill(other)
        await world.turn(2)
        copied = dict(world.api.pods[other].annotations)
        world.api.change(uid, annotations=copied)
        world.heal(uid)
        world.lead()
        await world.workers[uid].turn()
        assert world.workers[uid].status is None and not world.workers[uid].standing.is_open

    run(story)


@pytest.mark.parametrize("outcome", [Outcome.REFUSED, Outcome.FAILED])
def test_actuator_says_no(outcome: Outcome) -> None:
    async def story() -> None:
        world, uid = leading()
        world.kernel.outcome = outcome
        world.kill(uid)
        await world.turn(2)
        status = world.api.status(uid)
        assert world.levels(uid) == CLOSED and status is not None and not status.under_way
        assert "HSC003" in world.codes()
        world.kernel.outcome = None
        await world.turn(2)
        assert world.levels(uid) == OPEN

    run(story)


def test_first_actuator_cannot_and_the_second_can() -> None:
    async def story() -> None:
        world, uid = leading()
        means = world.workers[uid]._means
        useless = Kernel(name="exec", refusal="the container has no rights")
        means.actuators["exec"] = useless  # type: ignore[index]
        original = world.protection

        async def both(pod: Any) -> Any:
            return replace(await original(pod), actuators=("exec", "helper"))

        world.protection = both  # type: ignore[method-assign]
        world.kill(uid)
        await world.turn(1)
        assert world.levels(uid) == OPEN and world.api.status(uid).actuator == "helper"  # type: ignore[union-attr]
        world.heal(uid)
        await world.turn(4)
        world.kernel.refusal = "the helper has ended"
        world.kill(uid)
        await world.turn(2)
        held = [n for n in world.notices if n.code == Code.HELD][-1]
        assert any("no rights" in why and "has ended" in why for why in held.evidence.values())

    run(story)


def test_a_person_orders_and_the_order_ends() -> None:  # I4
    async def story() -> None:
        world, uid = leading()
        now_s = asyncio.get_running_loop().time()
        order: Override | None = Override({Direction.OUTBOUND: Level.DIRECT}, now_s + 3600, "INC-1", "ann")
        original = world.protection

        async def ordered(pod: Any) -> Any:
            return replace(await original(pod), override=order)

        world.protection = ordered  # type: ignore[method-assign]
        world.kernel.beside = Diagnosis(Fault.WELL, Grade.NONE, "well")
        await world.turn(2)
        assert world.levels(uid) == (Level.CAPTURE, Level.DIRECT)
        assert world.api.status(uid).by == "ann"  # type: ignore[union-attr]
        order = None
        await world.turn(2)
        assert world.levels(uid) == CLOSED

    run(story)


def test_expiry_passes_while_nobody_leads() -> None:  # I1
    async def story() -> None:
        world, uid = leading(policy=replace(World().policy, expiry_s=0.2))
        world.kill(uid)
        await world.turn(2)
        assert world.levels(uid) == OPEN
        gate = world.kernel.gates[uid]
        gate.ends_s = asyncio.get_running_loop().time()  # the kernel's timeout
        assert world.levels(uid) == CLOSED
        world.heal(uid)
        world.lead()
        await world.turn(3)
        status = world.api.status(uid)
        assert status is not None and status.levels == {way: Level.CAPTURE for way in Direction}

    run(story)


def test_actuator_without_an_expiry_of_its_own() -> None:  # I4, S4.3b
    """Istio's own commands have none: the controller closes when the time is over, also one that remembers nothing."""

    async def story() -> None:
        world = World(policy=replace(World().policy, expiry_s=0.2, open_at_most_s=0.2))
        world.kernel.expires = False
        uid = world.add("web-0")
        world.lead()
        world.kill(uid)
        await world.turn(2)
        assert world.levels(uid) == OPEN
        world.lead()
        await asyncio.sleep(0.25)  # the opening's own end
        await world.turn(1)
        assert world.levels(uid) == CLOSED
        await world.turn(2)
        assert world.levels(uid) == CLOSED and not world.api.status(uid).under_way  # type: ignore[union-attr]

    run(story)


def test_pod_is_gone_with_its_gate_open() -> None:
    async def story() -> None:
        world, uid = leading()
        world.kill(uid)
        await world.turn(2)
        del world.api.pods[uid]
        await world.turn()
        assert world.workers[uid].gone
        assert [n.resolved for n in world.notices if n.code == Code.OPENED] == [False, True]

    run(story)


def test_only_one_observer_sees_a_hang() -> None:  # S4.2b, I2
    async def story() -> None:
        world, uid = leading()
        world.far[uid] = ProbeOutcome.TIMEOUT
        world.kernel.beside = Diagnosis(Fault.WELL, Grade.NONE, "well")
        await world.turn(3)
        assert world.levels(uid) == CLOSED
        world.kernel.beside = Diagnosis(Fault.HUNG, Grade.CONFIRMED, "hung", {}, 0.0)
        await world.turn(2)
        assert world.levels(uid) == OPEN

    run(story)


def test_times_are_told_in_utc() -> None:
    from hotswitch.controller.memory import instant, unix_s

    assert instant(0.0, SHIFT_S) == "2027-01-15T08:00:00.000Z" and unix_s("2027-01-15T08:00:00.000Z") == SHIFT_S
