"""The node that the sandbox's pods run on: its object in the API, and a worker for each of its pods."""

from __future__ import annotations

import asyncio
import shutil
from typing import Any

from hotswitch.cluster.client import Cluster
from hotswitch.cluster.failure import ApiFailure
from hotswitch.cluster.kinds import NODES, PODS
from hotswitch.cluster.watch import Change, ChangeType, Watcher
from hotswitch.sandbox.cluster.manifest import Manifest
from hotswitch.sandbox.cluster.published import Published
from hotswitch.sandbox.cluster.status import stamp
from hotswitch.sandbox.pod import Pod
from hotswitch.sandbox.sandbox import Sandbox

KUBELET_VERSION = "v1.34.2"  # from 1.33 on Istio injects native sidecars


class Node:
    """`pods`: those it runs, by namespace and name."""

    def __init__(self, cluster: Cluster, box: Sandbox, name: str) -> None:
        self.name, self.pods = name, dict[tuple[str, str], Published]()
        self.address = box.network.node.ipv4
        self._cluster, self._box = cluster, box
        self._workers: dict[tuple[str, str], asyncio.Task[None]] = {}
        selected = f"spec.nodeName={name}"
        self._watcher = Watcher(cluster, PODS, dict, on_event=self._heard, field_selector=selected)
        self._watching: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Register the node and follow its pods. Raises ApiFailure."""
        try:
            await self._cluster.create(NODES, None, self._manifest())
        except ApiFailure as failure:
            if not failure.is_taken:
                raise
        await self._cluster.patch_strategic(NODES, None, self.name, {"status": self._status()}, "status")
        self._watching = asyncio.create_task(self._watcher.run())
        await self._watcher.synced.wait()

    def _manifest(self) -> Manifest:
        labels = {"kubernetes.io/hostname": self.name, "topology.kubernetes.io/zone": "zone-a"}
        return {"metadata": {"name": self.name, "labels": labels}}

    def _status(self) -> dict[str, Any]:
        now = stamp(asyncio.get_running_loop().time())
        ready = {"type": "Ready", "status": "True", "reason": "KubeletReady"}
        info = dict.fromkeys(
            ("machineID", "systemUUID", "bootID", "kernelVersion", "osImage", "kubeProxyVersion"), "sandbox"
        )
        runtime = {"containerRuntimeVersion": "sandbox://1", "operatingSystem": "linux", "architecture": "amd64"}
        return {
            "conditions": [{**ready, "lastHeartbeatTime": now, "lastTransitionTime": now}],
            "addresses": [{"type": "InternalIP", "address": self.address}, {"type": "Hostname", "address": self.name}],
            "nodeInfo": {**info, **runtime, "kubeletVersion": KUBELET_VERSION},
        }

    def adopt(self, pod: Pod, manifest: Manifest) -> Published:
        """Publish a pod that has been started for this object."""
        published = Published(self._cluster, pod, manifest, self.address, self._removed)
        self.pods[published.key] = published
        self._workers[published.key] = asyncio.create_task(published.run())
        newest = self._watcher.store.get(published.key)  # what happened to it before it was ours
        if newest is not None:
            published.seen(newest)
        return published

    def _heard(self, change: Change[Any]) -> None:
        metadata = change.object["metadata"]
        published = self.pods.get((metadata["namespace"], metadata["name"]))
        if published is None:
            return
        if change.type is ChangeType.DELETED:
            published.vanished(change.object)
        else:
            published.seen(change.object)

    async def _removed(self, pod: Pod) -> None:
        """It has ended for good: nothing of it is left on the node."""
        self.pods.pop((pod.namespace, pod.name), None)
        self._box.pods.pop(pod.name, None)
        await self._box.network.detach(pod.place)
        await asyncio.to_thread(shutil.rmtree, pod.directory, ignore_errors=True)

    async def stop(self) -> None:
        tasks = [*self._workers.values(), *([self._watching] if self._watching else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.gather(*(each.stop() for each in list(self.pods.values())))
