"""A node's agent and the shipped controller: granted, then left alone by everybody, it goes on (I1, I2, S4.2, S4.4)."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from hotswitch.cluster.kinds import NAMESPACES, POLICIES
from hotswitch.sandbox.cluster.agents import OVERLAY
from hotswitch.sandbox.cluster.cluster import SandboxCluster
from hotswitch.sandbox.cluster.installed import ROOT_NAMESPACE, Controller
from hotswitch.sandbox.cluster.published import Published
from hotswitch.sandbox.manifests import render
from tests.agent.node.stage import PATIENCE_S, SHOP, Stage, levels, restored, rules, served
from tests.controller.agency import NAME, certificate

pytestmark = [pytest.mark.netns, pytest.mark.envoy, pytest.mark.k8s]

PORT = 8443
SPEC = {
    "mode": "auto",
    "levels": {"inbound": ["rescue", "hold"], "outbound": ["hold"]},
    "timings": {"expiry": "60s", "recoverAfter": "0.5s", "holdDown": "1s", "holdDownMax": "2s"},
    "budgets": {"mesh": 9, "namespace": 9, "workload": 9, "node": 9},
}


@dataclass
class Granted:
    stage: Stage
    controller: Controller
    web: Published


@pytest.fixture(scope="module")
def town(runner: asyncio.Runner) -> Iterator[Granted]:
    cluster = SandboxCluster(namespace=SHOP)

    async def build() -> Granted:
        await cluster.__aenter__()
        installed = await cluster.install("tier-1-rescue", ("agents",))
        cluster.api.apply(render(OVERLAY))
        labels = {"metadata": {"labels": {"hotswitch.io/mode": "auto"}}}
        await cluster.cluster.patch_merge(NAMESPACES, None, SHOP, labels)
        policy = {"metadata": {"name": "mesh", "namespace": ROOT_NAMESPACE}, "spec": SPEC}
        await cluster.cluster.create(POLICIES, ROOT_NAMESPACE, policy)
        tls = certificate(cluster.box.estate.directory / "agents-tls")
        controller = installed.controller("--lease", "4", "--agents-port", str(PORT), "--agents-tls", str(tls))
        controller.start()
        agent = installed.agent()
        agent.obey(f"127.0.0.1:{PORT}", tls / "ca.crt", NAME)
        stage = Stage(cluster, installed, agent, await cluster.box.client("outside"))
        web = await stage.web("web-0", native=True)
        await controller.ready(PATIENCE_S)
        agent.start()
        await agent.guards("shop/web-0", timeout_s=2 * PATIENCE_S)
        return Granted(stage, controller, web)

    try:
        yield runner.run(build())
    finally:
        runner.run(cluster.__aexit__())


def test_what_it_may_do_comes_from_the_controller(town: Granted) -> None:  # I2
    granted = [each for each in town.stage.agent.entries("shop/web-0") if each.event == "grant"]
    assert granted and granted[-1].evidence["mode"] == "auto"


def test_a_sidecar_fails_while_all_are_there(runner: asyncio.Runner, town: Granted) -> None:  # S4.4, S4.5
    async def story(stage: Stage, web: Published) -> None:
        before = rules(web)
        fault = await web.pod.faults.kill()
        await stage.agent.until(levels(web, "rescue"), "rescued within its grant")
        await served(stage, web)
        await restored(stage, web, fault, before)

    runner.run(story(town.stage, town.web))


@pytest.mark.parametrize("kind", ["kill", "hang"])
def test_controller_and_api_server_are_gone(runner: asyncio.Runner, town: Granted, kind: str) -> None:  # I1
    async def story(stage: Stage, web: Published) -> None:
        before = rules(web)
        await town.controller.stop(0.0)
        await stage.cluster.api.stop()
        try:
            fault = await getattr(web.pod.faults, kind)()
            await stage.agent.until(levels(web, "rescue"), "rescued within its last grant")
            await served(stage, web)
            await restored(stage, web, fault, before)
        finally:
            await stage.cluster.api.start()
            town.controller.start()
            await town.controller.ready(PATIENCE_S)

    runner.run(story(town.stage, town.web))


def test_the_agent_starts_anew_while_all_others_are_gone(runner: asyncio.Runner, town: Granted) -> None:  # I1, I6
    async def story(stage: Stage, web: Published) -> None:
        before = rules(web)
        await town.controller.stop(0.0)
        await stage.cluster.api.stop()
        try:
            await stage.agent.stop()
            stage.agent.start()
            await stage.agent.guards("shop/web-0")
            fault = await web.pod.faults.kill()
            await stage.agent.until(levels(web, "rescue"), "rescued by what it remembers of its grant")
            await served(stage, web)
            await restored(stage, web, fault, before)
        finally:
            await stage.cluster.api.start()

    runner.run(story(town.stage, town.web))
