"""The demo from its first to its last moment: two worlds are made, walked through, removed; then the figures are told.

What is told after the worlds are gone is a `Record`: requests, faults, the agent's journal, and the kernel's own word
that nothing of hotswitch is active any more (I4).
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from hotswitch.report.journal import Entry
from hotswitch.sandbox import result
from hotswitch.sandbox.picture import draw
from hotswitch.sandbox.protector import ProtectorFailed
from hotswitch.sandbox.score import WITH, WITHOUT, WORLDS, Mark, Rows, Spans, lines, spans, totals
from hotswitch.sandbox.story import Story, WalkFailed
from hotswitch.sandbox.together import together
from hotswitch.sandbox.view import LiveView, PlainView
from hotswitch.sandbox.walk import Step, plan
from hotswitch.sandbox.world import HIT, RATE, TIMEOUT_S, World, open_world

PLAIN_WIDTH = 120
FLOW_TIMEOUT_S = 20.0
LEGEND = (
    f"Load: {RATE:.0f} requests/s per stream, open loop, each given {TIMEOUT_S:.0f} s; a plain client opens a "
    "connection for each request, a meshed one is an Envoy with auto-mTLS and Istio's retries.",
    f"Faults hit {HIT[0]} (the only replica) and {HIT[1]} (one of two) in both worlds at the same instants.",
    "The kubelet's back-off is five times as fast as in a cluster.",
    "Endpoints: without hotswitch a NotReady pod leaves its Service; with it, a pod whose gate is open stays (the "
    "sandbox plays the endpoint part of hotswitch).",
)


class NotReady(RuntimeError):
    """The worlds could not be made in time."""


@dataclass(frozen=True, slots=True)
class Record:
    """What the worlds leave when they are gone. `problems`: sentences, from the walk and from the kernel."""

    rows: Rows
    marks: Sequence[Mark]
    start_s: float
    end_s: float
    entries: Sequence[Entry]
    unready: Mapping[str, Spans]  # by world, of the pod of the Service of one replica
    problems: Sequence[str]


async def play(seconds: float, picture: Path, *, plain: bool) -> list[str]:
    """The whole demo; sentences on what was not as it should be. Raises OSError, RuntimeError."""
    console = Console()
    live = console.is_terminal and not plain
    if not live:
        console = Console(width=PLAIN_WIDTH, color_system=None)
    for sentence in LEGEND:
        console.print(sentence, highlight=False, markup=False)
    steps = plan(seconds)
    record = await _perform(steps, LiveView(console, seconds) if live else PlainView(console))
    return await _tell(record, picture, console, plain=not live)


async def _perform(steps: Sequence[Step], view: LiveView | PlainView) -> Record:
    async with contextlib.AsyncExitStack() as stack:
        stack.enter_context(view)
        began_s = time.monotonic()
        worlds = {name: await stack.enter_async_context(open_world(name)) for name in WORLDS}
        await _build(worlds)
        pods = sum(len(world.pods) for world in worlds.values())
        view.say(0.0, f"{pods} pods with Envoys, clients and load were ready after {time.monotonic() - began_s:.0f} s")
        return await _walk(worlds, steps, view)


async def _build(worlds: Mapping[str, World]) -> None:
    try:
        await together(*(world.build() for world in worlds.values()))
        async with asyncio.timeout(FLOW_TIMEOUT_S):
            while not all(world.flows for world in worlds.values()):
                await asyncio.sleep(0.05)
    except TimeoutError as late:
        raise NotReady(f"pods, clients or load were not ready in time ({late}): is the machine busy?") from late


async def _walk(worlds: Mapping[str, World], steps: Sequence[Step], view: LiveView | PlainView) -> Record:
    story, problems = Story(worlds, view), []
    try:
        await story.walk(steps)
    except (WalkFailed, ProtectorFailed) as failure:
        problems.append(str(failure))
    ended = await asyncio.gather(*(world.end_load() for world in worlds.values()))
    protector = worlds[WITH].protector
    assert protector is not None
    protector.journal.catch_up()
    return Record(
        rows={(name, stream): rows for name, each in zip(worlds, ended, strict=True) for stream, rows in each.items()},
        marks=story.marks,
        start_s=story.start_s,
        end_s=story.end_s,
        entries=tuple(protector.journal.entries),
        unready={name: spans(world.unready[HIT[0]], story.end_s) for name, world in worlds.items()},
        problems=[*problems, *worlds[WITH].changed_rules()],
    )


# ---- the end ----


async def _tell(record: Record, picture: Path, console: Console, *, plain: bool) -> list[str]:
    opened = result.gates(record.entries, record.marks, record.end_s)
    slowest = {fault: max(by_pod.values()) for fault, by_pod in opened.items() if by_pod}
    console.print(result.table(lines(record.rows, record.marks, record.end_s, slowest), plain=plain))
    whole = totals(record.rows, record.start_s, record.end_s)
    lost = {world: sum(line.tallies[world].failed for line in whole) for world in WORLDS}
    asked = sum(line.tallies[WITH].requests for line in whole)
    for sentence in (
        result.FOOTNOTE,
        str(result.endpoints(record.unready, record.rows)),
        f"Of {asked:,} requests in each world {lost[WITHOUT]:,} failed without hotswitch, {lost[WITH]:,} with.",
    ):
        console.print(sentence, highlight=False, markup=False)
    await asyncio.to_thread(draw, picture, record.rows, record.marks, record.start_s, record.end_s)
    console.print(f"Picture: {picture}", highlight=False, markup=False, soft_wrap=True)
    problems = [*record.problems, *result.complaints(record.entries, record.marks, record.end_s)]
    if not problems:
        console.print(result.ALL_WELL, highlight=False, markup=False)
    return problems
