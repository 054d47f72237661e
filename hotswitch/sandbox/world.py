"""One of the demo's two worlds: Services of one and of two replicas, a plain and a meshed client, maybe hotswitch.

Both worlds are made the same way, on a network each; the only difference is the agent, and who keeps the endpoints.
Without hotswitch a NotReady pod leaves its Service, as kubelet and istiod have it. With hotswitch a pod whose inbound
gate is open stays in: the registry's "adopted" stands for what the endpoint part of hotswitch does.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator

from hotswitch.capture.inspect import inspect
from hotswitch.capture.inspection import Inspection
from hotswitch.sandbox.clients import LoadRun
from hotswitch.sandbox.estate import process_state
from hotswitch.sandbox.kubelet import Timings
from hotswitch.sandbox.outcome import Row
from hotswitch.sandbox.pod import Pod
from hotswitch.sandbox.protector import Protector
from hotswitch.sandbox.registry import Publish, Service
from hotswitch.sandbox.sandbox import Sandbox
from hotswitch.sandbox.score import STREAMS, WITH, Stream
from hotswitch.sandbox.together import together
from hotswitch.sandbox.walk import BACKOFF_SCALE

PREFIX = "hd-"
REPLICAS = {1: ("one-0",), 2: ("two-0", "two-1")}
HIT = ("one-0", "two-0")
"""The pods that faults are made in: all of the Service of one replica, half of the Service of two."""
RATE = 40.0
"""Requests/s of each of four streams in each world: together less than half of two cores (Envoys, apps, load)."""
TIMEOUT_S = 1.0
LOAD_AT_MOST_S = 3600.0
READY_TIMEOUT_S = 60.0


class World:
    """Made by `open_world`."""

    def __init__(self, name: str, box: Sandbox) -> None:
        self.name, self.box = name, box
        self.protector: Protector | None = None
        self.services: dict[int, Service] = {}
        self.runs: dict[Stream, LoadRun] = {}
        self.unready: dict[str, list[tuple[float, bool]]] = {}
        """By pod: (instant, is it NotReady), in order of time."""
        self._rules: dict[str, str] = {}

    @property
    def pods(self) -> dict[str, Pod]:
        return self.box.pods

    @property
    def hit(self) -> list[Pod]:
        return [self.pods[name] for name in HIT]

    # ---- making it ----

    async def build(self) -> None:
        timings = Timings(scale=BACKOFF_SCALE)
        names = [name for group in REPLICAS.values() for name in group]
        await together(*(self.box.pod(name, families=("v4",), timings=timings) for name in names))
        plain = await self.box.client("plain")
        meshed = await self.box.meshed("meshed")
        await asyncio.gather(*(pod.ready(READY_TIMEOUT_S) for pod in self.pods.values()))
        self._rules = {name: self.inspect(name).fingerprint for name in self.pods}
        await self._protect()
        for replicas, group in REPLICAS.items():
            self.services[replicas] = await self._service(f"web-{replicas}", [self.pods[name] for name in group])
        self._watch_readiness()
        clients = {"plain": plain, "meshed": meshed}
        for stream in STREAMS:
            service = self.services[stream.replicas]
            self.runs[stream] = clients[stream.client].load(
                service, rate=RATE, seconds=LOAD_AT_MOST_S, timeout_s=TIMEOUT_S
            )

    async def _protect(self) -> None:
        if self.name == WITH:
            self.protector = Protector(self.box, list(self.pods.values()))
            await self.protector.start()

    async def _service(self, name: str, pods: list[Pod]) -> Service:
        if self.protector is None:
            return await self.box.service(name, pods)
        return await self.box.service(name, pods, publish=Publish.ADOPTED, serves=self.protector.serves)

    def _watch_readiness(self) -> None:
        for pod in self.pods.values():
            self.unready[pod.name] = [(time.monotonic(), not pod.is_ready)]
            pod.kubelet.on_change.append(lambda pod=pod: self._note_readiness(pod))  # type: ignore[misc]

    def _note_readiness(self, pod: Pod) -> None:
        known = self.unready[pod.name]
        if known[-1][1] is pod.is_ready:
            known.append((time.monotonic(), not pod.is_ready))

    # ---- looking at it ----

    @property
    def flows(self) -> bool:
        """Has every stream been served already?"""
        return all(run.totals.get("via_proxy", 0) > 0 for run in self.runs.values())

    @property
    def recovered(self) -> bool:
        return not self.not_recovered()

    def not_recovered(self) -> list[str]:
        """Sentences on pods that are not Ready with a living proxy, or not yet put back by hotswitch."""
        ill = [pod.name for pod in self.pods.values() if not pod.is_ready or pod.envoy_pid is None]
        found = [f"{pod} ({self.name}) is not Ready" for pod in ill]
        return found + (self.protector.unrest() if self.protector else [])

    def inspect(self, pod: str) -> Inspection:
        """The kernel's own word on a pod's rules."""
        return inspect(self.pods[pod].netns, self.pods[pod].spec.capture())

    def changed_rules(self) -> list[str]:
        """Sentences on pods whose gate is open, or whose rules of Istio are not what they were at the start."""
        found = []
        for name, before in self._rules.items():
            now = self.inspect(name)
            found += [f"{name}: the gate is open"] if now.openings else []
            found += [f"{name}: Istio's rules are not what they were"] if now.fingerprint != before else []
        return found

    def proxy_state(self, pod: Pod) -> str:
        """What Envoy's process is, whoever knows it."""
        pid = pod.envoy_pid
        with contextlib.suppress(ProcessLookupError):
            if pid is not None:
                return "stopped" if process_state(pid) in "Tt" else "runs"
        return "dead"

    async def end_load(self) -> dict[Stream, tuple[Row, ...]]:
        for run in self.runs.values():
            run.stop()
        results = await asyncio.gather(*(run.results() for run in self.runs.values()))
        return {stream: result.rows for stream, result in zip(self.runs, results, strict=True)}


@contextlib.asynccontextmanager
async def open_world(name: str) -> AsyncIterator[World]:
    """An empty world, to be built; removed at the end. The agent goes first: what ends then is no fault."""
    async with Sandbox(prefix=PREFIX) as box:
        world = World(name, box)
        try:
            yield world
        finally:
            if world.protector is not None:
                await asyncio.shield(world.protector.stop())
