"""Which pods are on this node, kept up with: from the API by two watches, from memory until it can be heard (S4.2, I1).

Only what was told is known: while the API server is away the roster stays as it is. A pod that is gone from the node's
kernel is dropped by its guard, whatever the roster says; a pod that is gone from the API is dropped by the roster.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

import msgspec

from hotswitch.agent.node.selection import why_not
from hotswitch.api.names import MODE_LABEL
from hotswitch.cluster.client import Cluster
from hotswitch.cluster.kinds import NAMESPACES, PODS
from hotswitch.cluster.objects import Metadata
from hotswitch.cluster.pods import Pod
from hotswitch.cluster.watch import Change, ChangeType, Watcher


class Namespace(msgspec.Struct, frozen=True, gc=False):
    metadata: Metadata


class Roster:
    """`changed` is called in the event loop, often; `remembered`: pods of before, taken as they are until the API has
    told all it has."""

    def __init__(self, cluster: Cluster, node: str, remembered: Mapping[str, Pod], changed: Callable[[], None]) -> None:
        self._changed = changed
        self._remembered = dict(remembered)
        self._pods = Watcher(
            cluster, PODS, Pod, on_event=self._heard, on_synced=changed, field_selector=f"spec.nodeName={node}"
        )
        self._namespaces = Watcher(
            cluster, NAMESPACES, Namespace, on_event=self._heard, on_synced=changed, label_selector=MODE_LABEL
        )
        self._tasks: list[asyncio.Task[None]] = []
        self._wanted: dict[str, Pod] | None = None  # None: something was told since

    def start(self) -> None:
        loop = asyncio.get_running_loop()
        self._tasks = [loop.create_task(watcher.run()) for watcher in (self._namespaces, self._pods)]

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _heard(self, change: Change[Pod] | Change[Namespace]) -> None:
        self._wanted = None
        if change.type is ChangeType.DELETED or self.synced:
            self._changed()

    @property
    def synced(self) -> bool:
        """The API has told all that it has, once."""
        return self._pods.synced.is_set() and self._namespaces.synced.is_set()

    @property
    def problem(self) -> str:
        """Why the API cannot be followed now; "" when it can."""
        return self._pods.problem or self._namespaces.problem

    def wanted(self) -> Mapping[str, Pod]:
        """By uid: those that are to be guarded. Asked each second, and nearly always the same as before."""
        if not self.synced:
            return self._remembered
        if self._wanted is None:
            self._wanted = {pod.uid: pod for pod in self._pods.store.values() if not self.why_not(pod)}
        return self._wanted

    def why_not(self, pod: Pod) -> str:
        """Why a pod is left alone; "" when it is guarded."""
        space = self._namespaces.store.get(("", pod.metadata.namespace))
        return why_not(pod, (space.metadata.labels or {}) if space is not None else {})

    def others(self) -> dict[str, str]:
        """Pods of the node that are left alone, by namespace/name, and why."""
        every = ((pod, self.why_not(pod)) for pod in self._pods.store.values())
        return {"/".join(pod.key): why for pod, why in every if why}
