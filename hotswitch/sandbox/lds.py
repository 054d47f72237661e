"""The control plane's listeners for one pod's sidecar: a new version, and whether Envoy has taken it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from hotswitch.sandbox.envoy import publish
from hotswitch.sandbox.recovery import PATIENCE_S, POLL_S
from hotswitch.sandbox.sidecar import inbound, outbound

if TYPE_CHECKING:
    from hotswitch.sandbox.pod import Pod

UPDATES, REJECTIONS = "listener_manager.lds.update_success", "listener_manager.lds.update_rejected"


class Lds:
    """All raise TimeoutError when Envoy does not answer to a version in PATIENCE_S."""

    def __init__(self, pod: Pod) -> None:
        self._pod, self._version = pod, 1

    async def publish(self, cluster: str = "InboundPassthroughCluster", *, wait: bool = True) -> None:
        """A new version, and wait until Envoy has taken it."""
        self._version += 1
        spec = self._pod.sidecar
        before = await self._count(UPDATES) if wait else 0
        publish(spec.lds, [inbound(spec, cluster), outbound(spec)], self._version)
        if wait:
            await self._counted_since(before, UPDATES)

    async def reject(self) -> None:
        """One that Envoy cannot take, and wait until it has said so."""
        spec, before = self._pod.sidecar, await self._count(REJECTIONS)
        self._version += 1
        nobody = {"@type": "type.googleapis.com/envoy.config.listener.v3.Listener"}  # without an address
        publish(spec.lds, [inbound(spec, "InboundPassthroughCluster"), outbound(spec), nobody], self._version)
        await self._counted_since(before, REJECTIONS)

    async def _counted_since(self, before: int, name: str) -> None:
        async with asyncio.timeout(PATIENCE_S):
            while await self._count(name) == before:
                await asyncio.sleep(POLL_S)

    async def _count(self, name: str) -> int:
        answer = await self._pod.admin(f"/stats?filter=^{name}$")
        return int(answer.body.rpartition(b":")[2])
