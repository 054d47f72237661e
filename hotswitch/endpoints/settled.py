"""Of which Services enough is known to say anything (S0.1, S2.4): half a picture would take endpoints away.

Their pods were read, in every cluster that can be reached in time, and whoever is asked has answered once. One Service
that is settled stays so, until its pods are read anew by another selector, or it is gone.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from hotswitch.backends import CheckKind, Health, ServiceId, ServiceMode, ServiceRecord
from hotswitch.endpoints.registry import Registry
from hotswitch.endpoints.source import Source
from hotswitch.endpoints.worker import LOOK_S


class Settled:
    """Of one leadership. `again`: called when it is time to look anew at a Service that waits."""

    def __init__(
        self,
        registry: Registry,
        sources: Sequence[Source],
        clock: Callable[[], float],
        again: Callable[[ServiceId], None],
    ) -> None:
        self._registry, self._sources, self._clock, self._again = registry, sources, clock, again
        self._settled: set[ServiceId] = set()  # whose first answers have come
        self._waiting: dict[ServiceId, float] = {}  # since when, for clusters that were not read yet
        self._timers: set[ServiceId] = set()  # of those that wait

    def __contains__(self, service: ServiceId) -> bool:
        return service in self._settled

    def unsettle(self, service: ServiceId) -> None:
        """Its pods are read anew: what was heard of them is forgotten."""
        self._settled.discard(service)

    def forget(self, service: ServiceId) -> None:
        self._settled.discard(service)
        self._waiting.pop(service, None)

    def settle(self, record: ServiceRecord) -> bool:
        """Whether it is by now."""
        return self._are_read(record) and self._are_heard(record)

    def _are_read(self, record: ServiceRecord) -> bool:
        """Other clusters, too, before anything is said for the first time: their pods would be taken out. One that
        cannot be reached is waited for as long as it takes to count as lost. An election waits only for the cluster of
        who serves (Worker)."""
        is_elected = record.mode is ServiceMode.ACTIVE_STANDBY
        if is_elected or record.id in self._settled or all(each.knows(record.id) for each in self._sources):
            self._waiting.pop(record.id, None)
            return True
        now_s = self._clock()
        if now_s - self._waiting.setdefault(record.id, now_s) >= record.options.lost_after_s:
            return True
        if record.id not in self._timers:
            self._timers.add(record.id)
            asyncio.get_running_loop().call_later(LOOK_S, self._look_again, record.id)
        return False

    def _look_again(self, service: ServiceId) -> None:
        self._timers.discard(service)
        self._again(service)

    def _are_heard(self, record: ServiceRecord) -> bool:
        """A leader that has just begun has heard no answer yet: to take that for failure would take everybody out. Once
        settled, a pod that comes later is unavailable until it answers."""
        if record.id not in self._settled:
            backends = self._registry.backends(record.id)
            is_asked = record.options.check.kind is not CheckKind.KUBELET
            if is_asked and any(each.health is Health.UNKNOWN and not each.ended for each in backends):
                return False
            self._settled.add(record.id)
        return True
