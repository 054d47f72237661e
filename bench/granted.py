"""A pod of the cluster in miniature and its agent, as shipped: what it may do was granted by the shipped controller.

When that has happened the API server is stopped. The controller runs on, and leads no longer once its Lease has run out
(S4.2, I1).
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from bench.fleet import BenchFailed
from bench.podagent import PodAgent
from bench.settings import READY_S
from hotswitch.cluster.kinds import NAMESPACES, POLICIES
from hotswitch.sandbox.cluster.agents import OVERLAY
from hotswitch.sandbox.cluster.cluster import SandboxCluster
from hotswitch.sandbox.cluster.installed import ROOT_NAMESPACE, Controller, Installation
from hotswitch.sandbox.cluster.published import Published
from hotswitch.sandbox.kubeapi import tokens
from hotswitch.sandbox.kubeapi.tls import serve_tls
from hotswitch.sandbox.manifests import render
from hotswitch.sandbox.protector import JournalTail

PORT, NAME = 8443, "localhost"
LEASE_S = 4
POLL_S = 0.1
MESH = {
    "mode": "auto",
    "levels": {"inbound": ["rescue", "hold"], "outbound": ["hold"]},
    "timings": {"recoverAfter": "0.5s", "holdDown": "1s", "holdDownMax": "1s"},
    "budgets": {"mesh": 9, "namespace": 9, "workload": 9, "node": 9},
}
ALONE = {
    "inbound": ["rescue", "hold"], "outbound": ["hold"],
    "recover_after_s": 0.5, "hold_down_s": 1.0, "hold_down_max_s": 1.0,
}  # fmt: skip
"""The same, as the standalone agent is told it."""


@dataclass(frozen=True, slots=True)
class Guarded:
    """`guards`: waits until the agent's pod is well, and rescue and gate are ready. `journal`: the agent's."""

    web: Published
    journal: JournalTail
    guards: Callable[[], Awaitable[None]]


class Town:
    """A cluster whose controller leads and serves agents. `close` before the cluster is."""

    def __init__(self, cluster: SandboxCluster, installed: Installation, controller: Controller, tls: Path) -> None:
        self.cluster, self._installed, self._controller, self._tls = cluster, installed, controller, tls
        self._stack = contextlib.AsyncExitStack()

    @classmethod
    async def open(cls, cluster: SandboxCluster) -> Town:
        installed = await cluster.install("tier-1-rescue", ("agents",))
        labels = {"metadata": {"labels": {"hotswitch.io/mode": "auto"}}}
        await cluster.cluster.patch_merge(NAMESPACES, None, cluster.namespace, labels)
        mesh = {"metadata": {"name": "mesh", "namespace": ROOT_NAMESPACE}, "spec": MESH}
        await cluster.cluster.create(POLICIES, ROOT_NAMESPACE, mesh)
        tls = cluster.box.estate.directory / "agents-tls"
        tls.mkdir()
        serve_tls(tls, "127.0.0.1")
        for name in ("crt", "key"):
            (tls / f"server.{name}").rename(tls / f"tls.{name}")
        options = ("--lease", str(LEASE_S), "--agents-port", str(PORT), "--agents-tls", str(tls))
        controller = installed.controller(*options)
        controller.start()
        await controller.ready(READY_S)
        return cls(cluster, installed, controller, tls)

    async def close(self) -> None:
        await self._stack.aclose()

    # ---- agents ----

    async def node_agent(self, web: Published, *, shares_pids: bool) -> Guarded:
        """The shipped DaemonSet's container: its capabilities, root and pids of its own; `shares_pids`: the node's."""
        self.cluster.api.apply(render(OVERLAY))
        agent = self._installed.agent()
        agent.obey(f"127.0.0.1:{PORT}", self._tls / "ca.crt", NAME)
        agent.shares_pids = shares_pids
        agent.start()

        async def guards() -> None:
            await agent.guards(f"{web.pod.namespace}/{web.pod.name}", timeout_s=READY_S)

        await guards()
        return Guarded(web, agent.journal, guards)

    async def pod_agent(self, web: Published, *, shares_pids: bool) -> Guarded:
        """In the pod as the injection template has it; `shares_pids`: shareProcessNamespace."""
        obeys = {
            "HOTSWITCH_CONTROLLER": f"{self.cluster.box.network.node.ipv4}:{PORT}",
            "HOTSWITCH_CONTROLLER_CA": str(self._tls / "ca.crt"),
            "HOTSWITCH_CONTROLLER_NAME": NAME,
        }
        agent = PodAgent(self.cluster.box, web.pod, obeys, self._token(web), shares_pids=shares_pids)
        agent.start()
        self._stack.push_async_callback(agent.stop)

        async def guards() -> None:
            await agent.guards(READY_S)

        await guards()
        return Guarded(web, agent.journal, guards)

    def _token(self, web: Published) -> str:
        """As the kubelet puts it into the pod that the injector made."""
        api, pod = self.cluster.api, web.pod
        ref = {"apiVersion": "v1", "kind": "Pod", "name": pod.name, "uid": web.uid}
        spec = {"audiences": ["hotswitch-agent"], "expirationSeconds": 3600, "boundObjectRef": ref}
        account = str(web.manifest["spec"]["serviceAccountName"])
        asked = tokens.request(api.store, api.tokens, pod.namespace, account, {"spec": spec})
        return str(asked["status"]["token"])

    # ---- the API server ----

    async def lose_api(self) -> None:
        """Stop it, and wait until the controller leads no longer. `close` has it back. Raises BenchFailed."""
        await self.cluster.api.stop()
        self._stack.push_async_callback(self.cluster.api.start)
        await self.must_be_lost()
        async with asyncio.timeout(READY_S):
            while await self._leads():
                await asyncio.sleep(POLL_S)

    async def must_be_lost(self) -> None:
        """Raises BenchFailed: somebody answers at the API server's port."""
        where = urlsplit(self.cluster.api.url)
        with contextlib.suppress(ConnectionRefusedError):
            _, writer = await asyncio.open_connection(where.hostname, where.port)
            writer.close()
            raise BenchFailed("the API server is to be stopped, and somebody listens at its port")

    async def _leads(self) -> bool:
        with contextlib.suppress(OSError):
            return b"\nhotswitch_leader 1.0" in (await self._controller.get("/metrics")).body
        return True
