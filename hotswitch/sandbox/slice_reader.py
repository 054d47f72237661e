"""What kube-proxy knows of a Service: addresses of endpoints that are ready, as the newest slices have them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from typing import Any

from hotswitch.backends import ServiceId
from hotswitch.cluster.client import Cluster
from hotswitch.cluster.kinds import ENDPOINTSLICES
from hotswitch.cluster.watch import Change, ChangeType, Watcher

Address = tuple[str, int]


def selector(service: ServiceId) -> str:
    return f"kubernetes.io/service-name={service.name}"


def ready(slices: Iterable[Mapping[str, Any]]) -> list[Address]:
    """The first port of each."""
    return [
        (each["addresses"][0], content["ports"][0]["port"])
        for content in slices
        for each in content.get("endpoints") or ()
        if each["conditions"]["ready"]
    ]


class SliceReader:
    """It goes on with the last it knew while the API server is away."""

    def __init__(self, cluster: Cluster, service: ServiceId) -> None:
        self._slices: dict[str, dict[str, Any]] = {}
        self._watcher: Watcher[dict[str, Any]] = Watcher(
            cluster,
            ENDPOINTSLICES,
            dict,
            on_event=self._heard,
            namespace=service.namespace,
            label_selector=selector(service),
        )

    def _heard(self, change: Change[dict[str, Any]]) -> None:
        name = change.object["metadata"]["name"]
        if change.type is ChangeType.DELETED:
            self._slices.pop(name, None)
        else:
            self._slices[name] = change.object

    @property
    def ready(self) -> list[Address]:
        return ready(self._slices.values())

    @asynccontextmanager
    async def watching(self) -> AsyncIterator[None]:
        """From when everything that there is was read."""
        task = asyncio.create_task(self._watcher.run())
        try:
            await self._watcher.synced.wait()
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
