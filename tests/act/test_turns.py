"""Thousands of pods fall ill at once: commands wait in line, nobody is starved, no turn is lost (I3, I6)."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

import pytest

from hotswitch.act.order import Ability, Answer, Order, Outcome, Target
from hotswitch.act.turns import InTurn, Turns
from hotswitch.model import Generation, Mode, PodRef, PodUid, Policy

pytestmark = pytest.mark.unit


class Slow:
    """An actuator whose commands last until they are let go, one by one."""

    name, ends_by_itself, all_or_nothing = "slow", True, False

    def __init__(self) -> None:
        self.begun: list[str] = []
        self.most = self.now = 0
        self.go = asyncio.Semaphore(0)

    async def _work(self, what: str, target: Target) -> None:
        self.begun.append(f"{what} {target.pod}")
        self.now += 1
        self.most = max(self.most, self.now)
        try:
            await self.go.acquire()
        finally:
            self.now -= 1

    async def ability(self, target: Target) -> Ability:
        await self._work("look", target)
        return Ability(actuator=self.name)

    async def prepare(self, target: Target) -> str:
        return ""

    async def carry_out(self, target: Target, order: Order) -> Answer:
        await self._work("act", target)
        return Answer(outcome=Outcome.DONE)

    def plan(self, target: Target, order: Order) -> list[str]:
        return []


def pod(name: str) -> Target:
    namespace, _, own = name.partition("/")
    return Target(pod=PodRef(own, namespace, PodUid(name), ""), manifest={}, policy=Policy(mode=Mode.AUTO))


async def settle() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


async def served(line: list[Coroutine[Any, Any, Any]], slow: Slow) -> list[Any]:
    """Each begins in this order; then one command after the other ends."""
    tasks = []
    for each in line:
        tasks.append(asyncio.create_task(each))
        await settle()
    for _ in line:
        slow.go.release()
        await settle()
    return await asyncio.gather(*tasks)


def test_no_more_than_so_many_at_once() -> None:
    async def story() -> None:
        slow, turns = Slow(), Turns(3)
        doing = InTurn(slow, turns, lambda: True)
        await served([doing.ability(pod(f"shop/{n}")) for n in range(20)], slow)
        assert slow.most == 3 and len(slow.begun) == 20 and turns.waiting == 0

    asyncio.run(story())


def test_namespace_that_is_ill_as_a_whole_keeps_no_other_waiting() -> None:
    async def story() -> None:
        slow = Slow()
        doing = InTurn(slow, Turns(1), lambda: True)
        names = [*(f"big/{n}" for n in range(9)), "small/0", "tiny/0"]
        await served([doing.ability(pod(name)) for name in names], slow)
        assert [name.partition(" ")[2] for name in slow.begun][:4] == ["big/0", "big/1", "small/0", "tiny/0"]

    asyncio.run(story())


def test_acts_go_before_looks() -> None:
    async def story() -> None:
        slow = Slow()
        doing = InTurn(slow, Turns(1), lambda: True)
        looks = [doing.ability(pod(f"shop/{n}")) for n in range(5)]
        await served([*looks, doing.carry_out(pod("shop/ill"), Order(generation=Generation(1)))], slow)
        assert slow.begun[:2] == ["look shop/0", "act shop/ill"]

    asyncio.run(story())


def test_deposed_while_it_waited() -> None:  # I6
    async def story() -> None:
        slow, leads = Slow(), True
        doing = InTurn(slow, Turns(1), lambda: leads)
        first = asyncio.create_task(doing.ability(pod("shop/0")))
        await settle()
        act = asyncio.create_task(doing.carry_out(pod("shop/1"), Order(generation=Generation(1))))
        await settle()
        leads = False
        slow.go.release()
        assert (await act).outcome is Outcome.FAILED and slow.begun == ["look shop/0"]
        await first

    asyncio.run(story())


@pytest.mark.parametrize("when", ["in line", "just before its turn", "when its turn had just come"])
def test_worker_is_ended_while_it_waits(when: str) -> None:
    async def story() -> None:
        slow, turns = Slow(), Turns(1)
        doing = InTurn(slow, turns, lambda: True)
        tasks = [asyncio.create_task(doing.ability(pod(f"shop/{n}"))) for n in range(3)]
        await settle()
        if when == "in line":
            tasks[1].cancel()
            slow.go.release()
        elif when == "just before its turn":
            turns._give()  # as the first does when it ends
            tasks[1].cancel()
            turns._free -= 1
            slow.go.release()
        else:
            slow.go.release()
            while not turns.waiting < 2:  # the first has ended, the second has not run yet
                await asyncio.sleep(0)
            tasks[1].cancel()
        await settle()
        slow.go.release()
        await asyncio.gather(*tasks, return_exceptions=True)
        assert slow.begun == ["look shop/0", "look shop/2"] and turns.waiting == 0 and turns._free == 1

    asyncio.run(story())
