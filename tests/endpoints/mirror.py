"""Endpoints objects and their mirrors, as Kubernetes keeps them (facts: 6b): made of a Service's pods while it has a
selector, left as they are when it loses it, and then mirrored into a slice until they are deleted."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

from hotswitch.cluster.client import Cluster
from hotswitch.cluster.failure import ApiFailure
from hotswitch.cluster.kinds import ENDPOINTS, ENDPOINTSLICES, PODS, SERVICES, Kind
from hotswitch.cluster.watch import Watcher
from hotswitch.sandbox.cluster import slices

MIRRORS = "endpointslicemirroring-controller.k8s.io"
Object = dict[str, Any]


class Mirror:
    """Both controllers, one namespace."""

    def __init__(self, cluster: Cluster, namespace: str) -> None:
        self._cluster, self._namespace = cluster, namespace
        self._wake = asyncio.Event()
        self._services, self._pods, self._endpoints = (self._watcher(kind) for kind in (SERVICES, PODS, ENDPOINTS))
        self._tasks: list[asyncio.Task[None]] = []

    def _watcher(self, kind: Kind) -> Watcher[Object]:
        return Watcher(self._cluster, kind, dict, on_event=lambda change: self._wake.set(), namespace=self._namespace)

    async def __aenter__(self) -> Mirror:
        watchers = (self._services, self._pods, self._endpoints)
        self._tasks = [asyncio.create_task(each.run()) for each in watchers]
        await asyncio.gather(*(each.synced.wait() for each in watchers))
        self._tasks.append(asyncio.create_task(self._work()))
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _work(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            for service in list(self._services.store.values()):
                with contextlib.suppress(ApiFailure):
                    await self._reconcile(service)

    async def _reconcile(self, service: Object) -> None:
        name = service["metadata"]["name"]
        if slices.managed(service):
            await self._put(ENDPOINTS, name, {"metadata": {"name": name}, "subsets": self._subsets(service)})
            await self._drop(f"{name}-mirrored")
        elif (known := self._endpoints.store.get((self._namespace, name))) is None:
            await self._drop(f"{name}-mirrored")
        else:
            await self._put(ENDPOINTSLICES, f"{name}-mirrored", _mirrored(name, known))

    def _subsets(self, service: Object) -> list[Object]:
        pods = [pod for pod in self._pods.store.values() if slices.selects(service, pod)]
        ports = [{"name": each.get("name", ""), "port": each["port"]} for each in service["spec"]["ports"]]
        found: dict[str, list[Object]] = {"addresses": [], "notReadyAddresses": []}
        for pod in pods:
            if address := (pod.get("status") or {}).get("podIP"):
                found["addresses" if slices.is_ready(pod) else "notReadyAddresses"].append({"ip": address})
        return [{**{key: each for key, each in found.items() if each}, "ports": ports}] if pods else []

    async def _put(self, kind: Kind, name: str, body: Object) -> None:
        try:
            known = await self._cluster.get(kind, self._namespace, name)
        except ApiFailure as failure:
            if not failure.is_missing:
                raise
            await self._cluster.create(kind, self._namespace, body)
            return
        if any(known.get(key) != part for key, part in body.items() if key != "metadata"):
            await self._cluster.patch_merge(kind, self._namespace, name, body)

    async def _drop(self, name: str) -> None:
        with contextlib.suppress(ApiFailure):
            await self._cluster.delete(ENDPOINTSLICES, self._namespace, name)


def _mirrored(service: str, endpoints: Object) -> Object:
    found = []
    for subset in endpoints.get("subsets") or ():
        for key, ready in (("addresses", True), ("notReadyAddresses", False)):
            found += [
                {"addresses": [each["ip"]], "conditions": {"ready": ready, "serving": ready, "terminating": False}}
                for each in subset.get(key) or ()
            ]
    labels = {slices.SERVICE_NAME: service, slices.MANAGED_BY: MIRRORS}
    metadata = {"name": f"{service}-mirrored", "labels": labels}
    ports = [port for subset in endpoints.get("subsets") or () for port in subset["ports"]]
    return {"metadata": metadata, "addressType": "IPv4", "endpoints": found, "ports": ports}
