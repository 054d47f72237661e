"""istiod's view of endpoints: slices and pod labels in, the endpoints of each Service port out (facts/istio.md 7).

Faithful where it decides who gets plaintext: a pod's label is read when one of its slices is touched, or when it
changes while the pod is Ready; a change while it is NotReady is not heard (7.2). A slice without targetRef finds its
pod by address, among Ready pods only. An endpoint that is not ready is not sent. Whoever listens is told after every
change; the 100 ms of debounce are theirs (7.1).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from hotswitch.cluster.client import Cluster
from hotswitch.cluster.kinds import ENDPOINTSLICES, PODS, SERVICES
from hotswitch.cluster.watch import Change, Watcher
from hotswitch.model import Port
from hotswitch.sandbox.cluster import slices
from hotswitch.sandbox.cluster.slices import SERVICE_NAME, Object
from hotswitch.sandbox.registry import TLS_MODE_LABEL

DRAINING_LABEL = "istio.io/draining"
DISABLED = "disabled"
Key = tuple[str, str]


@dataclass(frozen=True, slots=True, order=True)
class Endpoint:
    """`port_name`: of the Service's port that it serves. `tls_mode`: as istiod last read it."""

    address: str
    port: Port
    port_name: str
    tls_mode: str


class Istiod:
    """`listeners` are called after every change."""

    def __init__(self, cluster: Cluster) -> None:
        self.listeners: list[Callable[[], None]] = []
        self._services = Watcher(cluster, SERVICES, dict, on_event=self._service)
        self._pods = Watcher(cluster, PODS, dict, on_event=self._pod)
        self._slices = Watcher(cluster, ENDPOINTSLICES, dict, on_event=self._slice)
        self._built: dict[Key, tuple[Endpoint, ...]] = {}  # by slice
        self._labels: dict[Key, dict[str, str]] = {}  # of pods, as last heard while they were Ready
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        watchers: tuple[Watcher[Any], ...] = (self._pods, self._services, self._slices)
        for watcher in watchers:  # pods first: a slice is read together with its pods
            self._tasks.append(asyncio.create_task(watcher.run()))
            await watcher.synced.wait()

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    # ---- what is asked of it ----

    def clusters(self) -> dict[str, tuple[Endpoint, ...]]:
        """By the cluster names that Istio's proxies subscribe to."""
        found = {}
        for (namespace, name), service in self._services.store.items():
            if service["spec"].get("clusterIP") == "None":
                continue  # its clients go by the original address
            for port in service["spec"].get("ports") or ():
                cluster = f"outbound|{port['port']}||{name}.{namespace}.svc.cluster.local"
                found[cluster] = self.endpoints(namespace, name, port.get("name", ""))
        return found

    def endpoints(self, namespace: str, service: str, port_name: str | None = None) -> tuple[Endpoint, ...]:
        """Those that are sent; of two with the same address and port one is kept, and nobody should rely on which."""
        found: dict[tuple[str, str], Endpoint] = {}
        for key, known in self._slices.store.items():
            if _service_of(known) == (namespace, service):
                for endpoint in self._built.get(key, ()):
                    if port_name is None or endpoint.port_name == port_name:
                        found[endpoint.address, endpoint.port_name] = endpoint
        return tuple(sorted(found.values()))

    # ---- what it hears ----

    def _service(self, change: Change[Any]) -> None:
        self._tell()

    def _slice(self, change: Change[Any]) -> None:
        key = _key(change.object)
        if change.type == "DELETED":
            self._built.pop(key, None)
        else:
            self._built[key] = tuple(self._read(change.object))
        self._tell()

    def _pod(self, change: Change[Any]) -> None:
        """Heard only of a Ready pod: then every Service that selects it is built anew."""
        key, pod = _key(change.object), change.object
        if change.type == "DELETED":
            self._labels.pop(key, None)
        elif slices.is_ready(pod):
            labels = pod["metadata"].get("labels") or {}
            if self._labels.get(key) != labels:
                self._labels[key] = labels
                self._rebuild(pod)

    def _rebuild(self, pod: Object) -> None:
        chosen = {key for key, service in self._services.store.items() if slices.selects(service, pod)}
        for key, known in self._slices.store.items():
            if _service_of(known) in chosen:
                self._built[key] = tuple(self._read(known))
        self._tell()

    def _tell(self) -> None:
        for listener in self.listeners:
            listener()

    # ---- how it reads ----

    def _read(self, known: Object) -> list[Endpoint]:
        found = []
        for endpoint in known.get("endpoints") or ():
            pod, held_back = self._pod_of(endpoint, known["metadata"]["namespace"])
            if held_back or (endpoint.get("conditions") or {}).get("ready") is False:
                continue
            labels: dict[str, str] = ((pod or {}).get("metadata") or {}).get("labels") or {}
            if DRAINING_LABEL in labels:
                continue
            mode = labels.get(TLS_MODE_LABEL, DISABLED)
            found += [
                Endpoint(address, port["port"], port.get("name", ""), mode)
                for address in endpoint["addresses"]
                for port in known.get("ports") or ()
            ]
        return found

    def _pod_of(self, endpoint: Object, namespace: str) -> tuple[Object | None, bool]:
        """The pod, and whether the endpoint is held back until it is known."""
        ref = endpoint.get("targetRef") or {}
        if ref.get("kind") == "Pod":
            pod = self._pods.store.get((ref.get("namespace") or namespace, ref["name"]))
            return pod, pod is None
        address = endpoint["addresses"][0]
        ready = (pod for (where, _), pod in self._pods.store.items() if where == namespace and slices.is_ready(pod))
        return next((pod for pod in ready if (pod.get("status") or {}).get("podIP") == address), None), False


def _key(obj: Object) -> Key:
    return obj["metadata"].get("namespace", ""), obj["metadata"]["name"]


def _service_of(known: Object) -> Key:
    return known["metadata"]["namespace"], (known["metadata"].get("labels") or {}).get(SERVICE_NAME, "")
