"""What many agents cost one controller: 1,000 links over TLS, 10,000 pods granted; at rest, and while pods fall ill.

API server, controller and agents are processes of their own. An agent's guards are simulated, its link is not.
"""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Collection
from dataclasses import dataclass
from pathlib import Path

import msgspec

from bench.agentherd import EACH
from bench.figures import Figure, Goal, Row, Sample, Table, number
from bench.rows.controller import process
from bench.settings import Settings
from bench.trials import Say
from bench.usage import usage

NAMES = ("agents",)
NODES = 1000
RATE = 20.0  # pods a second that open, and close again: a node is lost each half second
PATIENCE_S = 180.0
START, MEMORY, IDLE, BUSY, AGE = (
    "start to all granted",
    "memory",
    "CPU at rest",
    "CPU, pods opening",
    "report to allotment",
)
UNITS = {START: "s", MEMORY: "MB", IDLE: "% of a core", BUSY: "% of a core", AGE: "ms"}
MOST = {MEMORY: 500.0, IDLE: 25.0, AGE: 100.0}


async def run(names: Collection[str], settings: Settings, say: Say) -> AsyncIterator[Row]:
    rate = RATE * settings.load
    row = Row("agents", f"{NODES:,} agents with {EACH} pods each on one controller; {rate:g} pods a second open")
    with tempfile.TemporaryDirectory(prefix="hotswitch-bench-") as folder:
        found = await Trial(Path(folder)).run(rate, settings.idle_s)
    case = f"{NODES:,} agents"
    row.figures += [Figure(what, case, "hotswitch", UNITS[what], sample) for what, sample in found.items()]
    say(", ".join(f"{what} {sample} {UNITS[what]}" for what, sample in found.items()))
    lines = [(f"{what}, {UNITS[what]}", str(sample)) for what, sample in found.items()]
    row.tables.append(Table((case, "controller"), (*lines, (f"{AGE}, p99, ms", str(Sample.of([found[AGE].p99]))))))
    for what, most in MOST.items():
        value = found[what].p99 if what == AGE else found[what].median
        name = f"{what}, p99," if what == AGE else what
        text = f"{case}: {name} below {number(most)} {UNITS[what]}"
        row.goals.append(Goal(text, "-", f"{number(value)} {UNITS[what]}", value < most))
    yield row


@dataclass(frozen=True, slots=True)
class Trial:
    folder: Path
    nodes: int = NODES

    async def run(self, rate: float, seconds: float) -> dict[str, Sample]:
        words, result = (str(self.nodes), str(self.folder)), self.folder / "ages.json"
        async with process("bench.agentherd", "api", *words) as api:
            kubeconfig = await _line(api)
            async with process("bench.agentherd", "controller", *words, env={"KUBECONFIG": kubeconfig}) as controller:
                port = await _line(controller)
                began_s = time.monotonic()
                async with process("bench.agentherd", "agents", *words, port, str(result)) as agents:
                    await _line(agents)
                    start_s = time.monotonic() - began_s
                    idle = await _cpu(controller.pid, asyncio.sleep(seconds))
                    busy = await _cpu(controller.pid, _tell(agents, f"{rate} {seconds}"))
                    memory_mb = usage(controller.pid).rss_mb
        ages = msgspec.json.decode(result.read_bytes(), type=list[float])
        single = {START: start_s, MEMORY: memory_mb, IDLE: idle, BUSY: busy}
        return {**{what: Sample.of([value]) for what, value in single.items()}, AGE: Sample.of(ages)}


async def _cpu(pid: int, meanwhile: Awaitable[object]) -> float:
    """In % of a core."""
    before, began_s = usage(pid), time.monotonic()
    await meanwhile
    return 100 * (usage(pid).cpu_s - before.cpu_s) / (time.monotonic() - began_s)


async def _tell(process: asyncio.subprocess.Process, words: str) -> str:
    assert process.stdin is not None
    process.stdin.write(f"{words}\n".encode())
    return await _line(process)


async def _line(process: asyncio.subprocess.Process) -> str:
    assert process.stdout is not None
    line = await asyncio.wait_for(process.stdout.readline(), PATIENCE_S)
    assert line, "a part of the bench has ended"
    return line.decode().strip()
