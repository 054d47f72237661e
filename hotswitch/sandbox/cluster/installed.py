"""hotswitch installed in the sandbox's cluster: the shipped manifests, and controllers as processes of their own.

A controller has the rights of its ServiceAccount by the manifests, and no others; it lives in the node's namespace,
where pods can be reached, and is started and killed like a container. Nothing in the manifests makes it run: nobody
makes pods of Deployments here.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import yaml

from hotswitch.model import Port
from hotswitch.sandbox.ask import Answer, ask
from hotswitch.sandbox.cluster.agents import NodeAgent
from hotswitch.sandbox.cluster.relay import Relay
from hotswitch.sandbox.kubeapi.failure import Obj
from hotswitch.sandbox.kubeapi.identity import service_account
from hotswitch.sandbox.manifests import MANIFESTS, render
from hotswitch.sandbox.process import Process, start

if TYPE_CHECKING:
    from hotswitch.sandbox.cluster.cluster import SandboxCluster

NAMESPACE, ACCOUNT = "hotswitch-system", "hotswitch-controller"
ROOT_NAMESPACE = "istio-system"
HELPER_IMAGE = "hotswitch-agent:1"  # as the shipped admission policy lets it be called
TIER, OPT_INS = "tier-2-direct", ("ephemeral", "exec")
FIRST_PORT: Port = 8090
READY_WITHIN_S = 30.0
POLL_S = 0.05
LOG_TAIL = 2000

MESH_CONFIG = {
    "metadata": {"name": "istio", "namespace": ROOT_NAMESPACE},
    "data": {
        "mesh": "rootNamespace: istio-system\ntrustDomain: cluster.local\ndefaultConfig:\n  discoveryAddress: "
        "istiod.istio-system.svc:15012\n",
        "meshNetworks": "networks: {}\n",
    },
}
"""What Istio's installation leaves there, and the preflight reads."""


class ControllerFailed(RuntimeError):
    """It ended, or did not become ready; the message ends with its own words."""


def manifests(tier: str = TIER, opt_ins: Sequence[str] = OPT_INS) -> list[Obj]:
    """An overlay with components, as a user's kustomization names them. Raises ManifestError."""
    with tempfile.TemporaryDirectory() as made:
        shipped = os.path.relpath(MANIFESTS, Path(made).resolve())
        said = {
            "apiVersion": "kustomize.config.k8s.io/v1beta1",
            "kind": "Kustomization",
            "resources": [f"{shipped}/overlays/{tier}"],
            "components": [f"{shipped}/components/{name}" for name in opt_ins],
        }
        (Path(made) / "kustomization.yaml").write_text(yaml.safe_dump(said))
        return render(Path(made))


class Controller:
    """One controller process. `options` are the command's own, without --kubeconfig."""

    def __init__(self, cluster: SandboxCluster, name: str, port: Port, options: Sequence[str]) -> None:
        self.name, self._port = name, port
        self._cluster, self._options = cluster, tuple(options)
        self.log = cluster.box.estate.directory / f"{name}.log"
        self.process: Process | None = None

    def start(self) -> Process:
        """A first or a fresh process. `ready` waits for it."""
        cluster = self._cluster
        kubeconfig = cluster.api.kubeconfig(service_account(NAMESPACE, ACCOUNT))
        argv = (
            sys.executable, "-m", "hotswitch.cli.main", "controller", "--kubeconfig", str(kubeconfig),
            "--identity", self.name, "--port", str(self._port), "--istiod", cluster.eds.target,
            "--helper-image", HELPER_IMAGE, *self._options,
        )  # fmt: skip
        node = cluster.box.network.node.netns
        self.process = start(cluster.box.estate, argv, log=self.log, netns=node, cgroups=())
        return self.process

    async def get(self, path: str) -> Answer:
        """Of its own server: /healthz, /readyz, /metrics. Raises OSError."""
        node = self._cluster.box.network.node
        return await ask("127.0.0.1", self._port, path, netns=node.netns, timeout_s=2.0)

    async def ready(self, timeout_s: float = READY_WITHIN_S) -> None:
        """Raises ControllerFailed."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                while self.process is not None and self.process.running:
                    with contextlib.suppress(OSError):
                        if (await self.get("/readyz")).status == 200:
                            return
                    await asyncio.sleep(POLL_S)
        raise ControllerFailed(f"{self.name} is not ready: {self.words()}")

    def words(self) -> str:
        return self.log.read_text()[-LOG_TAIL:].strip() if self.log.exists() else "it says nothing"

    async def stop(self, patience_s: float = 5.0) -> None:
        """SIGTERM, and SIGKILL after the patience (0: at once)."""
        if self.process is not None:
            await self.process.stop(patience_s)


class Installation:
    """Made by `SandboxCluster.install`."""

    def __init__(self, cluster: SandboxCluster) -> None:
        self._cluster = cluster
        self._relays: list[Relay] = []
        self.controllers: list[Controller] = []
        self.agents: list[NodeAgent] = []

    async def open(self) -> None:
        """Let the node's namespace reach the API and istiod."""
        node = self._cluster.box.network.node.netns
        for port in (int(self._cluster.api.url.rpartition(":")[2]), self._cluster.eds.port):
            self._relays.append(await Relay.open(node, port))

    def agent(self, **variables: str) -> NodeAgent:
        """The agent of the node, not started yet. `variables`: its environment, beside what the manifest says."""
        made = NodeAgent(self._cluster, variables)
        self.agents.append(made)
        return made

    def controller(self, *options: str) -> Controller:
        """Another controller, not started yet."""
        number = len(self.controllers)
        made = Controller(self._cluster, f"hotswitch-controller-{number}", FIRST_PORT + number, options)
        self.controllers.append(made)
        return made

    async def close(self) -> None:
        await asyncio.gather(*(each.stop() for each in self.controllers), *(each.stop() for each in self.agents))
        await asyncio.gather(*(relay.close() for relay in self._relays))
