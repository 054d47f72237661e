"""The EndpointSlice controller's stand-in at work: one writer, after every change of a Service or a pod.

Only slices that carry its own managed-by label are touched, and of these only endpoints and ports: what others write
there (an annotation that makes istiod look again) stays. A Service that has lost its selector is passed over.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

from hotswitch.cluster.client import Cluster
from hotswitch.cluster.failure import ApiFailure
from hotswitch.cluster.kinds import ENDPOINTSLICES, PODS, SERVICES
from hotswitch.cluster.watch import Change, Watcher
from hotswitch.sandbox.cluster import slices
from hotswitch.sandbox.cluster.slices import CONTROLLER, MANAGED_BY, SERVICE_NAME, Object

Key = tuple[str, str]
RETRY_S = 0.1


class SliceController:
    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._due: set[Key] = set()  # Services to look at
        self._wake = asyncio.Event()
        selected = f"{MANAGED_BY}={CONTROLLER}"
        self._services = Watcher(cluster, SERVICES, dict, on_event=self._service)
        self._pods = Watcher(cluster, PODS, dict, on_event=self._pod)
        self._slices = Watcher(cluster, ENDPOINTSLICES, dict, on_event=self._slice, label_selector=selected)
        self._known: dict[Key, Object] = {}  # its slices, by what the watch and its own writes have told
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        watchers: tuple[Watcher[Any], ...] = (self._slices, self._services, self._pods)
        self._tasks = [asyncio.create_task(watcher.run()) for watcher in watchers]
        await asyncio.gather(*(watcher.synced.wait() for watcher in watchers))
        self._tasks.append(asyncio.create_task(self._work()))

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    # ---- what has changed ----

    def _service(self, change: Change[Any]) -> None:
        self._look_at(_key(change.object))

    def _pod(self, change: Change[Any]) -> None:
        """Services that select it, or have it in a slice (its labels may have changed)."""
        name = _key(change.object)
        for key, service in self._services.store.items():
            if slices.selects(service, change.object):
                self._look_at(key)
        for known in self._known.values():
            refs = (each.get("targetRef") or {} for each in known.get("endpoints") or ())
            if any((ref.get("namespace"), ref.get("name")) == name for ref in refs):
                self._look_at(_service_of(known))

    def _slice(self, change: Change[Any]) -> None:
        key, known = _key(change.object), self._known.get(_key(change.object))
        if change.type == "DELETED":
            self._known.pop(key, None)
            self._look_at(_service_of(change.object))
        elif known is None or _version(known) < _version(change.object):
            self._known[key] = change.object

    def _look_at(self, service: Key) -> None:
        self._due.add(service)
        self._wake.set()

    # ---- what is done about it ----

    async def _work(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            for key in sorted(self._due):
                self._due.discard(key)
                try:
                    await self._reconcile(key)
                except ApiFailure:
                    await asyncio.sleep(RETRY_S)
                    self._look_at(key)

    async def _reconcile(self, key: Key) -> None:
        service = self._services.store.get(key)
        there = [known for known in self._known.values() if _service_of(known) == key]
        if service is None:
            return await self._remove(there)
        if not slices.managed(service):
            return
        left = sorted(there, key=lambda known: str(known["metadata"]["name"]))
        for content in slices.wanted(service, self._pods.store.values()) or [_empty(service)]:
            fitting = next((known for known in left if known["addressType"] == content["addressType"]), None)
            if fitting is None:
                await self._create(service, content)
                continue
            left.remove(fitting)
            await self._change(fitting, content)
        await self._remove(left)

    async def _create(self, service: Object, content: Object) -> None:
        metadata = service["metadata"]
        owner = {"apiVersion": "v1", "kind": "Service", "name": metadata["name"], "uid": metadata["uid"]}
        body = {key: value for key, value in content.items() if key != "labels"}
        body["metadata"] = {
            "generateName": f"{metadata['name']}-",
            "labels": content["labels"],
            "ownerReferences": [{**owner, "controller": True, "blockOwnerDeletion": True}],
        }
        self._note(await self._cluster.create(ENDPOINTSLICES, metadata["namespace"], body))

    async def _change(self, known: Object, content: Object) -> None:
        parts = {part: content[part] for part in ("endpoints", "ports") if (known.get(part) or []) != content[part]}
        if parts:
            self._note(await self._cluster.patch_merge(ENDPOINTSLICES, *_key(known), parts))

    async def _remove(self, every: list[Object]) -> None:
        for known in every:
            self._known.pop(_key(known), None)
            with contextlib.suppress(ApiFailure):
                await self._cluster.delete(ENDPOINTSLICES, *_key(known))

    def _note(self, written: Object) -> None:
        self._known[_key(written)] = written


def _empty(service: Object) -> Object:
    """A Service without pods still has a slice."""
    return {**slices.content(service, slices.families(service)[0], [], []), "ports": []}


def _key(obj: Object) -> Key:
    return obj["metadata"].get("namespace", ""), obj["metadata"]["name"]


def _version(obj: Object) -> int:
    return int(obj["metadata"]["resourceVersion"])


def _service_of(known: Object) -> Key:
    return known["metadata"]["namespace"], (known["metadata"].get("labels") or {}).get(SERVICE_NAME, "")
