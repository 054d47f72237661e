"""What carries the switch fails in the middle of it: controllers, the API server, the channel of an order (S4.1, I6).

Whatever happens meanwhile, new flows find a way, nothing opens that nobody decided to open, and in the end the rules
are those of before.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import random
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import pytest

from hotswitch.api.status import PodStatus
from hotswitch.sandbox.cluster.installed import Controller
from hotswitch.sandbox.cluster.published import Published
from tests.mesh.stage import PATIENCE_S, SPEC, Stage, staged

pytestmark = pytest.mark.envoy
RATE = 20
CYCLES = int(os.environ.get("HOTSWITCH_KILLS", "3"))
EXPIRY = "5m"
"""As by default. What stands ends there by itself (I1) and is renewed at half of it, so it outlasts an API server that
is away for a minute."""
API_AWAY_S = float(os.environ.get("HOTSWITCH_API_AWAY_S", "10"))  # a minute by hand; this long in every run


@pytest.fixture(scope="module")
def stage(runner: asyncio.Runner) -> Iterator[Stage]:
    within = staged(timings={**SPEC["timings"], "expiry": EXPIRY})
    stage = runner.run(within.__aenter__())
    try:
        runner.run(stage.controller())
        yield stage
    finally:
        runner.run(within.__aexit__(None, None, None))


@pytest.fixture(scope="module")
def web(stage: Stage, runner: asyncio.Runner) -> Published:
    return runner.run(stage.web("web-0"))


@asynccontextmanager
async def restored(stage: Stage, web: Published) -> AsyncIterator[None]:
    """After it all rules are what they were, generations have only grown, and traffic goes through the sidecar."""
    before, first = stage.rules(web), len(stage.written(web))
    client = await stage.cluster.box.client(f"c{random.randrange(10**6)}")
    yield
    await stage.captured(web)
    assert stage.rules(web) == before, "the rules are not those of before"  # I4
    numbers = [(each.term, each.generation, each.step, each.code) for each in stage.written(web)[first:]]
    assert growing(stage.written(web)[first:]), f"an older generation or term after a newer one: {numbers}"  # I6
    assert (await client.ask(web.pod.ip, 8080)).via == "sidecar"


def growing(written: list[PodStatus]) -> bool:
    numbers = [(each.term, each.generation) for each in written]
    return all(one[0] <= two[0] and one[1] <= two[1] for one, two in itertools.pairwise(numbers))


async def another_life(controller: Controller) -> None:
    """SIGKILL, and a fresh process under the same name: what it knew is what the API knows."""
    await controller.stop(0)
    controller.start()


def test_order_is_carried_out_and_its_answer_lost(stage: Stage, web: Published, runner: asyncio.Runner) -> None:
    async def story() -> None:
        async with restored(stage, web):
            lost = stage.cluster.api.faults.lose_exec_status(times=6)
            async with await web.pod.faults.crash_loop():
                await stage.until(lambda: stage.is_open(web), "opened")
                assert lost.struck
                lost = stage.cluster.api.faults.lose_exec_status(times=3)
        stage.cluster.api.faults.clear()

    runner.run(story())


@pytest.mark.parametrize("status", [409, 500, 503])
def test_api_server_refuses_writes(stage: Stage, web: Published, runner: asyncio.Runner, status: int) -> None:
    async def story() -> None:
        faults = stage.cluster.api.faults
        async with restored(stage, web):
            refused = faults.fail(status, verb="patch", resource="pods/status", times=4, when=of_controller)
            async with await web.pod.faults.crash_loop():
                await stage.until(lambda: stage.is_open(web), "opened")
                faults.fail(status, verb="patch", resource="pods/status", times=4, when=of_controller)
            assert refused.struck == 4
        faults.clear()

    runner.run(story())


def of_controller(ask: object) -> bool:
    return "hotswitch-controller" in str(getattr(ask, "user", ""))


@pytest.mark.parametrize("how", ["cut", "reset", "410", "slow"])
def test_watches_end_in_the_middle(stage: Stage, web: Published, runner: asyncio.Runner, how: str) -> None:
    async def story() -> None:
        faults = stage.cluster.api.faults

        def strike() -> None:
            if how == "slow":
                faults.slow(0.3, when=of_controller, times=20)
            elif how == "410":
                faults.expire_watches()
            else:
                faults.cut_watches(broken=how == "reset")

        async with restored(stage, web):
            strike()
            async with await web.pod.faults.crash_loop():
                strike()
                await stage.until(lambda: stage.is_open(web), "opened")
                strike()
            strike()
        faults.clear()

    runner.run(story())


def test_api_server_is_away(stage: Stage, web: Published, runner: asyncio.Runner) -> None:
    """While it is open: it stays open, nobody loses a request by it. Afterwards all goes on."""

    async def story() -> None:
        client = await stage.cluster.box.client("meanwhile")
        async with restored(stage, web), await web.pod.faults.crash_loop():
            await stage.until(lambda: stage.is_open(web), "opened")
            load = client.load((web.pod.ip, 8080), rate=RATE, seconds=600.0)
            await load.begun()
            began_s = time.monotonic()
            await stage.cluster.api.stop()
            await asyncio.sleep(API_AWAY_S)  # this is what is tested: time without an API server
            await stage.cluster.api.start()
            away_s = time.monotonic() - began_s
            load.stop()
            summary = (await load.results()).summary()
            print(f"API server away for {away_s:.1f} s: {summary}", file=sys.stderr)
            assert summary.failed == 0 and stage.is_open(web)

    runner.run(story())


def test_controller_is_killed_at_any_moment(stage: Stage, web: Published, runner: asyncio.Runner) -> None:
    """Again and again, in the middle of opening and of restoring; a fresh process goes on from what is written."""
    seed = int(os.environ.get("HOTSWITCH_SEED", "0")) or random.randrange(10**6)
    moments = random.Random(seed)

    async def story() -> None:
        (controller,) = stage.controllers
        for _ in range(CYCLES):
            async with restored(stage, web):
                async with await web.pod.faults.crash_loop():
                    await hit(controller, moments)
                    await stage.until(lambda: stage.is_open(web), f"opened (seed {seed})")
                await hit(controller, moments)

    async def hit(controller: Controller, moments: random.Random) -> None:
        """At the moment that something is written, or a little later."""
        count = len(stage.written(web))
        with contextlib.suppress(AssertionError):
            await stage.until(lambda: len(stage.written(web)) > count, "something is written", 20)
        await asyncio.sleep(moments.uniform(0, 0.2))
        await another_life(controller)

    runner.run(story())


def test_leader_is_killed_beside_another(stage: Stage, web: Published, runner: asyncio.Runner) -> None:
    """Which of the two leads is not known beforehand: who was killed a moment ago waits for its own former lease."""

    async def story() -> None:
        second = await stage.controller()
        async with restored(stage, web):
            async with await web.pod.faults.crash_loop():
                await stage.until(lambda: stage.is_open(web), "opened")
                leader = await stage.leader()
                status = stage.status(web)
                assert status is not None
                term = status.term
                await leader.stop(0)
            await stage.captured(web)
            status = stage.status(web)
            assert status is not None and status.term > term, "the other one has not taken over"
        leader.start()
        await leader.ready(PATIENCE_S)
        stage.controllers.remove(second)
        await second.stop()

    runner.run(story())
