"""What receivers were told, in a ConfigMap of our own namespace: the next leader tells the end of it (S4.6).

The ConfigMap comes with the manifests, so that no right to create one is needed. Only the leader writes, one receiver
after the other; a conflict is read again and tried once more.
"""

from __future__ import annotations

import asyncio
from typing import Any

from hotswitch.cluster.client import Cluster
from hotswitch.cluster.failure import ApiFailure
from hotswitch.cluster.kinds import CONFIGMAPS
from hotswitch.report.alerts.store import file_name

NAME = "hotswitch-alerts"
TRIES = 3


class ConfigMapStore:
    """A report.alerts.store.Store. Raises ApiFailure."""

    def __init__(self, cluster: Cluster, namespace: str) -> None:
        self._cluster, self._namespace = cluster, namespace
        self._lock = asyncio.Lock()

    async def load(self, name: str) -> bytes | None:
        text = ((await self._read()).get("data") or {}).get(file_name(name))
        return None if text is None else str(text).encode()

    async def save(self, name: str, content: bytes) -> None:
        await self._change(name, content.decode())

    async def remove(self, name: str) -> None:
        await self._change(name, None)

    async def _read(self) -> dict[str, Any]:
        return await self._cluster.get(CONFIGMAPS, self._namespace, NAME)

    async def _change(self, name: str, text: str | None) -> None:
        async with self._lock:
            for left in range(TRIES - 1, -1, -1):
                whole = await self._read()
                data = {key: value for key, value in (whole.get("data") or {}).items() if key != file_name(name)}
                data |= {} if text is None else {file_name(name): text}
                if data == (whole.get("data") or {}):
                    return
                try:
                    await self._cluster.replace(CONFIGMAPS, self._namespace, NAME, {**whole, "data": data})
                except ApiFailure as failure:
                    if not failure.is_conflict or not left:
                        raise
                else:
                    return
