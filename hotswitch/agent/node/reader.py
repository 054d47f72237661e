"""Whole manifests of the node's pods: read when a pod comes, from the API, or from memory while it cannot be asked."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path

from hotswitch.agent.node.describe import Undescribed, known
from hotswitch.agent.node.memory import Manifest, Manifests, Memory, trimmed
from hotswitch.cluster import pods
from hotswitch.cluster.client import Cluster
from hotswitch.cluster.failure import ApiFailure

READ_AT_ONCE = 8


class Reader:
    """`manifests`: what is known, by uid; at first what is remembered in `directory`."""

    def __init__(self, directory: Path) -> None:
        self._memory = Memory(directory)
        self._slots = asyncio.Semaphore(READ_AT_ONCE)
        self.manifests = Manifests()
        self.manifests.update({found["metadata"]["uid"]: found for found in self._memory.read()})

    def remembered(self) -> dict[str, pods.Pod]:
        """A pod that was written down otherwise, by an earlier version, is none: the API tells of it."""
        found = {}
        for uid, manifest in self.manifests.items():
            with contextlib.suppress(Undescribed):
                found[uid] = known(manifest)
        return found

    async def read(self, cluster: Cluster, pod: pods.Pod) -> Manifest:
        """Raises ApiFailure: it cannot be read, and never was."""
        async with self._slots:
            try:
                whole = trimmed(await pods.manifest(cluster, pod))
            except ApiFailure:
                if pod.uid not in self.manifests:
                    raise
                return self.manifests[pod.uid]
        if whole != self.manifests.get(pod.uid):
            self.manifests[pod.uid] = whole
            with contextlib.suppress(OSError):
                await asyncio.to_thread(self._memory.keep, pod.uid, whole)
        return whole

    def forget(self, uid: str) -> None:
        self.manifests.pop(uid, None)
        self._memory.forget(uid)
