"""A pod's agent and the shipped controller: granted, then left alone by everybody, it goes on (I1, I2, S4.2, S4.4)."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from hotswitch.cluster.kinds import NAMESPACES, POLICIES
from hotswitch.sandbox.clients import Client
from hotswitch.sandbox.cluster.cluster import SandboxCluster
from hotswitch.sandbox.cluster.installed import ROOT_NAMESPACE, Controller
from hotswitch.sandbox.cluster.published import Published
from hotswitch.sandbox.kubeapi import tokens
from hotswitch.sandbox.kubelet import Timings
from tests.agent.keeper import gate_text, rules
from tests.agent.ownpod import Agent
from tests.controller.agency import NAME, certificate

pytestmark = [pytest.mark.netns, pytest.mark.envoy, pytest.mark.k8s]

PORT, PATIENCE_S = 8443, 60.0
SPEC = {
    "mode": "auto",
    "levels": {"inbound": ["rescue", "hold"], "outbound": ["hold"]},
    "timings": {"expiry": "60s", "recoverAfter": "0.5s", "holdDown": "1s", "holdDownMax": "2s"},
    "budgets": {"mesh": 9, "namespace": 9, "workload": 9, "node": 9},
}


@dataclass
class Town:
    cluster: SandboxCluster
    controller: Controller
    agent: Agent
    client: Client


@pytest.fixture(scope="module")
def runner() -> Iterator[asyncio.Runner]:
    with asyncio.Runner() as runner:
        yield runner


@pytest.fixture(scope="module")
def town(runner: asyncio.Runner) -> Iterator[Town]:
    cluster = SandboxCluster(namespace="shop")

    async def build() -> Town:
        await cluster.__aenter__()
        installed = await cluster.install("tier-1-rescue", ("agents",))
        labels = {"metadata": {"labels": {"hotswitch.io/mode": "auto"}}}
        await cluster.cluster.patch_merge(NAMESPACES, None, "shop", labels)
        policy = {"metadata": {"name": "mesh", "namespace": ROOT_NAMESPACE}, "spec": SPEC}
        await cluster.cluster.create(POLICIES, ROOT_NAMESPACE, policy)
        tls = certificate(cluster.box.estate.directory / "agents-tls")
        controller = installed.controller("--lease", "4", "--agents-port", str(PORT), "--agents-tls", str(tls))
        controller.start()
        web = await cluster.pod("web-0", native=True, timings=Timings(scale=0.2), workload="deploy/web")
        await web.pod.ready(PATIENCE_S)
        await controller.ready(PATIENCE_S)
        agent = Agent(cluster.box, web.pod)
        (agent.directory / "token").write_text(token(cluster, web))
        agent.obeys = {
            "HOTSWITCH_CONTROLLER": f"{cluster.box.network.node.ipv4}:{PORT}",
            "HOTSWITCH_CONTROLLER_CA": str(tls / "ca.crt"),
            "HOTSWITCH_CONTROLLER_NAME": NAME,
            "HOTSWITCH_TOKEN": str(agent.directory / "token"),
        }
        await agent.launch()
        await agent.guards()
        return Town(cluster, controller, agent, await cluster.box.client("outside"))

    async def end(made: Town | None) -> None:
        if made is not None:
            await made.agent.end()
        await cluster.__aexit__()

    made = None
    try:
        made = runner.run(build())
        yield made
    finally:
        runner.run(end(made))


def token(cluster: SandboxCluster, web: Published) -> str:
    """As the kubelet puts it into the pod that the injector made: of this pod, and of no use at the API server."""
    api, account = cluster.api, web.manifest["spec"]["serviceAccountName"]
    ref = {"apiVersion": "v1", "kind": "Pod", "name": web.pod.name, "uid": web.uid}
    spec = {"audiences": ["hotswitch-agent"], "expirationSeconds": 3600, "boundObjectRef": ref}
    asked = tokens.request(api.store, api.tokens, web.pod.namespace, account, {"spec": spec})
    return str(asked["status"]["token"])


def test_what_it_may_do_comes_from_the_controller(town: Town) -> None:  # I2
    granted = town.agent.entries("grant")
    assert granted and granted[-1].evidence["mode"] == "auto"


@pytest.mark.parametrize("kind", ["kill", "hang"])
def test_controller_and_api_server_are_gone(runner: asyncio.Runner, town: Town, kind: str) -> None:  # I1, S4.4, S4.5
    async def story(agent: Agent, client: Client) -> None:
        pod, before = agent.pod, (gate_text(agent.pod), rules(agent.pod).fingerprint)
        await town.controller.stop(0.0)
        await town.cluster.api.stop()
        try:
            fault = await getattr(pod.faults, kind)()
            await agent.until_inbound("rescue")
            answer = await client.ask(pod.ip, 8080, timeout_s=PATIENCE_S)
            assert (answer.status, answer.via) == (200, "")
            await fault.undo()
            await agent.until_inbound("capture")
            await agent.guards()
            await pod.ready(PATIENCE_S)
            answer = await client.ask(pod.ip, 8080, timeout_s=PATIENCE_S)
            assert (answer.status, answer.via) == (200, "sidecar")
            assert (gate_text(pod), rules(pod).fingerprint) == before  # I4
        finally:
            await town.cluster.api.start()
            town.controller.start()
            await town.controller.ready(PATIENCE_S)

    runner.run(story(town.agent, town.client))
