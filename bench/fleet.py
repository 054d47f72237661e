"""The same small mesh once for every actor, on one network: a Service of one replica, one of two, and what they call.

A trial makes a fault in an actor's pods while clients go on asking, and tells what became of every request. Pods have
IPv4 only. One actor's trial runs at a time: they would take each other's cores.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from bench.actors import ACTORS, Actor, actor
from bench.settings import PREFIX, READY_S
from hotswitch.sandbox.clients import Client, LoadRun, MeshedClient
from hotswitch.sandbox.faults import Fault, Faults
from hotswitch.sandbox.kubelet import Timings
from hotswitch.sandbox.outcome import Results, Summary
from hotswitch.sandbox.pod import Pod
from hotswitch.sandbox.registry import Publish, Service
from hotswitch.sandbox.sandbox import Sandbox

BACKOFF_SCALE = 0.2
"""Of the kubelet's back-off between restarts (10 s, 20 s, ...): the first restart comes at once, as it really does."""
TIMEOUT_S = 1.0
REST_TIMEOUT_S = 60.0
POLL_S = 0.05
PLAIN, MESHED, OUTBOUND = "plain", "meshed", "outbound"
Hire = Callable[[Sandbox, Sequence[Pod]], Actor]


class BenchFailed(RuntimeError):
    """Something could not be measured; the message is a sentence."""


@dataclass(frozen=True, slots=True)
class Stream:
    """One flow of requests, each on a new connection. `client` OUTBOUND: from the app of the single replica to a
    server outside the mesh. `rate` in requests/s."""

    client: str
    replicas: int
    rate: float

    def __str__(self) -> str:
        if self.client == OUTBOUND:
            return f"outbound from the app, {self.rate:g}/s"
        return f"{self.client}, {self.replicas} {'replica' if self.replicas == 1 else 'replicas'}, {self.rate:g}/s"

    def times(self, factor: float) -> Stream:
        return replace(self, rate=self.rate * factor)


@dataclass(frozen=True, slots=True)
class Trial:
    """`make`: the fault. The load goes on `before_s` and then `after_s`; what is not over then is called "at least"."""

    fault: str
    make: Callable[[Faults], Awaitable[Fault]]
    streams: tuple[Stream, ...]
    after_s: float
    before_s: float = 0.8


@dataclass(frozen=True, slots=True)
class Outcome:
    """Of one stream in one trial. `opened_ms`: from the fault to the opened way; None where nobody opened it.
    `under_way`: of those lost, how many were in the proxy, or on their way, at the fault: nobody can save them.
    `before`: failed requests before the fault: if there are any, the machine did not carry the load."""

    summary: Summary
    opened_ms: float | None
    under_way: int
    before: int


class World:
    """One actor's pods, Services and self."""

    def __init__(self, name: str, replicas: dict[int, tuple[Pod, ...]], keeper: Actor) -> None:
        self.name, self.replicas, self.keeper = name, replicas, keeper
        self.services: dict[int, Service] = {}

    @property
    def pods(self) -> list[Pod]:
        return [pod for group in self.replicas.values() for pod in group]

    def victim(self, stream: Stream) -> Pod:
        """The pod that the fault is made in: the only one, or one of two."""
        return self.replicas[stream.replicas][0]

    async def rest(self) -> None:
        """Wait until all is as at the start. Raises BenchFailed."""
        try:
            async with asyncio.timeout(REST_TIMEOUT_S):
                while await self._restless():
                    await asyncio.sleep(POLL_S)
        except TimeoutError:
            late = "; ".join(await self._restless())
            raise BenchFailed(f"{self.name}: not as at the start after {REST_TIMEOUT_S:g} s: {late}") from None
        for pod in self.pods:
            pod.proxy.hurry()  # the next crash is a first one again

    async def _restless(self) -> list[str]:
        ill = [f"{pod.name} is not Ready" for pod in self.pods if not pod.is_ready or pod.envoy_pid is None]
        return ill + await self.keeper.restless()


class Fleet:
    """Made by `open_fleet`. `plain`, `meshed`: the clients, which all worlds share."""

    def __init__(self, box: Sandbox) -> None:
        self.box = box
        self.worlds: dict[str, World] = {}

    async def build(self, hires: Mapping[str, Hire], replicas: Sequence[int]) -> None:
        outside = await self.box.pod("outside", sidecar=False, families=("v4",))
        self._outside = (outside.ip, 8080)
        self.plain: Client = await self.box.client("plain")
        self.meshed: MeshedClient = await self.box.meshed("meshed")
        for name, hire in hires.items():
            self.worlds[name] = await self._world(name, hire, replicas)

    async def _world(self, name: str, hire: Hire, replicas: Sequence[int]) -> World:
        timings = Timings(scale=BACKOFF_SCALE)
        groups = {count: [f"{name}-{count}-{index}" for index in range(count)] for count in replicas}
        pods = {
            count: tuple([await self.box.pod(each, families=("v4",), timings=timings) for each in group])
            for count, group in groups.items()
        }
        await asyncio.gather(*(pod.ready(READY_S) for group in pods.values() for pod in group))
        world = World(name, pods, hire(self.box, [pod for group in pods.values() for pod in group]))
        await world.keeper.start()
        for count, group in pods.items():
            world.services[count] = await self.box.service(
                f"{name}-{count}", group, publish=Publish.ADOPTED, serves=world.keeper.serves
            )
        return world

    async def close(self) -> None:
        await asyncio.gather(*(world.keeper.stop() for world in self.worlds.values()))

    # ---- trials ----

    async def try_out(self, world: World, trial: Trial) -> dict[Stream, Outcome]:
        """One trial. Raises BenchFailed when the world does not come back to rest."""
        runs = {stream: self._load(world, stream, trial) for stream in trial.streams}
        await asyncio.gather(*(run.begun() for run in runs.values()))
        await asyncio.sleep(trial.before_s)
        victims = {world.victim(stream).name: world.victim(stream) for stream in trial.streams}
        made = await asyncio.gather(*(trial.make(pod.faults) for pod in victims.values()))
        faults = dict(zip(victims, made, strict=True))
        results = dict(zip(runs, await asyncio.gather(*(run.results() for run in runs.values())), strict=True))
        outcomes = {
            stream: _outcome(world, world.victim(stream), faults[world.victim(stream).name], result)
            for stream, result in results.items()
        }
        await asyncio.gather(*(fault.undo() for fault in made))
        await world.rest()
        return outcomes

    def _load(self, world: World, stream: Stream, trial: Trial) -> LoadRun:
        more: dict[str, Any] = {"rate": stream.rate, "seconds": trial.before_s + trial.after_s, "timeout_s": TIMEOUT_S}
        if stream.client == OUTBOUND:
            return self.plain.load(self._outside, netns=world.victim(stream).netns, **more)
        client = self.meshed if stream.client == MESHED else self.plain
        return client.load(world.services[stream.replicas], **more)


def _outcome(world: World, victim: Pod, fault: Fault, result: Results) -> Outcome:
    opened_s = world.keeper.opened_s(victim.name, fault.at_s)
    earlier = [row for row in result.rows if row.end_s < fault.at_s]
    begun = [row for row in result.since(fault.at_s).rows if row.start_s < fault.at_s]
    return Outcome(
        summary=result.since(fault.at_s).summary(fault.at_s),
        opened_ms=None if opened_s is None else (opened_s - fault.at_s) * 1000,
        under_way=sum(not row.kind.ok for row in begun),
        before=sum(not row.kind.ok for row in earlier),
    )


EVERYBODY: Mapping[str, Hire] = {name: partial(actor, name) for name in ACTORS}


@asynccontextmanager
async def open_fleet(hires: Mapping[str, Hire] = EVERYBODY, replicas: Sequence[int] = (1, 2)) -> AsyncIterator[Fleet]:
    """All worlds, running and at rest; removed at the end, the actors first. Raises TimeoutError, ActorFailed."""
    async with Sandbox(prefix=PREFIX) as box:
        fleet = Fleet(box)
        try:
            await fleet.build(hires, replicas)
            yield fleet
        finally:
            await asyncio.shield(fleet.close())
