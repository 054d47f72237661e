"""Everything of hotswitch dies while a gate is open: the kernel closes it at the expiry, nobody else is needed (I1).

A person's order leads the requests of a well pod past its proxy; then agent and rescue are killed with SIGKILL. The
sidecar signs what passes it, so the requests themselves tell when capture is back. Beside it: the source's actor is
killed after it has acted, and its rules are gone for as long as anybody looks.
"""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator, Collection
from typing import Any

from bench.actors import HOTSWITCH, SOURCE, Hotswitch, Script
from bench.figures import Figure, Goal, Row, Sample, Table
from bench.fleet import BenchFailed
from bench.orders import Orders
from bench.settings import PREFIX, READY_S, Settings
from bench.trials import Say
from hotswitch.model import Act, Direction, Level
from hotswitch.sandbox.estate import ProcessId
from hotswitch.sandbox.outcome import Kind, Results
from hotswitch.sandbox.pod import Pod
from hotswitch.sandbox.protector import at_s
from hotswitch.sandbox.sandbox import Sandbox

NAMES = ("expiry",)
EXPIRY_S = 3.0
POLICY = {"inbound": ["direct", "hold"], "outbound": ["direct", "hold"], "expiry_s": EXPIRY_S}
LOOK_ON_S = 10.0
RATE = 250.0
MOST_MS = 100.0
LATE = "capture back after the expiry"


async def run(names: Collection[str], settings: Settings, say: Say) -> AsyncIterator[Row]:
    row = Row("expiry", f"agent and rescue killed with a gate open for {EXPIRY_S:g} s")
    late: dict[str, list[float]] = {"inbound": [], "outbound": []}
    failed = 0
    for _ in range(settings.expiries):
        failed += await _hotswitch_dies(late, say)
    for way, values in late.items():
        row.figures.append(Figure(LATE, way, HOTSWITCH, "ms", Sample.of(values)))
    stays_s, cleaned = await _source_dies(say)
    row.figures.append(Figure("no capture for at least", "inbound", SOURCE, "s", Sample.of([stays_s], at_least=1)))
    lines = [
        ("hotswitch", way, f"{Sample.of(values)} ms after the expiry, n={len(values)}") for way, values in late.items()
    ]
    lines.append(("the source's way", "inbound", f"{cleaned} {stays_s:.0f} s later"))
    row.tables.append(Table(("killed", "direction", "capture is back"), tuple(lines)))
    row.remarks.append(f"{failed} requests failed while hotswitch died and its gates expired")
    both = Sample.of([value for values in late.values() for value in values])
    met = max(abs(both.low), abs(both.high)) <= MOST_MS
    row.goals.append(
        Goal(f"all of hotswitch dead: closed at expiry, +- {MOST_MS:g} ms", "at expiry", f"{both} ms", met)
    )
    yield row


async def _hotswitch_dies(late: dict[str, list[float]], say: Say) -> int:
    """One death; adds how many ms late capture was back. The number of failed requests."""
    async with Sandbox(prefix=PREFIX) as box:
        pod, outside = (
            await box.pod("dies-0", families=("v4",)),
            await box.pod("outside", sidecar=False, families=("v4",)),
        )
        client = await box.client("plain")
        await asyncio.gather(pod.ready(READY_S), outside.ready(READY_S))
        agent = Hotswitch(box, [pod], policy=POLICY)
        await agent.start()
        seconds = EXPIRY_S + 3.0
        more: dict[str, Any] = {"rate": RATE, "seconds": seconds}
        runs = {
            "inbound": client.load((pod.ip, 8080), **more),
            "outbound": client.load((outside.ip, 8080), netns=pod.netns, **more),
        }
        await asyncio.sleep(1.0)
        await Orders(agent).bypass(pod.name, Level.DIRECT, tuple(Direction))
        await asyncio.sleep(0.5)
        await _kill_all(agent)
        ends_s = _written_s(agent) + EXPIRY_S
        results = {way: await run.results() for way, run in runs.items()}
    for way, result in results.items():
        late[way].append((_back_s(result) - ends_s) * 1000)
        say(f"hotswitch dead, {way}: capture back {late[way][-1]:.1f} ms after the expiry; {result.summary()}")
    return sum(result.summary().failed for result in results.values())


async def _kill_all(agent: Hotswitch) -> None:
    """Agent and rescue Envoy at once. Raises TimeoutError where they do not end."""
    processes = [ProcessId.of(pid) for pid in (agent.pid, agent.rescue_pid)]
    for process in processes:
        os.kill(process.pid, signal.SIGKILL)
    async with asyncio.timeout(5):
        while any(process.alive for process in processes):
            await asyncio.sleep(0.01)


def _written_s(agent: Hotswitch) -> float:
    """When the gate was written last: the journal's line follows at once."""
    agent.journal.catch_up()
    written = [at_s(entry) for entry in agent.journal.entries if entry.event in (Act.OPEN, Act.RENEW)]
    return written[-1]


def _back_s(result: Results) -> float:
    """Between the last request that passed the proxy by and the first after it. Raises BenchFailed."""
    starts = [row.start_s for row in result.rows if row.kind is Kind.DIRECT]
    if not starts:
        raise BenchFailed("no request was led past the proxy")
    after = [row.start_s for row in result.rows if row.kind is Kind.VIA_PROXY and row.start_s > starts[-1]]
    if not after:
        raise BenchFailed("capture did not come back while it was watched")
    return (starts[-1] + after[0]) / 2


async def _source_dies(say: Say) -> tuple[float, str]:
    """Seconds watched after the proxy was well again, and what was seen."""
    async with Sandbox(prefix=PREFIX) as box:
        pod, client = await box.pod("left-0", families=("v4",)), await box.client("plain")
        await pod.ready(READY_S)
        keeper = Script(box, "source", "source_way", [pod])
        await keeper.start()
        await _hang_until_open(pod, keeper)
        well_s = time.monotonic()
        await asyncio.sleep(LOOK_ON_S)
        answer = await client.ask(pod.ip, 8080)
        say(
            f"the source's actor dead: {time.monotonic() - well_s:.0f} s later via {answer.via or 'nobody: still open'}"
        )
        return time.monotonic() - well_s, "back" if answer.via else "still not"


async def _hang_until_open(pod: Pod, keeper: Script) -> None:
    async with await pod.faults.hang():
        async with asyncio.timeout(20):
            while not keeper.serves(pod.name):
                await asyncio.sleep(0.05)
        await keeper.stop()
