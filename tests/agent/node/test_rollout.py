"""The DaemonSet is rolled out while a pod is bypassed: its rescue goes on until its proxy is back (S4.2, S4.5, I1, I4).

As the kubelet does it: SIGTERM to the container, the grace period of the shipped manifest, and then another pod with
empty directories, which knows nothing of the first one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from hotswitch.sandbox.cluster.agents import OVERLAY
from hotswitch.sandbox.manifests import render
from tests.agent.keeper import until
from tests.agent.load import ending, flows, lost
from tests.agent.node.stage import PATIENCE_S, Stage, levels, rules, staged

pytestmark = [pytest.mark.netns, pytest.mark.envoy, pytest.mark.k8s]


def as_shipped() -> str:
    """How long it waits, as the DaemonSet says."""
    (daemon_set,) = [each for each in render(OVERLAY) if each["kind"] == "DaemonSet"]
    (container,) = daemon_set["spec"]["template"]["spec"]["containers"]
    return next(each["value"] for each in container["env"] if each["name"] == "HOTSWITCH_LEAVE_WITHIN")


def said(stage: Stage, words: str) -> Callable[[], Any]:
    return lambda: [each for each in stage.agent.entries() if each.event == "leaving" and words in each.why]


def test_a_rollout_waits_for_who_is_rescued(runner: asyncio.Runner) -> None:
    """mTLS is STRICT, a meshed client goes on asking from before the rollout until the new agent guards."""

    async def story() -> None:
        async with staged({"HOTSWITCH_LEAVE_WITHIN": as_shipped()}, mtls="STRICT") as stage:
            web = await stage.web("web-0")
            await stage.agent.guards("shop/web-0")
            before = rules(web)
            fault = await web.pod.faults.hang()
            await stage.agent.until(levels(web, "rescue"), "rescued")
            service = await stage.cluster.service("web", [web])
            friend = await stage.cluster.box.meshed("friend")
            await friend.until_endpoints(service, 1)
            async with ending(friend.load(service, rate=20.0, seconds=300.0)) as (run,):
                await flows(run, 10)
                old = stage.agent.process
                assert old is not None
                rollout = asyncio.ensure_future(stage.agent.replace())
                await until(said(stage, "the rescue ends with this agent"), stage.agent.words)
                await flows(run, 20)  # it has been told to end, and the proxy is as it was
                assert old.running and rules(web) != before
                await fault.undo()
                await until(said(stage, "nobody is rescued"), stage.agent.words)
                assert await old.exited() == 0
                assert rules(web) == before
                await rollout
                await stage.agent.guards("shop/web-0")
                await flows(run, 10)
                run.stop()
                rows = (await run.results()).rows
            assert lost(rows) == []
            assert rules(web) == before

    runner.run(story())


def test_its_patience_ends_before_the_proxy_is_back(runner: asyncio.Runner) -> None:
    """The pod is captured again, as without hotswitch: the next agent has never seen its proxy well."""

    async def story() -> None:
        async with staged({"HOTSWITCH_LEAVE_WITHIN": "500ms"}) as stage:
            web = await stage.web("web-0")
            await stage.agent.guards("shop/web-0")
            before = rules(web)
            fault = await web.pod.faults.hang()
            await stage.agent.until(levels(web, "rescue"), "rescued")
            rollout = asyncio.ensure_future(stage.agent.replace())
            await until(said(stage, "closed"), stage.agent.words)
            assert rules(web) == before
            await rollout
            await fault.undo()
            await stage.agent.guards("shop/web-0")
            answer = await stage.client.ask(web.pod.ip, 8080, timeout_s=PATIENCE_S)
            assert (answer.status, answer.via, rules(web)) == (200, "sidecar", before)

    runner.run(story())


def test_with_nobody_rescued_it_leaves_at_once(runner: asyncio.Runner) -> None:
    async def story() -> None:
        async with staged({"HOTSWITCH_LEAVE_WITHIN": as_shipped()}) as stage:
            await stage.web("web-0")
            await stage.agent.guards("shop/web-0")
            old = stage.agent.process
            assert old is not None
            await asyncio.wait_for(stage.agent.stop(PATIENCE_S), PATIENCE_S)
            assert (old.returncode, said(stage, "")()) == (0, [])

    runner.run(story())
