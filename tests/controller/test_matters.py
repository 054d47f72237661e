"""What people were told has an end, and not before it has ended (S4.6)."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from typing import Any

import pytest

from hotswitch.act.order import Outcome
from hotswitch.api.names import STATUS
from hotswitch.controller.app import Controller
from hotswitch.controller.settings import ControllerSettings
from hotswitch.decide.codes import Code
from hotswitch.model import Mode
from tests.controller.world import CLOSED, World, ends, leading, run

pytestmark = pytest.mark.k8s


def test_observer_tells_the_end_of_what_it_told() -> None:
    async def story() -> None:
        world, uid = leading(policy=replace(World().policy, mode=Mode.OBSERVE))
        world.kill(uid)
        await world.turn(3)
        worker = world.workers[uid]
        assert Code.WOULD_OPEN in worker.matters and not worker.at_rest and ends(world, Code.WOULD_OPEN) == [False]
        world.heal(uid)
        await world.turn(4)
        assert ends(world, Code.WOULD_OPEN) == [False, True] and not worker.matters
        assert STATUS not in world.api.pods[uid].annotations

    run(story)


def test_observed_pod_is_deleted() -> None:
    async def story() -> None:
        world, uid = leading(policy=replace(World().policy, mode=Mode.OBSERVE))
        world.kill(uid)
        await world.turn(3)
        del world.api.pods[uid]
        await world.turn()
        assert ends(world, Code.WOULD_OPEN) == [False, True]

    run(story)


def test_act_fails_again_and_again_and_is_one_matter() -> None:
    async def story() -> None:
        world, uid = leading()
        world.kernel.outcome = Outcome.FAILED
        world.kill(uid)
        await world.turn(4)
        status = world.api.status(uid)
        assert status is not None and "HSC003" in status.alerts and True not in ends(world, "HSC003")
        world.kernel.outcome = None
        world.heal(uid)
        await world.turn(5)
        assert ends(world, "HSC003").count(True) == 1 and not world.workers[uid].matters

    run(story)


def test_deposed_while_the_pod_was_looked_at() -> None:  # I6
    async def story() -> None:
        world, uid = leading()
        world.kill(uid)
        original = world.api.write

        async def late(*args: Any, **more: Any) -> str:
            version = await original(*args, **more)
            world.term = (world.term or 0) + 1  # lost, and won again: the act belongs to the term before
            return version

        world.api.write = late  # type: ignore[method-assign]
        await world.turn()
        assert world.levels(uid) == CLOSED

    run(story)


def test_wall_clock_is_set_by_an_hour(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is written is what the clock says from then on; small differences change nothing."""

    async def story() -> None:
        controller = Controller(ControllerSettings())
        real = time.time
        controller._shift_s = real() - asyncio.get_running_loop().time()
        before = controller.shift_s()
        monkeypatch.setattr(time, "time", lambda: real() + 0.5)
        assert controller.shift_s() == before
        monkeypatch.setattr(time, "time", lambda: real() + 3600.0)
        assert controller.shift_s() == pytest.approx(before + 3600.0, abs=1.0)

    run(story)
