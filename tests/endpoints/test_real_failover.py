"""A real failover, judged by its history: processes killed, frozen and cut off in turn, two controllers, a client.

About half a minute; HOTSWITCH_FAILOVER_S says for how many seconds faults are made (600: ten minutes). The same over
IPv6, and with pods whose traffic a real sidecar captures, for a shorter while.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import random
import sqlite3
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator

import pytest

from hotswitch.backends import Check, CheckKind
from hotswitch.cluster.failure import ApiFailure
from hotswitch.cluster.lease import retry_s
from hotswitch.decide.endpoints.bounds import Fault, Timing, bounds
from hotswitch.sandbox.failover.client import Client, Pooled
from hotswitch.sandbox.failover.stage import Failover, until
from tests.endpoints.history import Answered, breaches, gaps
from tests.endpoints.town import story

pytestmark = [pytest.mark.netns, pytest.mark.k8s]
FAULTS_S = float(os.environ.get("HOTSWITCH_FAILOVER_S", "25"))
SHORT_S = float(os.environ.get("HOTSWITCH_FAILOVER_SHORT_S", "15"))
TTL_S, LEASE_S = 3, 3  # the activity lease, and the controllers' own
TIMING = Timing(
    check=Check(CheckKind.HTTP, period_s=0.3, timeout_s=0.3, fall=2), ttl_s=TTL_S, lease_s=LEASE_S,
    retry_s=retry_s(LEASE_S),
)  # fmt: skip
"""Of the stage: sandbox/failover/service.py, QUICK_CHECK."""
FAULTS = {
    "app_is_killed": Fault.APP,
    "app_hangs": Fault.APP,
    "sidecar_is_killed": Fault.POD,
    "pod_is_cut_off_from_controllers": Fault.POD,
    "pod_is_frozen_whole": Fault.POD,
    "keeper_is_frozen": Fault.KEEPER,
    "keeper_is_killed": Fault.KEEPER,
    "leader_is_killed": Fault.LEADER,
    "leader_is_frozen_and_wakes_as_a_deposed_one": Fault.LEADER,
    "leader_and_active_are_killed": Fault.LEADER_AND_ACTIVE,
}
STRICT = "HOTSWITCH_FAILOVER_STRICT" in os.environ  # on a machine that nothing else runs on: gaps are judged, too
FRESH, POOLED = 2, 3  # senders that look for an endpoint each time, and that stay where they were answered
WITHOUT_LEADER = (
    "leader_is_killed", "leader_and_active_are_killed", "leader_is_frozen_and_wakes_as_a_deposed_one",
    "api_server_is_away",
)  # fmt: skip
UNLED = ", perhaps before another controller led"


class Load:
    """Numbered requests, writes and reads, from several senders at once. What was not answered counts as neither done
    nor not done."""

    def __init__(self) -> None:
        self._numbers = itertools.count(1)
        self.history: list[Answered] = []
        self.unanswered = 0

    async def send(self, client: Client | Pooled, kind: str) -> None:
        n, sent_s = next(self._numbers), time.monotonic()
        try:
            answer = await client.ask(f"/{kind}?n={n}")
        except OSError:
            self.unanswered += 1
            await asyncio.sleep(0.02)
            return
        if answer.status != 200:
            self.unanswered += 1
            await asyncio.sleep(0.02)
            return
        said = answer.json()
        now_s = time.monotonic()
        self.history.append(Answered(kind, n, sent_s, now_s, said["pod"], said["generation"], said["seq"]))

    async def run(self, client: Client | Pooled) -> None:
        """A pool only reads: who writes to a deposed one is told so by the storage, and looks elsewhere; who reads from
        it stays, and hears what is no longer true, unless its network is fenced."""
        kinds = ("read",) if isinstance(client, Pooled) else ("write", "read")
        while True:
            await self.send(client, random.choice(kinds))
            await asyncio.sleep(0.01)

    async def progress(self) -> None:
        """Until two more were answered that were sent after now."""
        now_s = time.monotonic()
        await until(lambda: len([each for each in self.history[-20:] if each.sent_s > now_s]) >= 2, "requests go on")


class Faults:
    """Each is made, waited through until requests go on, and taken back."""

    def __init__(self, stage: Failover, load: Load) -> None:
        self._stage, self._load = stage, load

    async def active(self) -> str:
        with contextlib.suppress(ApiFailure):
            found = (await self._stage.election()).active
            if found is not None:
                return found.name
        return self._load.history[-1].pod if self._load.history else "db-0"

    async def app_is_killed(self) -> None:  # S0.6
        pod = self._stage.pods[await self.active()]
        await pod.app.kill()
        await self._load.progress()
        pod.app.again()

    async def app_hangs(self) -> None:
        pod = self._stage.pods[await self.active()]
        pod.app.freeze()
        await self._load.progress()
        pod.app.thaw()

    async def pod_is_frozen_whole(self) -> None:  # nobody confirms: only the lease can prove it
        pod = self._stage.pods[await self.active()]
        pod.keeper.freeze()
        pod.app.freeze()
        await self._load.progress()
        pod.app.thaw()
        await asyncio.sleep(random.uniform(0, 0.3))
        pod.keeper.thaw()

    async def keeper_is_frozen(self) -> None:
        pod = self._stage.pods[await self.active()]
        pod.keeper.freeze()
        await self._load.progress()
        await asyncio.sleep(random.uniform(0, 3))
        pod.keeper.thaw()

    async def keeper_is_killed(self) -> None:
        pod = self._stage.pods[await self.active()]
        await pod.keeper.kill()
        await self._load.progress()
        pod.keeper.again()

    async def pod_is_cut_off_from_controllers(self) -> None:  # and goes on serving clients for as long as it may
        pod = self._stage.pods[await self.active()]
        pod.cut()
        await asyncio.sleep(random.uniform(0, 3))
        await self._load.progress()
        pod.join()

    async def leader_is_killed(self) -> None:  # I6
        name = await self._leader()
        await self._stage.controllers[name].kill()
        await self._load.progress()
        self._stage.controllers[name].again()

    async def leader_and_active_are_killed(self) -> None:
        name, pod = await self._leader(), self._stage.pods[await self.active()]
        await asyncio.gather(pod.app.kill(), self._stage.controllers[name].kill())
        self._stage.controllers[name].again()
        await self._load.progress()
        pod.app.again()

    async def leader_is_frozen_and_wakes_as_a_deposed_one(self) -> None:
        name = await self._leader()
        part = self._stage.controllers[name]
        part.freeze()
        await asyncio.sleep(random.uniform(3, 6))
        await self._load.progress()
        part.thaw()

    async def api_server_is_away(self) -> None:  # leaders step down, leases run out, and it all begins anew
        await self._stage.api.stop()
        await asyncio.sleep(random.uniform(0.5, 5))
        await self._stage.api.start()
        await self._load.progress()

    async def sidecar_is_killed(self) -> None:  # and its keeper's words with it: it asks through the proxy, too
        pod = self._stage.pods[await self.active()]
        assert pod.mesh is not None
        fault = await pod.mesh.faults.kill()
        await self._load.progress()
        await fault.undo()

    async def _leader(self) -> str:
        with contextlib.suppress(ApiFailure):
            found = await self._stage.leader()
            if found in self._stage.controllers:
                return found
        return next(iter(self._stage.controllers))

    def in_turn(self) -> Iterator[Callable[[], Awaitable[None]]]:
        every = [
            self.app_is_killed, self.pod_is_cut_off_from_controllers, self.pod_is_frozen_whole, self.leader_is_killed,
            self.app_hangs, self.keeper_is_frozen, self.leader_and_active_are_killed,
            self.leader_is_frozen_and_wakes_as_a_deposed_one, self.keeper_is_killed, self.api_server_is_away,
        ]  # fmt: skip
        if any(pod.mesh for pod in self._stage.pods.values()):
            every.insert(2, self.sidecar_is_killed)
        yield from every
        while True:
            yield random.choice(every)


def stored(stage: Failover) -> list[tuple[int, int, str, int]]:
    with contextlib.closing(sqlite3.connect(stage.database)) as database:
        return list(database.execute("SELECT seq, n, pod, generation FROM entries"))


async def told(stage: Failover, load: Load) -> str:
    """What a person would want to know of a stage that stands still."""
    words = [f"last answers {load.history[-3:]}"]
    with contextlib.suppress(ApiFailure):
        found = await stage.election()
        words += [f"leader {await stage.leader()}", f"active {found.active}, fencing {found.fencing}"]
        words += [f"{past.at} {past.what} {past.sentence}" for past in found.history[-6:]]
    for name in (*stage.controllers, *stage.pods, *(f"{pod}-keeper" for pod in stage.pods)):
        words.append(f"{name}: {stage.log(name).read_text()[-600:]}")
    return "\n".join(words)


def bound_s(name: str) -> float | None:
    """None: for as long as the API server is away. After a fault of the leader another one may not lead yet."""
    fault, known = FAULTS.get(name.removesuffix(UNLED)), bounds(TIMING)
    if fault is None:
        return None
    before_s = known[Fault.LEADER_AND_ACTIVE].seconds if name.endswith(UNLED) else 0.0
    return before_s + known[fault].seconds


async def play(stage: Failover, faults_s: float) -> None:
    """Faults in turn under load, and the judgement."""
    made: list[str] = []
    times: list[tuple[str, float, float]] = []
    async with stage, stage.client() as client:
        await stage.serving(client)
        load = Load()
        faults = Faults(stage, load)
        pools = [Pooled(client) for _ in range(POOLED)]
        senders = [asyncio.create_task(load.run(each)) for each in (*[client] * FRESH, *pools)]
        try:
            end_s = time.monotonic() + faults_s
            for fault in faults.in_turn():
                if time.monotonic() > end_s:
                    break
                led = not made or made[-1] not in WITHOUT_LEADER
                made.append(fault.__name__)
                began_s = time.monotonic()
                await fault()
                await load.progress()
                times.append((fault.__name__ if led else f"{fault.__name__}{UNLED}", began_s, time.monotonic()))
        except TimeoutError as late:
            raise AssertionError(f"{late}, after {made}: {await told(stage, load)}") from late
        finally:
            for sender in senders:
                sender.cancel()
            await asyncio.gather(*senders, return_exceptions=True)
            for pool in pools:
                pool.close()
        rows = stored(stage)
        denied = stage.api.denied
    generations = {each.generation for each in load.history}
    print(f"{len(made)} faults, {len(load.history)} answered, {load.unanswered} not, {len(generations)} generations")
    counts = Counter(name for name, _, _ in times)
    for name, longest in sorted(gaps(load.history, times).items()):
        stated_s = bound_s(name)
        is_kept = stated_s is None or longest <= stated_s
        stated = "none" if stated_s is None else f"{stated_s:.2f} s"
        print(
            f"{name}: {counts[name]} times; longest gap {longest:.2f} s, bound {stated}{'' if is_kept else ', MISSED'}"
        )
        assert is_kept or not STRICT, name
    assert breaches(load.history, rows) == [], made
    assert denied == [], "the shipped rights are enough"
    assert len(made) >= 4 and len(generations) >= 3


@story
async def test_one_serves_at_a_time_whatever_is_killed_frozen_or_cut_off() -> None:  # S0.3, S0.5, S0.6, S0.7, I6, I7
    await play(Failover(pods=3, controllers=2, ttl_s=TTL_S, lease_s=LEASE_S), FAULTS_S)


@story
async def test_the_same_where_there_is_ipv6_only() -> None:  # S0.3, S0.5, S0.6, S0.7, I7
    await play(Failover(pods=3, controllers=2, ttl_s=TTL_S, lease_s=LEASE_S, family="IPv6"), SHORT_S)


@pytest.mark.envoy
@story
async def test_the_same_with_sidecars_that_capture_everything() -> None:  # S0.3, S0.5, S0.6, S0.7, I7
    stage = Failover(pods=3, controllers=2, ttl_s=TTL_S, lease_s=LEASE_S, mesh=True)
    await play(stage, SHORT_S)
