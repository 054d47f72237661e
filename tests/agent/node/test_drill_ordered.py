"""Drills by order of the shipped controller, carried out by the shipped agent (S4.4, S4.5, I1, I6)."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Iterator

import pytest
from typer.testing import CliRunner, Result

from hotswitch.api.drills import DrillRecord, read_record
from hotswitch.cli.cluster import app
from hotswitch.cluster.kinds import PODS
from hotswitch.kernel.command import Command, run
from hotswitch.sandbox.cluster.installed import Controller
from hotswitch.sandbox.cluster.published import Published
from tests.agent.keeper import until
from tests.agent.load import ending, flows, lost
from tests.agent.node.stage import PATIENCE_S, SHOP, Stage, granted, levels, restored, rules

pytestmark = [pytest.mark.netns, pytest.mark.envoy, pytest.mark.k8s]

Town = tuple[Stage, Controller, Published]


@pytest.fixture(scope="module")
def town(runner: asyncio.Runner) -> Iterator[Town]:
    stack = granted()

    async def build() -> Town:
        stage, controller = await stack.__aenter__()
        web = await stage.web("web-0")
        await controller.ready(PATIENCE_S)
        stage.agent.start()
        await stage.agent.guards("shop/web-0", timeout_s=2 * PATIENCE_S)
        return stage, controller, web

    try:
        yield runner.run(build())
    finally:
        runner.run(stack.__aexit__(None, None, None))


async def ordered(stage: Stage, *words: str) -> Result:
    environment = {"KUBECONFIG": str(stage.cluster.kubeconfig), "COLUMNS": "200"}
    argv = ["drill", "shop/deploy/web-0", *words]
    return await asyncio.to_thread(CliRunner().invoke, app, argv, env=environment)


async def record(stage: Stage, web: Published) -> DrillRecord | None:
    found = await stage.cluster.cluster.get(PODS, SHOP, web.pod.name)
    return read_record(found["metadata"].get("annotations") or {}, web.uid)


def test_by_hand_no_request_is_lost_and_all_is_told(runner: asyncio.Runner, town: Town) -> None:  # I8
    async def story(stage: Stage, controller: Controller, web: Published) -> None:
        before = rules(web)
        async with ending(stage.client.load((web.pod.ip, 8080), rate=20.0, seconds=300.0)) as (load,):
            await flows(load, 10)
            told = await ordered(stage, "--for", "2s")
            assert told.exit_code == 0 and "shop/web-0: PASSED" in told.stdout, told.output + stage.agent.words()
            await flows(load, 10)
            load.stop()
            rows = (await load.results()).rows
        assert lost(rows) == []
        assert rules(web) == before  # I4
        written = await record(stage, web)
        assert written is not None and (written.result, written.lost) == ("passed", 0) and written.served > 0
        assert written.passed and written.open_ms is not None and written.restore_ms is not None
        metrics = (await controller.get("/metrics")).body.decode()
        assert 'hotswitch_drill_failed{workload="shop/deploy/web-0"} 0.0' in metrics
        lines = [each for each in stage.agent.entries("shop/web-0") if each.event == "drill"]
        assert [(each.code, each.evidence["order"]) for each in lines] == [("HSD070", written.id)]

    runner.run(story(*town))


def test_the_agent_is_killed_in_the_midst(runner: asyncio.Runner, town: Town) -> None:
    """Its successor says so and drills no second time; what it left open is captured again."""

    async def story(stage: Stage, controller: Controller, web: Published) -> None:
        before = rules(web)
        drilled = len([each for each in stage.agent.entries("shop/web-0") if each.event == "drill"])
        command = asyncio.create_task(ordered(stage, "--for", "20s"))
        await stage.agent.until(levels(web, "rescue"), "it is led to its rescue")
        os.kill(stage.agent.agent_pid(), signal.SIGKILL)
        told = await command
        assert told.exit_code == 1 and "FAILED: the agent ended" in told.stdout, told.output
        await stage.agent.until(levels(web, "capture"), "captured again")
        await until(lambda: rules(web) == before, lambda: rules(web))
        assert len([each for each in stage.agent.entries("shop/web-0") if each.event == "drill"]) == drilled

    runner.run(story(*town))


def test_a_fault_is_followed_through_everybodys_words(runner: asyncio.Runner, town: Town) -> None:  # I8
    """Agent, controller, API server and kubelet told of it; one time line has them all, and whose clock each is."""

    async def story(stage: Stage, controller: Controller, web: Published) -> None:
        before = rules(web)
        fault = await web.pod.faults.kill()
        await stage.agent.until(levels(web, "rescue"), "rescued")
        await restored(stage, web, fault, before)

        async def told() -> str:
            words = ("trace", "shop/web-0", "--api", "--kubeconfig", str(stage.cluster.kubeconfig))
            more = ("--controller", str(controller.log), "--socket", str(stage.agent.directory / "agent.sock"))
            command = Command((sys.executable, "-m", "hotswitch.cli.start", *words, *more))
            return (await asyncio.to_thread(run, command)).stdout

        lines: list[str] = []

        async def whole() -> bool:
            lines[:] = (await told()).splitlines()
            shown = {tuple(each.split()[2:4]) for each in lines if " ms  " in each}
            wanted = {("agent", "evidence"), ("agent", "open"), ("agent", "close"), ("controller", "Event")}
            return wanted <= shown and any(each[0] == "kubelet" for each in shown)

        await until(whole, lambda: "\n".join(lines))
        assert any(each.startswith("clocks: the controller's is at most") for each in lines), lines
        assert any("traffic goes on" in each for each in lines)

    runner.run(story(*town))
