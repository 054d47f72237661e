"""From the fault of the active one to the first request that the next one answers: the whole way, as clients see it.

The app is killed or stopped under real clients. hotswitch asks, finds out, fences, promotes, publishes; Envoy (EDS,
ADS), proxyless gRPC and a reader of EndpointSlices follow, beside one that asks for slices each second (S0.6, S0.7). In
the same run replicas of another app elect by a Lease alone, as client-go does by default, and a client follows that.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import sys
import time
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial

from bench.figures import Figure, Goal, Row, Sample, Table, find, number, ratio
from bench.settings import PREFIX, Settings
from bench.trials import Say
from hotswitch.api import service as said
from hotswitch.cluster.kinds import SERVICES
from hotswitch.sandbox.failover.part import Part
from hotswitch.sandbox.failover.service import DB, SERVICE, SHOP
from hotswitch.sandbox.failover.stage import Failover
from hotswitch.sandbox.followers import Follower, Followers
from hotswitch.sandbox.process import start
from hotswitch.sandbox.register import GRPC_PORT, PORT
from hotswitch.sandbox.xds_client import XdsClientSpec

NAMES = ("failover",)
WHAT = "fault to first answer"
ENVOY, DELTA, GRPC = "Envoy, EDS", "Envoy, delta ADS", "gRPC, xds:///"
SLICES, POLL = "EndpointSlices, watched", "EndpointSlices, asked for each second"
LEASE = "a Lease alone, client-go defaults"
FOLLOWERS = (ENVOY, DELTA, GRPC, SLICES, POLL)
KILL, HANG = "kill -9", "hang (SIGSTOP)"
DEFAULTS, QUICK = "checks as by default", "checks each 100 ms"
CHECKS = {
    DEFAULTS: {said.CHECK_PERIOD: None, said.CHECK_TIMEOUT: None, said.CHECK_FALL: None},
    QUICK: {said.CHECK_PERIOD: "100ms", said.CHECK_TIMEOUT: "100ms", said.CHECK_FALL: "2"},
}
LISTEN, REPLICAS, LEASE_NAME = 7000, 3, "lease-only"
TIMES = 10  # sooner than Lease-only, at least
Measured = dict[tuple[str, str], list[float]]


async def run(names: Collection[str], settings: Settings, say: Say) -> AsyncIterator[Row]:
    row = Row("failover", "from the fault of the active one to the first answer of the next")
    ours, theirs = (4, 1) if settings.quick else (12, 4)
    async with contextlib.AsyncExitStack() as stack:
        stage = await stack.enter_async_context(
            Failover(pods=REPLICAS, controllers=1, ttl_s=5, lease_s=15, grpc=True, words={}, prefix=PREFIX)
        )
        clients = Followers(stage.estate, stage.network)
        stack.push_async_callback(clients.close)
        lease = await stack.enter_async_context(_lease_only(stage, clients))
        followers = await _followers(stage, clients, stack)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(_faults_of_theirs(lease, theirs, row, say))
            tasks.create_task(_faults_of_ours(stage, followers, ours, row, say))
    row.tables.append(_table(row.figures))
    row.goals += _goals(row.figures)
    row.remarks.append(
        "the slice readers lead each new connection to the newest endpoint at once; kube-proxy may wait 1 s more when "
        "rules were written just before (minSyncPeriod)"
    )
    row.remarks.append("the client of the Lease watches the Lease itself: no slice and no readiness is waited for")
    yield row


# ---- hotswitch ----


async def _followers(stage: Failover, clients: Followers, stack: contextlib.AsyncExitStack) -> dict[str, Follower]:
    server, *more = stage.xds
    found = {}
    for who, name, ads in ((ENVOY, "envoy-eds", False), (DELTA, "envoy-delta", True)):
        listen = {LISTEN: f"db.shop:{PORT}"}
        spec = XdsClientSpec(name, server, {"node": name}, incremental=ads, listen=listen, more=tuple(more))
        found[who] = clients.http(await clients.envoy(spec, ads=ads), LISTEN, "0.005")
    spec = XdsClientSpec("grpc", server, {"node": "grpc"}, more=tuple(more))
    found[GRPC] = await clients.grpc(spec, f"xds:///db.shop:{GRPC_PORT}", 0.005)
    kubeconfig = str(stage.api.kubeconfig("admin", ("system:masters",)))
    for who, kind in ((SLICES, "slices"), (POLL, "poll")):
        place = await stage.network.attach(kind)
        await stage.reach_api(place, stack)
        found[who] = clients.api(place, kind, kubeconfig, str(DB))
    return found


async def _faults_of_ours(
    stage: Failover, followers: Mapping[str, Follower], rounds: int, row: Row, say: Say
) -> None:  # fmt: skip
    for checks, words in CHECKS.items():
        await stage.cluster.patch_merge(SERVICES, SHOP, SERVICE, {"metadata": {"annotations": words}})
        took: Measured = {}
        for turn in range(2 * rounds):
            active = await _active(stage)
            await asyncio.gather(*(each.answered_by(active, times=5) for each in followers.values()))
            await asyncio.sleep(random.uniform(1.5, 2.5))  # the others are asked, and found well
            await _fault(stage, followers, (KILL, HANG)[turn % 2], took)
        _note(row, took, checks, say)


async def _active(stage: Failover) -> str:
    found = (await stage.election()).active
    return found.name if found is not None else ""


async def _fault(stage: Failover, followers: Mapping[str, Follower], kind: str, took: Measured) -> None:
    known = await stage.election()
    part = stage.pods[await _active(stage)].app
    marks = {who: each.mark() for who, each in followers.items()}
    at_s = _make(part, kind)
    for who, each in followers.items():
        first = await each.newer(known.generation, marks[who])
        took.setdefault((kind, who), []).append(1e3 * (first.end_s - at_s))
    await _mend(part)


def _make(part: Part, kind: str) -> float:
    """When."""
    at_s = time.monotonic()
    if kind == KILL:
        part.process.signal(9)
    else:
        part.freeze()
    return at_s


async def _mend(part: Part) -> None:
    """Another one in its place, as a kubelet would start it: also after a hang."""
    await part.kill()
    part.again()


# ---- by a Lease alone ----


@asynccontextmanager
async def _lease_only(stage: Failover, clients: Followers) -> AsyncIterator[tuple[dict[str, Part], Follower]]:
    kubeconfig = str(stage.api.kubeconfig("admin", ("system:masters",)))
    async with contextlib.AsyncExitStack() as stack:
        parts, places = {}, []
        for turn in range(REPLICAS):
            name = f"lease-{turn}"
            place = await stage.network.attach(name)
            await stage.reach_api(place, stack)
            argv = (sys.executable, "-m", "bench.lease_only", kubeconfig, f"{SHOP}/{LEASE_NAME}", name)
            part = parts[name] = Part(partial(start, stage.estate, argv, log=stage.log(name), netns=place.netns))
            stack.push_async_callback(part.kill)
            places.append(f"{name}={place.ipv4}:{PORT}")
        place = await stage.network.attach("lease-client")
        await stage.reach_api(place, stack)
        yield parts, clients.api(place, "lease", kubeconfig, f"{SHOP}/{LEASE_NAME}", *places)


async def _faults_of_theirs(lease: tuple[dict[str, Part], Follower], rounds: int, row: Row, say: Say) -> None:
    parts, follower = lease
    took: Measured = {}
    for turn in range(2 * rounds):
        await follower.until(lambda asked: asked and asked[-1].who, "the holder to answer")
        await asyncio.sleep(random.uniform(2.0, 6.5))  # others have seen it renew; not in step with that
        now, mark, kind = follower.asked[-1], follower.mark(), (KILL, HANG)[turn % 2]
        at_s = _make(parts[now.who], kind)
        first = await follower.newer(now.generation, mark)
        took.setdefault((kind, LEASE), []).append(1e3 * (first.end_s - at_s))
        await _mend(parts[now.who])
    _note(row, took, DEFAULTS, say)


# ---- what came of it ----


def _case(kind: str, checks: str) -> str:
    return f"{kind}, {checks}"


def _note(row: Row, took: Measured, checks: str, say: Say) -> None:
    for (kind, who), values in took.items():
        row.figures.append(Figure(WHAT, _case(kind, checks), who, "ms", Sample.of(values)))
        say(f"{who}: {_case(kind, checks)}: {row.figures[-1].sample} ms")


def _table(figures: Sequence[Figure]) -> Table:
    head = ("client", *(f"{kind}, {checks}, ms" for checks in CHECKS for kind in (KILL, HANG)), "times, default checks")
    lines = []
    for who in (*FOLLOWERS, LEASE):
        samples = [find(figures, WHAT, who, _case(kind, checks)) for checks in CHECKS for kind in (KILL, HANG)]
        slow = find(figures, WHAT, LEASE, _case(KILL, DEFAULTS))
        lines.append((who, *map(str, samples), "-" if who == LEASE else ratio(slow, samples[0])))
    return Table(head, tuple(lines))


def _goals(figures: Sequence[Figure]) -> list[Goal]:
    slow = find(figures, WHAT, LEASE, _case(KILL, DEFAULTS))
    found = []
    for who in (ENVOY, DELTA, GRPC, SLICES):
        for checks in CHECKS:
            sample = find(figures, WHAT, who, _case(KILL, checks))
            text = f"{who}, {checks}: {TIMES} times sooner than by a Lease alone"
            met = sample.median * TIMES < slow.median if sample.values and slow.values else None
            found.append(Goal(text, f"{number(slow.median)} ms", f"{number(sample.median)} ms", met))
    return found
