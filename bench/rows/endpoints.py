"""What telling clients of a switch costs: Envoy and gRPC over xDS beside a client that asks each second (S0.7, S2.5).

Server, clients, backends and subscribers are processes of their own. A switch is counted from the moment at which the
server is told, to the first answer of the new one; how long it takes to know of a fault and to fence the old one is not
in it: that is row failover.
"""

from __future__ import annotations

import asyncio
import random
import sys
from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.figures import Figure, Goal, Row, Sample, Table, find, number, ratio
from bench.fleet import BenchFailed
from bench.settings import PREFIX, READY_S, Settings
from bench.trials import Say
from hotswitch.sandbox.eds_service import GRPC_NAME, HTTP_NAME
from hotswitch.sandbox.followers import Follower, Followers
from hotswitch.sandbox.pod import Pod
from hotswitch.sandbox.sandbox import Sandbox
from hotswitch.sandbox.xds_client import XdsClientSpec

NAMES = ("endpoints",)
PORT, LISTEN = 18000, 7000
SWITCH, UPDATE, ANSWER, FAN_OUT, MEMORY = "switch", "update", "answer", "fan-out", "memory"
ENVOY, DELTA, GRPC, POLLER = "Envoy, EDS", "Envoy, delta ADS", "gRPC, xds:///", "asks each second"
CASE, FAILED, OURS = "a switch", "failed", "hotswitch"
STREAMS, ENDPOINTS, REGISTERED = 300, 1000, 10_000
PATIENCE_S = 60.0


async def run(names: Collection[str], settings: Settings, say: Say) -> AsyncIterator[Row]:
    row = Row("endpoints", "telling clients over xDS who serves")
    rounds = 10 if settings.quick else 30
    async with Sandbox(prefix=PREFIX) as box:
        pods = [await box.pod(f"db-{each}", sidecar=False, interception="NONE", grpc=True) for each in range(2)]
        async with asyncio.timeout(READY_S):
            await asyncio.gather(*(pod.ready() for pod in pods))
        node = box.network.node
        async with _plane(node.name, f"{node.ipv4}:{PORT}") as plane:
            row.figures += await _costs(plane, say)  # memory first: what was freed before is used again
            row.figures += await _switches(box, plane, pods, rounds, say)
            row.figures += await _fan_out(node.name, f"{node.ipv4}:{PORT}", plane, rounds, say)
    row.tables += [_switch_table(row.figures), _cost_table(row.figures)]
    row.goals += _goals(row.figures)
    yield row


@dataclass(frozen=True, slots=True)
class Plane:
    process: asyncio.subprocess.Process

    async def tell(self, words: str) -> list[float]:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{words}\n".encode())
        return [float(each) for each in (await _line(self.process)).split()]


@asynccontextmanager
async def _plane(netns: str, address: str) -> AsyncIterator[Plane]:
    async with _inside(netns, "bench.xdsplane", address) as found:
        if await _line(found) != "ready":
            raise BenchFailed("the xDS server did not start")
        yield Plane(found)


@asynccontextmanager
async def _inside(netns: str, module: str, *words: str) -> AsyncIterator[asyncio.subprocess.Process]:
    child = await asyncio.create_subprocess_exec(
        "ip", "netns", "exec", netns, sys.executable, "-m", module, *words,
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    try:
        yield child
    finally:
        if child.returncode is None:
            child.kill()
        await child.wait()


async def _line(child: asyncio.subprocess.Process) -> str:
    assert child.stdout is not None
    line = await asyncio.wait_for(child.stdout.readline(), PATIENCE_S)
    if not line:
        raise BenchFailed("a process of the bench has ended")
    return line.decode().strip()


# ---- switches ----


async def _clients(box: Sandbox, clients: Followers, addresses: Path) -> dict[str, Follower]:
    server = (box.network.node.ipv4, PORT)
    found = {}
    for who, name, ads in ((ENVOY, "envoy-eds", False), (DELTA, "envoy-delta", True)):
        spec = XdsClientSpec(name, server, {"node": name}, incremental=ads, listen={LISTEN: HTTP_NAME})
        found[who] = clients.http(await clients.envoy(spec, ads=ads), LISTEN)
    found[GRPC] = await clients.grpc(XdsClientSpec("grpc", server, {"node": "grpc"}), f"xds:///{GRPC_NAME}")
    place = await box.network.attach("poller")
    found[POLLER] = clients.start(place.netns, "follow", ("poll", str(addresses)))
    return found


async def _switches(box: Sandbox, plane: Plane, pods: list[Pod], rounds: int, say: Say) -> list[Figure]:
    clients = Followers(box.estate, box.network)
    try:
        return await _switched(box, clients, plane, pods, rounds, say)
    finally:
        await clients.close()


async def _switched(
    box: Sandbox, clients: Followers, plane: Plane, pods: list[Pod], rounds: int, say: Say
) -> list[Figure]:
    addresses = box.estate.directory / "active"

    async def switch(new: int) -> float:
        addresses.write_text(f"{pods[new].ip}:8080")
        (began_ns,) = await plane.tell(f"publish db-{new}={pods[new].ip}")
        return began_ns / 1e9

    await switch(0)
    followers = await _clients(box, clients, addresses)
    await asyncio.gather(*(each.answered_by("db-0") for each in followers.values()))
    begun = {who: each.mark() for who, each in followers.items()}
    told: dict[str, list[float]] = {who: [] for who in followers}
    for turn in range(rounds):
        await asyncio.sleep(random.uniform(0.1, 1.1))  # not in step with the one that asks each second
        new, marks = (turn + 1) % 2, {who: each.mark() for who, each in followers.items()}
        began_s = await switch(new)
        for who, each in followers.items():
            first = await each.first(lambda asked, name=f"db-{new}": asked.who == name, "the new one", marks[who])  # type: ignore[misc]
            told[who].append(1e3 * (first.end_s - began_s))
    found = [Figure(SWITCH, CASE, who, "ms", Sample.of(values)) for who, values in told.items()]
    failures = {who: len(each.failures(begun[who])) for who, each in followers.items()}
    found += [Figure(FAILED, CASE, who, "requests", Sample.of([count])) for who, count in failures.items()]
    for each_ in found:
        say(f"{each_.who}: {each_.what} {each_.sample} {each_.unit}")
    return found


# ---- cost ----


async def _costs(plane: Plane, say: Say) -> list[Figure]:
    register, copy = await plane.tell(f"memory {REGISTERED}")
    update, answer = await plane.tell(f"cost {ENDPOINTS}")
    found = [
        Figure(UPDATE, f"one of {ENDPOINTS:,} endpoints changes: to publish it", OURS, "ms", Sample.of([update])),
        Figure(ANSWER, f"one of {ENDPOINTS:,} endpoints changes: one caller's answer", OURS, "ms", Sample.of([answer])),
        Figure(MEMORY, f"a register of {REGISTERED:,} backends", OURS, "MB", Sample.of([register])),
        Figure(MEMORY, f"what the publisher keeps beside it, {REGISTERED:,}", OURS, "MB", Sample.of([copy])),
    ]
    for each in found:
        say(f"{each.case}: {each.sample} {each.unit}")
    return found


async def _fan_out(netns: str, address: str, plane: Plane, rounds: int, say: Say) -> list[Figure]:
    """Callers on 100 hosts, so a hundred different answers."""
    found = []
    for size in (10, ENDPOINTS):
        await plane.tell(f"crowd {size}")
        async with _inside(netns, "bench.xdsherd", address, str(STREAMS)) as herd:
            if await _line(herd) != "ready":
                raise BenchFailed("the subscribers did not start")
            took = []
            for _ in range(rounds):
                (began_ns,) = await plane.tell(f"crowd {size}")
                took.append((int(await _line(herd)) - began_ns) / 1e6)
        case = f"{STREAMS} clients hear of one of {size:,} endpoints"
        found.append(Figure(FAN_OUT, case, OURS, "ms", Sample.of(took)))
        say(f"{case}: {found[-1].sample} ms")
    return found


def _switch_table(figures: Sequence[Figure]) -> Table:
    slow = find(figures, SWITCH, POLLER, CASE)
    lines = []
    for who in (ENVOY, DELTA, GRPC, POLLER):
        sample = find(figures, SWITCH, who, CASE)
        times = "-" if who == POLLER else ratio(slow, sample)
        lines.append((who, str(sample), times, str(find(figures, FAILED, who, CASE))))
    return Table(("client", "told to first answer of the new one, ms", "times", "failed requests"), tuple(lines))


def _cost_table(figures: Sequence[Figure]) -> Table:
    lines = tuple((each.case, f"{each.sample} {each.unit}") for each in figures if each.who == OURS)
    return Table(("what", "costs"), lines)


def _goals(figures: Sequence[Figure]) -> list[Goal]:
    found = []
    for who, limit in ((ENVOY, "2 to 8 ms"), (DELTA, "2 to 6 ms"), (GRPC, "3 to 6 ms")):
        sample = find(figures, SWITCH, who, CASE)
        found.append(Goal(f"{who}: a switch within 20 ms", limit, f"{number(sample.median)} ms", sample.median < 20))
    answer = next(each.sample for each in figures if each.what == ANSWER)
    text = f"one caller's answer of {ENDPOINTS:,} endpoints below 1 ms"
    found.append(Goal(text, "1.35 ms encoded anew", f"{number(answer.median)} ms", answer.median < 1))
    return found
