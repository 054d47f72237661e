"""The herd as the agent of a node finds it: pods of a cluster's API, whose proxies' processes are in the cgroups that a
kubelet would give them and have the workload socket where Istio's proxy has it (see herd)."""

from __future__ import annotations

import asyncio
import hashlib
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bench.herd import Herd, Member
from hotswitch.capture.render import commands
from hotswitch.kernel.command import run
from hotswitch.sandbox.ca import spiffe_id
from hotswitch.sandbox.cluster import manifest
from hotswitch.sandbox.cluster.cluster import SandboxCluster
from hotswitch.sandbox.cluster.manifest import PROXY, Injected
from hotswitch.sandbox.cluster.rights import Rights
from hotswitch.sandbox.cluster.status import stamp
from hotswitch.sandbox.network import Attachment
from hotswitch.sandbox.podfiles import SPIFFE_MOUNT
from hotswitch.sandbox.podspec import PodSpec
from hotswitch.sandbox.sidecar import PROXY_GID, PROXY_UID

WORKLOAD = "herd"


class NodeHerd(Herd):
    """In the cluster's namespace, on its node."""

    def __init__(self, cluster: SandboxCluster) -> None:
        super().__init__(cluster.box)
        self._cluster = cluster
        self._spec = PodSpec(
            namespace=cluster.namespace, workload=f"deploy/{WORKLOAD}", account=WORKLOAD, families=("v4",), native=True
        )
        self.spiffe_id = spiffe_id(cluster.namespace, WORKLOAD)

    async def member(self, number: int) -> Member:
        place = await self.box.network.attach(f"herd-{number}", ipv6=False)
        for command in commands(self._spec.capture(), netns=place.netns):
            await asyncio.to_thread(run, command, check=True)
        uid = self._publish(number, place)
        ident = hashlib.sha256(f"{uid}/{PROXY}".encode()).hexdigest()
        cgroups = self.box.estate.make_cgroups("kubepods", "burstable", f"pod{uid}", ident)
        volume = self.directory / str(number)
        volume.mkdir()
        self.launch(self._container(volume), "container.log", cgroups, place.netns)
        return Member(place, number, volume / "socket", cgroups)

    def _publish(self, number: int, place: Attachment) -> str:
        """Its object, as though its kubelet had started it; the uid."""
        injected = Injected(name=f"herd-{number}", spec=self._spec, node=self._cluster.node.name)
        created = self._cluster.api.admin.create(manifest.pod(injected))
        spec = created["spec"]
        status = {
            "phase": "Running",
            "podIP": place.ipv4,
            "podIPs": [{"ip": place.ipv4}],
            "containerStatuses": [_running(each) for each in spec["containers"]],
            "initContainerStatuses": [_running(each) for each in spec["initContainers"]],
        }
        name, namespace = created["metadata"]["name"], created["metadata"]["namespace"]
        self._cluster.api.admin.patch("pods", name, {"status": status}, namespace, sub="status")
        return str(created["metadata"]["uid"])

    def _container(self, volume: Path) -> tuple[str, ...]:
        """A process of the proxy's user that has the workload socket's directory where Istio's has it."""
        own = volume.with_name(f"{volume.name}-files")
        own.mkdir()
        spec = {
            "netns": None,
            "enter": None,
            "directory": str(own),
            "mounts": [{"source": str(volume), "target": SPIFFE_MOUNT}],
            "env": {"PATH": "/usr/bin:/bin"},
            "argv": Rights(uid=PROXY_UID, gid=PROXY_GID, capabilities=()).argv(("sleep", "infinity")),
        }
        return (sys.executable, "-m", "hotswitch.sandbox.cluster.stage", json.dumps(spec))


def _running(container: Mapping[str, Any]) -> dict[str, Any]:
    told = {"name": container["name"], "image": container["image"], "imageID": container["image"]}
    state = {"running": {"startedAt": stamp(0.0)}}
    return {**told, "state": state, "lastState": {}, "ready": True, "restartCount": 0}
