"""The agent of a node, as it is shipped: finds its pods, and serves them when their proxies die (S4.2, S4.4)."""

from __future__ import annotations

import asyncio

import pytest

from tests.agent.node.stage import staged

pytestmark = [pytest.mark.netns, pytest.mark.envoy, pytest.mark.k8s]


def test_a_killed_sidecar_is_rescued_by_the_nodes_agent(runner: asyncio.Runner) -> None:  # S4.2, S4.4
    async def story() -> None:
        async with staged() as stage:
            web = await stage.web("web-0")
            await stage.agent.guards("shop/web-0")
            fault = await web.pod.faults.kill()
            await stage.agent.until(lambda pods: pods["shop/web-0"]["levels"]["inbound"] == "rescue", "rescued")
            assert (await stage.client.ask(web.pod.ip, 8080)).status == 200
            await fault.undo()
            await stage.agent.until(lambda pods: pods["shop/web-0"]["levels"]["inbound"] == "capture", "restored")

    runner.run(story())
