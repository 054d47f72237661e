"""One sandbox pod and its object in the API, kept alike by one worker, as the kubelet does it.

From the pod to the API: its status, after every change of a container (conditions of others are left alone). From the
API to the pod: ephemeral containers to start, a deletion to carry out (facts/kubernetes.md 6d, e, h; S4.2a). Writes are
bound to the object's uid: a pod of the same name that came later is another one's.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import time
from collections.abc import Awaitable, Callable
from typing import Any

from hotswitch.cluster.client import Cluster
from hotswitch.cluster.failure import ApiFailure
from hotswitch.cluster.kinds import PODS
from hotswitch.sandbox.cluster import status
from hotswitch.sandbox.cluster.ephemeral import Ephemeral
from hotswitch.sandbox.cluster.launch import Place, container_of
from hotswitch.sandbox.cluster.manifest import INIT, Manifest
from hotswitch.sandbox.cluster.status import Identity, Status
from hotswitch.sandbox.pod import Pod

RETRY_S = 0.2
LAST_WORD_S = 2.0  # how long the status of a pod that has ended is tried to be written


class Published:
    """`manifest`: the object as the API showed it last. `removed` is awaited when the pod has ended for good."""

    def __init__(
        self, cluster: Cluster, pod: Pod, manifest: Manifest, host: str, removed: Callable[[Pod], Awaitable[None]]
    ) -> None:
        self.pod, self.manifest = pod, manifest
        self.ephemeral: dict[str, Ephemeral] = {}
        self.gone = asyncio.Event()
        self._cluster, self._host, self._removed = cluster, host, removed
        self._wake = asyncio.Event()
        self._began_s = time.monotonic()
        self._sent: Status = {}
        self._run = secrets.token_hex(12)
        self._held = False  # a status that the kubelet keeps back
        self._failure: tuple[str, str] | None = None  # status.reason and message of a pod that was ended from within
        self._tasks: set[asyncio.Task[Any]] = set()
        pod.kubelet.on_change.append(self._wake.set)
        self._wake.set()

    @property
    def uid(self) -> str:
        return str(self.manifest["metadata"]["uid"])

    @property
    def key(self) -> tuple[str, str]:
        return self.pod.namespace, self.pod.name

    # ---- from the API ----

    def seen(self, manifest: Manifest) -> None:
        """The API shows a new version."""
        if manifest["metadata"]["uid"] != self.uid:
            return
        self.manifest = manifest
        for container in manifest["spec"].get("ephemeralContainers") or ():
            self._start(container)
        if manifest["metadata"].get("deletionTimestamp") and not self.pod.kubelet.terminating:
            self._begin(self._delete(manifest["metadata"].get("deletionGracePeriodSeconds") or 0))
        self._wake.set()

    def _start(self, container: Manifest) -> None:
        name = container["name"]
        if name in self.ephemeral or self.pod.kubelet.terminating:
            return
        place = Place(self.pod, self.manifest, container)
        self.ephemeral[name] = Ephemeral(place, self._identity(container), self._wake.set)
        self.ephemeral[name].launch()
        self._begin(self.ephemeral[name].watch())

    def _begin(self, work: Any) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def vanished(self, manifest: Manifest) -> None:
        """Its object is gone, by force or because we were the last to wait for it."""
        if manifest["metadata"]["uid"] == self.uid and not self.pod.kubelet.terminating:
            self._begin(self._delete(0.0))

    async def _delete(self, grace_s: float) -> None:
        await self._end(grace_s)
        with contextlib.suppress(ApiFailure, TimeoutError):
            async with asyncio.timeout(LAST_WORD_S):
                await self._write()
        with contextlib.suppress(ApiFailure):
            await self._forget()
        await self._removed(self.pod)
        self.gone.set()

    async def _end(self, grace_s: float) -> None:
        others = (each.stop(grace_s) for each in self.ephemeral.values())
        await asyncio.gather(self.pod.kubelet.terminate(grace_s), *others)

    async def _forget(self) -> None:
        body = {"gracePeriodSeconds": 0, "preconditions": {"uid": self.uid}}
        await self._cluster.request("DELETE", PODS.path(*self.key), None, body)

    async def evict(self, reason: str = "Evicted", message: str = "The node was low on resource: memory.") -> None:
        """Ended by the kubelet: no deletionTimestamp, and no word in the status before it is over."""
        self._held = True
        await self._end(float(self.manifest["spec"].get("terminationGracePeriodSeconds", 30)))
        self._held, self._failure = False, (reason, message)
        self._wake.set()

    async def stop(self) -> None:
        """The sandbox ends; the object stays as it is."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.gather(*(each.stop(0.0) for each in self.ephemeral.values()))

    # ---- to the API ----

    async def run(self) -> None:
        """Until the pod is gone."""
        while not self.gone.is_set():
            await self._wake.wait()
            self._wake.clear()
            if not self._held:
                await self._write()

    async def _write(self) -> None:
        """The status as it is now, unless it was sent already. Tried again until the API takes it."""
        while (fresh := self.status()) != self._sent and not self.gone.is_set():
            known = (self.manifest.get("status") or {}).get("conditions") or ()
            now = status.stamp(time.monotonic())
            dated = {**fresh, "conditions": status.dated(fresh["conditions"], known, now)}
            patch = {"metadata": {"uid": self.uid}, "status": dated}
            try:
                self.manifest = await self._cluster.patch_strategic(PODS, *self.key, patch, "status")
                self._sent = fresh
            except ApiFailure as failure:
                if failure.is_missing or failure.is_conflict:  # no such pod, or another one of the name
                    return
                await asyncio.sleep(RETRY_S)

    def status(self) -> Status:
        spec = self.manifest["spec"]
        sidecars = [each for each in spec.get("initContainers") or () if each.get("restartPolicy") == "Always"]
        kept = [self._status_of(each) for each in spec["containers"]]
        natives = [self._status_of(each) for each in sidecars]
        phase = self._phase()
        told: Status = {
            "phase": phase,
            "conditions": status.conditions([*natives, *kept], phase, self._gates(), phase != "Pending"),
            "containerStatuses": kept,
            "hostIP": self._host,
            "hostIPs": [{"ip": self._host}],
            "podIP": self.pod.ip,
            "podIPs": [{"ip": address} for address in self.pod.addresses],
            "startTime": status.stamp(self._began_s),
            "qosClass": "BestEffort",
        }
        told |= {"initContainerStatuses": self._inits(natives)} if spec.get("initContainers") else {}
        told |= {"ephemeralContainerStatuses": [each.status() for each in self.ephemeral.values()]}
        if self._failure:
            told |= dict(zip(("reason", "message"), self._failure, strict=True))
        return told

    def _phase(self) -> str:
        if self._failure:
            return "Failed"
        kubelet = self.pod.kubelet
        every = list(kubelet.containers.values())
        ordinary = [each for each in every if not each.spec.sidecar]
        all_ended = all(not each.status.running and not each.status.waiting for each in every)
        return status.phase(ordinary, going_on=kubelet.ordinary_running, all_ended=all_ended)

    def _inits(self, natives: list[Status]) -> list[Status]:
        inits = self.manifest["spec"]["initContainers"]
        done = [status.init_done(self._identity(each), self._began_s) for each in inits if each["name"] == INIT]
        return [*done, *natives]

    def _status_of(self, container: Manifest) -> Status:
        return status.container_status(self._identity(container), self.pod.kubelet.containers.get(container["name"]))

    def _identity(self, container: Manifest) -> Identity:
        pod = f"{self.pod.name}_{self.pod.namespace}({self.uid})"
        return Identity(container["name"], container["image"], pod, self._run)

    def _gates(self) -> dict[str, bool]:
        met = {
            each["type"]: each.get("status") == "True"
            for each in (self.manifest.get("status") or {}).get("conditions") or ()
        }
        gates = self.manifest["spec"].get("readinessGates") or ()
        return {gate["conditionType"]: met.get(gate["conditionType"], False) for gate in gates}

    # ---- for those who ask the node ----

    def place(self, container: str) -> Place | None:
        found = container_of(self.manifest, container)
        return None if found is None else Place(self.pod, self.manifest, found)

    def pid_of(self, container: str) -> int | None:
        """Of the container's first process; None while it does not run."""
        if container in self.ephemeral:
            process = self.ephemeral[container].process
        else:
            kept = self.pod.kubelet.containers.get(container)
            process = kept.process if kept is not None and kept.status.running else None
        return process.pid if process is not None and process.running else None
