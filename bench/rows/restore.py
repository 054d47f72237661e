"""Putting capture back must cost nothing: gates toggled again and again under load (S4.5).

Toggles are orders to the running agent on a well proxy, so every failed request is the switch's own fault: inbound to
the rescue, outbound direct, and (another pod, plain clients) inbound direct. The load goes on afterwards for longer
than drained connections are given (30 s, full run). The source's way is toggled beside it, on a pod of its own.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import cycle
from typing import Any

from bench.actors import HOTSWITCH, SOURCE, TITLES, Hotswitch
from bench.figures import Figure, Goal, Row, Sample, Table, number
from bench.orders import OrderNotCarriedOut, Orders
from bench.pods import Ward
from bench.settings import PREFIX, READY_S, Settings
from bench.source_way import clean, put_back
from bench.trials import Say
from hotswitch.decide.codes import Code
from hotswitch.model import Act, Direction, Level
from hotswitch.sandbox.clients import LoadRun
from hotswitch.sandbox.outcome import Results
from hotswitch.sandbox.pod import Pod
from hotswitch.sandbox.sandbox import Sandbox

NAMES = ("restore",)
POLICY = {"inbound": ["rescue", "direct", "hold"]}
HOLD_S = 0.1  # how long a gate stays open, and closed
GOAL_REQUESTS = 1_000_000
HANDSHAKES = "gate-tcp"
APART_S = 1.0
SPELLS = 5  # so many of a flow's spells of failures are told, the longest
FAILED, SENT = "failed requests", "requests"


@dataclass(frozen=True, slots=True)
class Flow:
    """A load under which gates are toggled. `connections`: 0 opens one for each request."""

    name: str
    who: str
    run: LoadRun


@dataclass(slots=True)
class Town:
    box: Sandbox
    agent: Hotswitch
    pod: Pod  # toggled to the rescue inbound, direct outbound
    direct: Pod  # toggled direct inbound
    cleaned: Pod  # the source's
    flows: list[Flow]


async def run(names: Collection[str], settings: Settings, say: Say) -> AsyncIterator[Row]:
    row = Row("restore", "gates opened and closed by orders under load; the proxies are well")
    async with Sandbox(prefix=PREFIX) as box:
        town = await _build(box)
        try:
            await _toggles(town, settings, row, say)
        finally:
            await asyncio.shield(town.agent.stop())
    yield row


async def _build(box: Sandbox) -> Town:
    pods = [await box.pod(name, families=("v4",)) for name in ("gate-0", "direct-0", "clean-0")]
    await box.pod("outside", sidecar=False, families=("v4",))
    await box.client("plain")
    await box.meshed("meshed")
    await asyncio.gather(*(pod.ready(READY_S) for pod in pods))
    for pod in pods:
        await box.service(pod.name, [pod], publish="all")
    await box.service(HANDSHAKES, pods[:1], publish="all", protocol="tcp")  # no pool: each request shakes hands anew
    agent = Hotswitch(box, pods[:2], policy=POLICY)
    await agent.start()
    gate, direct, cleaned = pods
    return Town(box, agent, gate, direct, cleaned, flows=[])


# ---- toggles ----


async def _toggles(town: Town, settings: Settings, row: Row, say: Say) -> None:
    town.flows = _start_flows(town, settings.toggles_s + settings.tail_s, settings.load)
    began_s = time.monotonic()
    done = Counter[str]()
    until_s = began_s + settings.toggles_s
    await asyncio.gather(*(_toggle_through(each, until_s, done, say) for each in _sequences(town)))
    say(f"toggled: {dict(done)}; the load goes on for {settings.tail_s:g} s")
    results = await asyncio.gather(*(flow.run.results() for flow in town.flows))
    row.tables.append(_table(town.flows, results))
    row.figures += _figures(town.flows, results)
    row.remarks.append(
        f"openings followed by a restore: {', '.join(f'{count} {name}' for name, count in done.items())}"
    )
    for flow, result in zip(town.flows, results, strict=True):
        row.remarks += [f"{flow.who}, {flow.name}: {when}" for when in _when_failed(result, began_s)]
    row.remarks += _needless(town.agent)
    row.goals.append(_goal(row.figures))


def _start_flows(town: Town, seconds: float, load: float) -> list[Flow]:
    box, plain, meshed = town.box, town.box.clients["plain"], town.box.clients["meshed"]
    outside, services = (box.pods["outside"].ip, 8080), box.services
    gate, direct, cleaned = (services[pod.name] for pod in (town.pod, town.direct, town.cleaned))
    more: dict[str, Any] = {"seconds": seconds, "timeout_s": 3.0}
    calls = plain.load(outside, rate=100 * load, netns=town.pod.netns, **more)
    return [
        Flow("plain, a connection each", HOTSWITCH, plain.load(gate, rate=200 * load, **more)),
        Flow("plain, 64 kept connections", HOTSWITCH, plain.load(gate, rate=200 * load, connections=64, **more)),
        Flow("meshed, a handshake each", HOTSWITCH, meshed.load(services[HANDSHAKES], rate=50 * load, **more)),
        Flow("meshed, pooled", HOTSWITCH, meshed.load(gate, rate=100 * load, **more)),
        Flow("outbound, a connection each", HOTSWITCH, calls),
        Flow("plain, inbound toggled direct", HOTSWITCH, plain.load(direct, rate=100 * load, **more)),
        Flow("plain, a connection each", SOURCE, plain.load(cleaned, rate=50 * load, **more)),
        Flow("meshed, pooled", SOURCE, meshed.load(cleaned, rate=50 * load, **more)),
    ]


@dataclass(frozen=True, slots=True)
class _Toggle:
    name: str
    open: Callable[[], Awaitable[object]]
    close: Callable[[], Awaitable[object]]


def _sequences(town: Town) -> list[tuple[_Toggle, ...]]:
    """Each is toggled through again and again, beside the others; one pod has one order at a time."""
    orders, ward = Orders(town.agent), Ward.of(town.cleaned)

    def ordered(name: str, pod: Pod, level: Level, way: Direction) -> _Toggle:
        return _Toggle(name, partial(orders.bypass, pod.name, level, (way,)), partial(orders.restore, pod.name))

    inbound = ordered("inbound rescue", town.pod, Level.RESCUE, Direction.INBOUND)
    outbound = ordered("outbound direct", town.pod, Level.DIRECT, Direction.OUTBOUND)
    direct = ordered("inbound direct", town.direct, Level.DIRECT, Direction.INBOUND)
    rules = _Toggle(
        "source's way (17 commands)",
        partial(asyncio.to_thread, clean, ward),
        partial(asyncio.to_thread, put_back, ward),
    )
    return [(inbound, outbound), (direct,), (rules,)]


async def _toggle_through(sequence: Sequence[_Toggle], until_s: float, done: Counter[str], say: Say) -> None:
    for toggle in cycle(sequence):
        if time.monotonic() >= until_s:
            return
        try:
            await toggle.open()
            await asyncio.sleep(HOLD_S)
            await toggle.close()
            done[toggle.name] += 1
        except OrderNotCarriedOut as failure:
            done[f"{toggle.name} not carried out"] += 1
            say(f"{toggle.name}: {failure}")
        await asyncio.sleep(HOLD_S)


def _needless(agent: Hotswitch) -> list[str]:
    """All these proxies are well: what hotswitch opened by its own verdict was a mistake."""
    agent.journal.catch_up()
    own = [entry for entry in agent.journal.entries if entry.event == Act.OPEN and entry.code == Code.OPENED]
    return [f"needless switch of {entry.pod}: {entry.why}" for entry in own]


def _table(flows: Sequence[Flow], results: Sequence[Results]) -> Table:
    lines = []
    for flow, result in zip(flows, results, strict=True):
        summary = result.summary()
        kinds = ", ".join(f"{count:,} {kind.name.lower().replace('_', ' ')}" for kind, count in summary.kinds.items())
        lines.append((TITLES[flow.who], flow.name, f"**{summary.failed:,}** of {summary.requests:,}", kinds))
    return Table(("toggled by", "clients", FAILED, "how they fared"), tuple(lines))


def _when_failed(result: Results, began_s: float) -> list[str]:
    """Failures, as spells with less than `APART_S` from one to the next: a stall of the machine is one spell."""
    spells: list[list[float]] = []
    for row in result.rows:
        if not row.kind.ok:
            if not spells or row.start_s - spells[-1][-1] > APART_S:
                spells.append([])
            spells[-1].append(row.start_s)
    longest = sorted(spells, key=len, reverse=True)[:SPELLS]
    return [
        f"{len(each):,} failed from {each[0] - began_s:.2f} to {each[-1] - began_s:.2f} s after the start"
        for each in sorted(longest)
    ]


def _figures(flows: Sequence[Flow], results: Sequence[Results]) -> list[Figure]:
    figures = []
    for flow, result in zip(flows, results, strict=True):
        summary = result.summary()
        case = f"toggles: {flow.name}"
        figures.append(Figure(FAILED, case, flow.who, "requests", Sample.of([summary.failed])))
        figures.append(Figure(SENT, case, flow.who, "requests", Sample.of([summary.requests])))
    return figures


def _goal(figures: Sequence[Figure]) -> Goal:
    ours = [figure for figure in figures if figure.who == HOTSWITCH]
    failed = sum(figure.sample.total for figure in ours if figure.what == FAILED)
    sent = sum(figure.sample.total for figure in ours if figure.what == SENT)
    enough = "" if sent >= GOAL_REQUESTS else ", as many as the time allowed"
    text = f"restore: no failed request of {GOAL_REQUESTS:,} under toggled gates"
    return Goal(text, "0 of 80,000", f"{number(failed)} of {number(sent)}{enough}", failed == 0)
