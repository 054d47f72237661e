"""Drills by the agent of a node as it is shipped: by hand, and in their turn, with its few rights (S4.4, S4.5, I3)."""

from __future__ import annotations

import asyncio
import itertools

import pytest

from hotswitch.cli.ask import ask
from hotswitch.decide.drill import Schedule, first_s
from hotswitch.sandbox.cluster.agents import NodeAgent
from tests.agent.keeper import until
from tests.agent.load import ending, flows, lost
from tests.agent.node.stage import PATIENCE_S, SHOP, Stage, staged

pytestmark = [pytest.mark.netns, pytest.mark.envoy, pytest.mark.k8s]


def _soon(number: int) -> list[str]:
    """Names of workloads whose first turn in a schedule of a minute comes at once."""
    names = (f"web{number}" for number in itertools.count())
    soon = (name for name in names if first_s(Schedule(60.0), f"{SHOP}/deploy/{name}", 0.0) < 0.5)
    return list(itertools.islice(soon, number))


def drills(agent: NodeAgent, pod: str) -> list[str]:
    return [each.code for each in agent.entries(pod) if each.event == "drill"]


async def by_hand(stage: Stage, pod: str) -> dict[str, object]:
    request = {"verb": "drill", "pod": pod, "for_s": 1.0}
    return await asyncio.to_thread(ask, stage.agent.directory / "agent.sock", request, PATIENCE_S)


def test_by_hand_no_request_is_lost(runner: asyncio.Runner) -> None:
    async def story() -> None:
        async with staged() as stage:
            web = await stage.web("web-0")
            await stage.agent.guards("shop/web-0")
            async with ending(stage.client.load((web.pod.ip, 8080), rate=30.0, seconds=60.0)) as (run,):
                await flows(run, 10)
                report = await by_hand(stage, "shop/web-0")
                await flows(run, 10)
                run.stop()
                rows = (await run.results()).rows
            assert (report["result"], report["lost"]) == ("passed", 0), report
            assert lost(rows) == []
            await stage.agent.guards("shop/web-0")

    runner.run(story())


def test_in_their_turn_but_for_who_will_not(runner: asyncio.Runner) -> None:
    async def story() -> None:
        calm, web, other = _soon(3)
        async with staged({"HOTSWITCH_DRILL_EVERY": "60s"}) as stage:
            await stage.web(calm, annotations={"hotswitch.io/drill": "off"})
            await stage.agent.guards(f"shop/{calm}")
            for name in (web, other):
                await stage.web(name)
                await until(lambda name=name: drills(stage.agent, f"shop/{name}"), stage.agent.words)
                assert drills(stage.agent, f"shop/{name}")[0] == "HSD070", stage.agent.words()
            assert drills(stage.agent, f"shop/{calm}") == []

    runner.run(story())
