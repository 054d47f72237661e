"""A further cluster that is not heard of: its backends grow stale, then lost; at its next word they are fresh (S2.4).

The home cluster never grows stale: a controller that does not hear of it does not lead either.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Iterable
from dataclasses import replace

from hotswitch.backends import ServiceId, ServiceRecord, Staleness
from hotswitch.cluster.client import Cluster
from hotswitch.cluster.failure import ApiFailure
from hotswitch.endpoints.registry import Registry

LOOK_S = 0.5
PING_S = 1.0


def staleness(age_s: float, record: ServiceRecord) -> Staleness:
    if age_s >= record.options.lost_after_s:
        return Staleness.LOST
    return Staleness.STALE if age_s >= record.options.stale_after_s else Staleness.FRESH


class Aging:
    """`name`: the cluster's. `is_followed`: every watch of it stands. `services`: those that it is watched for."""

    def __init__(
        self,
        cluster: Cluster,
        registry: Registry,
        name: str,
        is_followed: Callable[[], bool],
        services: Iterable[ServiceId],
    ) -> None:
        self._cluster, self._registry, self._name = cluster, registry, name
        self._is_followed, self._services = is_followed, services
        self._staleness: dict[ServiceId, Staleness] = {}
        self._heard_s = time.monotonic()
        self.silence = ""  # why it did not answer when it was asked last

    @property
    def age_s(self) -> float:
        """Since this cluster last answered while every watch of it stood. A watch alone does not tell: where nothing
        happens, an API server says nothing for minutes."""
        return time.monotonic() - self._heard_s

    @property
    def worst(self) -> Staleness:
        """Of all Services the one that has waited longest for its word."""
        return max(self._staleness.values(), key=list(Staleness).index, default=Staleness.FRESH)

    def of(self, service: ServiceId) -> Staleness:
        return self._staleness.get(service, Staleness.FRESH)

    def forget(self, service: ServiceId) -> None:
        """Else it would be counted for ever."""
        self._staleness.pop(service, None)

    async def run(self) -> None:
        """Until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._listen())
            while True:
                self._look()
                await asyncio.sleep(LOOK_S)

    async def _listen(self) -> None:
        """Ask for something small, again and again."""
        while True:
            try:
                await self._cluster.hello(PING_S)
                self.silence = ""
                if self._is_followed():
                    self._heard_s = time.monotonic()
            except ApiFailure as failure:
                self.silence = str(failure)
            await asyncio.sleep(PING_S * random.uniform(0.8, 1.0))

    def _look(self) -> None:
        age_s = self.age_s
        for service in self._services:
            record = self._registry.service(service)
            if record is not None:
                self._grow(record, staleness(age_s, record))

    def _grow(self, record: ServiceRecord, found: Staleness) -> None:
        self._staleness[record.id] = found
        for backend in self._registry.backends(record.id):
            if backend.locality.cluster == self._name and backend.staleness is not found:
                self._registry.put(replace(backend, staleness=found))
