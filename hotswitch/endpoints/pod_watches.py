"""The pods of each Service that is looked after, watched by its selector: the API server selects (S2.1).

A watch is ended and begun anew when the selector is another one; what the old one knew is then forgotten.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from hotswitch.backends import ServiceId, ServiceRecord
from hotswitch.cluster.client import Cluster
from hotswitch.cluster.kinds import PODS
from hotswitch.cluster.pods import Pod
from hotswitch.cluster.watch import Change, Watcher


@dataclass(slots=True)
class _Watched:
    """The pods of one Service. `task` runs `watcher`."""

    selector: dict[str, str]
    watcher: Watcher[Pod]
    task: asyncio.Task[None]


class PodWatches:
    """`changed`: of each pod as it comes, changes and goes. `listed`: the pods of a Service are all told. `trouble`:
    words about the API server."""

    def __init__(
        self,
        cluster: Cluster,
        *,
        changed: Callable[[ServiceId, Change[Pod]], None],
        listed: Callable[[ServiceId], None],
        trouble: Callable[[str], None],
    ) -> None:
        self._cluster, self._changed, self._listed, self._trouble = cluster, changed, listed, trouble
        self._watched: dict[ServiceId, _Watched] = {}
        self._pending: set[asyncio.Task[None]] = set()

    def __iter__(self) -> Iterator[ServiceId]:
        return iter(list(self._watched))

    @property
    def watchers(self) -> list[Watcher[Pod]]:
        return [each.watcher for each in self._watched.values()]

    def is_as(self, record: ServiceRecord) -> bool:
        """Its pods are watched, and by the selector that it has now."""
        known = self._watched.get(record.id)
        return known is not None and known.selector == dict(record.selector)

    def knows(self, service: ServiceId) -> bool:
        """Its pods were listed."""
        known = self._watched.get(service)
        return known is not None and known.watcher.synced.is_set()

    def pod(self, service: ServiceId, name: str) -> Pod | None:
        known = self._watched.get(service)
        return None if known is None else known.watcher.store.get((service.namespace, name))

    def pods(self, service: ServiceId) -> tuple[Pod, ...]:
        known = self._watched.get(service)
        return () if known is None else tuple(known.watcher.store.values())

    def begin(self, record: ServiceRecord) -> None:
        """Of a Service that is not watched."""
        watcher: Watcher[Pod] = Watcher(
            self._cluster,
            PODS,
            Pod,
            on_event=lambda change: self._changed(record.id, change),
            on_synced=lambda: self._listed(record.id),
            on_problem=self._trouble,
            namespace=record.id.namespace,
            label_selector=",".join(f"{key}={text}" for key, text in sorted(record.selector.items())),
        )
        task = asyncio.get_running_loop().create_task(watcher.run())
        self._watched[record.id] = _Watched(dict(record.selector), watcher, task)

    def end(self, service: ServiceId) -> tuple[Pod, ...] | None:
        """The pods that were known of it; None: it was not watched."""
        known = self._watched.pop(service, None)
        if known is None:
            return None
        known.task.cancel()
        self._pending.add(known.task)
        known.task.add_done_callback(self._pending.discard)
        return tuple(known.watcher.store.values())

    async def synced(self) -> None:
        """The pods of all that are watched now were listed."""
        await asyncio.gather(*(each.synced.wait() for each in self.watchers))

    async def ended(self) -> None:
        """Every watch that was ended has let go of its connection."""
        await asyncio.gather(*self._pending, return_exceptions=True)
