"""A worker whose controller, API or channel goes at any step, or that is deposed (I6)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from hotswitch.decide.codes import Code
from tests.controller.world import (
    CLOSED,
    OPEN,
    Killed,
    Mischief,
    World,
    leading,
    lost,
    run,
    server_error,
)

pytestmark = pytest.mark.k8s


async def _cycle(world: World, uid: str) -> None:
    world.kill(uid)
    await world.turn(3)
    world.heal(uid)
    await world.turn(5)


def _calls() -> int:
    async def count() -> int:
        world, uid = leading()
        shared = Mischief()
        world.api.mischief = world.kernel.mischief = shared
        await _cycle(world, uid)
        return shared.calls

    return asyncio.run(count())


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("at", range(_calls()))
def test_controller_is_killed_at_any_step(at: int, after: bool) -> None:  # I6
    """A successor that remembers nothing goes on: in the end the gate is as the proxy's health wants it, nothing is
    left under way, and no order of an older generation was ever followed."""

    async def story() -> None:
        world, uid = leading()
        world.api.mischief = world.kernel.mischief = Mischief(at=at, after=after)
        world.kill(uid)
        with_gap = 0
        for heals in (False, True):
            if heals:
                world.heal(uid)
            for _ in range(5):
                try:
                    await world.turn()
                except Killed:
                    with_gap += 1
                    world.term = (world.term or 0) + 1
                    world.lead()
            assert world.levels(uid) == (CLOSED if heals else OPEN)
            status = world.api.status(uid)
            assert status is not None and not status.under_way
        log = world.kernel.gates[uid].log
        assert log == sorted(log) and with_gap == 1
        assert not world.api.status(uid).alerts  # type: ignore[union-attr]
        assert Code.EXPIRED not in world.codes() and told(world) == [Code.OPENED, Code.RESTORED]  # I8

    run(story)


def told(world: World) -> list[str]:
    """Acts, as whoever reads Events is told of them: the same of the same instant is one."""
    acts = {(each.starts_unix_s, each.code) for each in world.notices if not each.resolved}
    return [code for _, code in sorted(acts) if code in (Code.OPENED, Code.CHANGED, Code.RESTORED)]


@pytest.mark.parametrize("failure", [server_error, lost], ids=["api-500", "channel-lost"])
@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("at", range(_calls()))
def test_api_or_channel_fails_at_any_step(at: int, after: bool, failure: Callable[[], Exception]) -> None:
    async def story() -> None:
        world, uid = leading()
        mischief = Mischief(at=at, after=after, what=failure)
        (world.kernel if failure is lost else world.api).mischief = mischief
        world.kill(uid)
        await world.turn(5)
        assert world.levels(uid) == OPEN
        world.heal(uid)
        await world.turn(6)
        assert world.levels(uid) == CLOSED and not world.api.status(uid).under_way  # type: ignore[union-attr]

    run(story)


def test_a_deposed_leader_acts_no_more() -> None:  # I6
    async def story() -> None:
        world, uid = leading()
        world.kill(uid)
        world.term = None
        await world.turn(3)
        assert world.levels(uid) == CLOSED and world.api.status(uid) is None

    run(story)


def test_deposed_while_it_writes() -> None:  # I6
    async def story() -> None:
        world, uid = leading()
        world.kill(uid)
        original = world.api.write

        async def slow(*args: Any, **more: Any) -> str:
            world.term = None
            return await original(*args, **more)

        world.api.write = slow  # type: ignore[method-assign]
        await world.turn()
        assert world.levels(uid) == CLOSED
        world.api.write = original  # type: ignore[method-assign]
        world.term = 2
        world.lead()
        await world.turn(2)
        assert world.levels(uid) == OPEN and world.api.status(uid).term == 2  # type: ignore[union-attr]

    run(story)
