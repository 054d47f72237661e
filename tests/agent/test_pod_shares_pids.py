"""The agent of a pod whose containers share their pids sees the proxy's threads, with no right more (S4.2, S4.2a)."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from hotswitch.sandbox.kubelet import Timings
from hotswitch.sandbox.pod import Pod
from hotswitch.sandbox.sandbox import Sandbox
from tests.agent.keeper import until
from tests.agent.ownpod import Agent
from tests.threads import KERNEL_TELLS

pytestmark = pytest.mark.envoy
Town = tuple[Agent, Pod]


class SharingAgent(Agent):
    shares_pids = True


@pytest.fixture(scope="module")
def town(box: Sandbox, runner: asyncio.Runner) -> Iterator[Town]:
    async def build() -> Town:
        pod, neighbour = [await box.pod(name, timings=Timings(scale=0.2)) for name in ("sharing-0", "beside-0")]
        await pod.ready()
        await neighbour.ready()
        agent = SharingAgent(box, pod)
        await agent.launch()
        await agent.guards()
        return agent, neighbour

    made = runner.run(build())
    yield made
    runner.run(made[0].end())


async def whole(agent: Agent) -> None:
    await agent.until_inbound("capture")
    await agent.guards()
    await agent.pod.ready()


@pytest.mark.skipif(not KERNEL_TELLS, reason="the kernel does not tell of single threads (Linux 6.9)")
def test_killed_known_by_its_threads(runner: asyncio.Runner, town: Town) -> None:
    async def story(agent: Agent) -> None:
        fault = await agent.pod.faults.kill()
        await agent.until_inbound("rescue")
        assert "envoy is being ended" in agent.entries("open")[-1].evidence["process"]
        await fault.undo()
        await whole(agent)

    runner.run(story(town[0]))


def test_hangs_and_its_threads_say_so(runner: asyncio.Runner, town: Town) -> None:
    async def story(agent: Agent) -> None:
        fault = await agent.pod.faults.hang()
        await agent.until_inbound("rescue")
        assert agent.entries("open")[-1].evidence["pressure"] == "none: every thread is stopped"
        await fault.undo()
        await whole(agent)

    runner.run(story(town[0]))


def test_slow_for_want_of_a_cpu(runner: asyncio.Runner, town: Town) -> None:
    """No counter of its cgroup is to be seen: its threads wait, and that is enough to leave it alone (I2)."""

    async def story(agent: Agent) -> None:
        opened = len(agent.entries("open"))
        fault = await agent.pod.faults.starve()

        async def excused() -> bool:
            return (await agent.status()).get("fault") == "throttled"

        await until(excused, lambda: f"{agent.told()} {agent.log}")
        assert (await agent.status())["levels"]["inbound"] == "capture"
        await fault.undo()
        await whole(agent)
        assert len(agent.entries("open")) == opened, agent.told()

    runner.run(story(town[0]))


def test_another_pods_proxy_dies(runner: asyncio.Runner, town: Town) -> None:
    async def story(agent: Agent, neighbour: Pod) -> None:
        opened = len(agent.entries("open"))
        fault = await neighbour.faults.kill()
        await fault.undo()
        await neighbour.ready()
        assert (await agent.status())["fault"] == "well" and len(agent.entries("open")) == opened

    runner.run(story(*town))
