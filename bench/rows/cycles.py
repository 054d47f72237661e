"""Whole cycles under load: kill -9, rescue, restart, restore. What is lost once the gate is open (S4.5).

What is lost at the kill itself is the business of row `kill`. The load goes on at the end for longer than the
connections that a restore drains are given (30 s, full run).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Collection, Sequence
from functools import partial

from bench.actors import HOTSWITCH, actor
from bench.figures import Figure, Goal, Row, Sample, Table, number
from bench.fleet import BenchFailed, Fleet, World, open_fleet
from bench.settings import Settings
from bench.trials import Say
from hotswitch.sandbox.clients import LoadRun
from hotswitch.sandbox.outcome import Kind, Results

NAMES = ("cycles",)
SETTLE_S = 0.1
"""A request begun this long after the opening has nothing to do with the kill."""
DEAD_S = 1.0
FAILED, SENT = "failed requests", "requests"
Span = tuple[float, float]


async def run(names: Collection[str], settings: Settings, say: Say) -> AsyncIterator[Row]:
    row = Row(
        "cycles",
        f"{settings.cycles} cycles kill -> rescue -> restart -> restore, from {SETTLE_S:g} s after the opening",
    )
    async with open_fleet({HOTSWITCH: partial(actor, HOTSWITCH)}, replicas=(1,)) as fleet:
        runs = _start_loads(fleet, settings.load)
        await asyncio.gather(*(each.begun() for each in runs.values()))
        spans = await _go_round(fleet.worlds[HOTSWITCH], settings, say)
        for each in runs.values():
            each.stop()
        results = {name: await each.results() for name, each in runs.items()}
    for name, result in results.items():
        row.figures += _figures(name, result, spans)
    row.tables.append(_table(results, spans))
    lost = sum(figure.sample.total for figure in row.figures if figure.what == FAILED)
    row.goals.append(
        Goal(f"restore: none lost in {len(spans)} whole cycles", "0 in 30 cycles", f"{number(lost)} lost", lost == 0)
    )
    yield row


def _start_loads(fleet: Fleet, load: float) -> dict[str, LoadRun]:
    service = fleet.worlds[HOTSWITCH].services[1]
    return {
        "plain": fleet.plain.load(service, rate=300 * load, seconds=3600),
        "meshed": fleet.meshed.load(service, rate=200 * load, seconds=3600),
    }


async def _go_round(world: World, settings: Settings, say: Say) -> list[Span]:
    """From the opening of the gate to the next kill, of each cycle."""
    spans = []
    pod = world.pods[0]
    for cycle in range(settings.cycles):
        fault = await pod.faults.kill()
        await asyncio.sleep(DEAD_S)
        await fault.undo()
        await world.rest()
        restored_s = time.monotonic()
        await asyncio.sleep(settings.tail_s if cycle + 1 == settings.cycles else DEAD_S)
        spans.append((_opened_s(world, fault.at_s) + SETTLE_S, time.monotonic()))
        say(f"cycle {cycle + 1} of {settings.cycles}: at rest {restored_s - fault.at_s:.1f} s after the kill")
    return spans


def _opened_s(world: World, killed_s: float) -> float:
    opened_s = world.keeper.opened_s(world.pods[0].name, killed_s)
    if opened_s is None:
        raise BenchFailed("the gate was not opened after a kill")
    return opened_s


def _figures(name: str, result: Results, spans: Sequence[Span]) -> list[Figure]:
    parts = [result.started_between(*span).rows for span in spans]
    lost = Sample.of(sum(not each.kind.ok for each in rows) for rows in parts)
    sent = Sample.of(len(rows) for rows in parts)
    case = f"{name} client"
    return [Figure(FAILED, case, HOTSWITCH, "requests", lost), Figure(SENT, case, HOTSWITCH, "requests", sent)]


def _table(results: dict[str, Results], spans: Sequence[Span]) -> Table:
    lines = []
    for name, result in results.items():
        rows = [row for span in spans for row in result.started_between(*span).rows]
        lost = [row.kind for row in rows if not row.kind.ok]
        kinds = ", ".join(f"{lost.count(kind)} {kind.name.lower()}" for kind in Kind if kind in lost)
        past = sum(row.kind is Kind.DIRECT for row in rows)
        lines.append((name, f"**{len(lost):,}** of {len(rows):,}", kinds or "-", f"{past:,}"))
    return Table(("client", "failed", "how", "served past the sidecar"), tuple(lines))
