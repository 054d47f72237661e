"""A cluster in miniature whose node has the agent that is shipped; and a client outside of the mesh."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import yaml

from hotswitch.cluster.kinds import NAMESPACES, POLICIES
from hotswitch.kernel.command import Command, run
from hotswitch.sandbox.clients import Client
from hotswitch.sandbox.cluster.agents import OVERLAY, NodeAgent
from hotswitch.sandbox.cluster.cluster import SandboxCluster
from hotswitch.sandbox.cluster.installed import ROOT_NAMESPACE, Controller, Installation
from hotswitch.sandbox.cluster.published import Published
from hotswitch.sandbox.faults import Fault
from hotswitch.sandbox.kubelet import Timings
from hotswitch.sandbox.manifests import render
from tests.controller.agency import NAME, certificate

SHOP = "shop"
PATIENCE_S = 60.0
POLICY: Mapping[str, Any] = {
    "mode": "auto",
    "mtls": "PERMISSIVE",
    "inbound": ["rescue", "hold"],
    "outbound": ["direct", "hold"],
    "outbound_free": True,
    "expiry_s": 60.0,
    "recover_after_s": 0.5,
    "hold_down_s": 1.0,
    "hold_down_max_s": 2.0,
}


@dataclass
class Stage:
    cluster: SandboxCluster
    installed: Installation
    agent: NodeAgent
    client: Client

    async def web(self, name: str, **spec: Any) -> Published:
        """A pod that is ready; classic sidecar unless `native`."""
        told = {"workload": f"deploy/{name}", "timings": Timings(scale=0.2), "grace_s": 5, **spec}
        made = await self.cluster.pod(name, **told)
        await made.pod.ready(PATIENCE_S)
        return made


@asynccontextmanager
async def staged(variables: Mapping[str, str] | None = None, **policy: Any) -> AsyncIterator[Stage]:
    """The agent has been started. `variables`: what its environment has beside."""
    async with SandboxCluster(namespace=SHOP) as cluster:
        installed = await cluster.install("tier-0-observe", ())
        cluster.api.apply(render(OVERLAY))
        labels = {"metadata": {"labels": {"hotswitch.io/mode": "auto"}}}
        await cluster.cluster.patch_merge(NAMESPACES, None, SHOP, labels)
        agent = installed.agent(HOTSWITCH_POLICY="/run/hotswitch/policy.yaml", **(variables or {}))
        agent.directory.mkdir()
        standing = {"policy": {**POLICY, **policy}, "budget": {"node": 10, "workload": 10}}
        (agent.directory / "policy.yaml").write_text(yaml.safe_dump(standing))
        client = await cluster.box.client("outside")
        agent.start()
        yield Stage(cluster, installed, agent, client)


PORT = 8443
SPEC: Mapping[str, Any] = {
    "mode": "auto",
    "levels": {"inbound": ["rescue", "hold"], "outbound": ["hold"]},
    "timings": {"expiry": "60s", "recoverAfter": "0.5s", "holdDown": "1s", "holdDownMax": "2s"},
    "budgets": {"mesh": 9, "namespace": 9, "workload": 9, "node": 9},
}


@asynccontextmanager
async def granted(**spec: Any) -> AsyncIterator[tuple[Stage, Controller]]:
    """A controller with the shipped rights, and the agent that obeys it, not started yet. `spec`: more of the mesh's
    policy."""
    async with SandboxCluster(namespace=SHOP) as cluster:
        installed = await cluster.install("tier-1-rescue", ("agents",))
        cluster.api.apply(render(OVERLAY))
        labels = {"metadata": {"labels": {"hotswitch.io/mode": "auto"}}}
        await cluster.cluster.patch_merge(NAMESPACES, None, SHOP, labels)
        policy = {"metadata": {"name": "mesh", "namespace": ROOT_NAMESPACE}, "spec": {**SPEC, **spec}}
        await cluster.cluster.create(POLICIES, ROOT_NAMESPACE, policy)
        tls = certificate(cluster.box.estate.directory / "agents-tls")
        controller = installed.controller("--lease", "4", "--agents-port", str(PORT), "--agents-tls", str(tls))
        controller.start()
        agent = installed.agent()
        agent.obey(f"127.0.0.1:{PORT}", tls / "ca.crt", NAME)
        yield Stage(cluster, installed, agent, await cluster.box.client("outside")), controller


def levels(web: Published, inbound: str) -> Callable[[Any], bool]:
    return lambda pods: pods.get(f"shop/{web.pod.name}", {}).get("levels", {}).get("inbound") == inbound


async def served(stage: Stage, web: Published) -> None:
    """Somebody answers, and it is not the proxy."""
    answer = await stage.client.ask(web.pod.ip, 8080, timeout_s=PATIENCE_S)
    assert (answer.status, answer.via) == (200, "")


async def restored(stage: Stage, web: Published, fault: Fault, before: str) -> None:
    await fault.undo()
    await stage.agent.until(levels(web, "capture"), f"{web.pod.name} is restored")
    await web.pod.ready(PATIENCE_S)
    await stage.agent.guards(f"shop/{web.pod.name}")
    assert rules(web) == before  # I4: nothing of ours is active, and Istio's rules are what they were
    answer = await stage.client.ask(web.pod.ip, 8080, timeout_s=PATIENCE_S)
    assert (answer.status, answer.via) == (200, "sidecar")


def rules(web: Published) -> str:
    return run(Command(("nft", "-s", "list", "ruleset"), netns=web.pod.netns), check=True).stdout
