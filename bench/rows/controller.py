"""What it costs to see every pod of a large cluster: the controller's watch beside a plain kopf `on.event` operator.

One API server in a process of its own, with generated pods of 9 KB; the two take turns. Over TLS, as in a cluster.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import msgspec

from bench.figures import Figure, Goal, Row, Sample, Table, find, number, ratio
from bench.fleet import BenchFailed
from bench.settings import Settings
from bench.trials import Say
from bench.usage import usage

NAMES = ("controller",)
HOTSWITCH, KOPF, WHOLE = "hotswitch", "kopf on.event", "hotswitch, to the decision"
PODS = 10_000
RATE = 1000.0
SETTLE_S = 3.0
PATIENCE_S = 180.0
START, WORK, MEMORY, CPU, AGE = (
    "start to all pods seen",
    "CPU of the start",
    "memory at rest",
    "CPU",
    "event to callback",
)
UNITS = {START: "s", WORK: "s", MEMORY: "MB", CPU: "% of a core", AGE: "ms"}
MOST = {START: 3.0, MEMORY: 200.0, CPU: 12.0, AGE: 10.0}


async def run(names: Collection[str], settings: Settings, say: Say) -> AsyncIterator[Row]:
    row = Row("controller", f"{PODS:,} pods of 9 KB, {RATE * settings.load:g} pod events/s: watching them all")
    with tempfile.TemporaryDirectory(prefix="hotswitch-bench-") as folder:
        async with process("bench.podfarm", str(PODS), folder) as farm:
            kubeconfig = await _line(farm, "the API server")
            await _make_byte_code(Path(folder))
            for actor, argument in ((HOTSWITCH, "hotswitch"), (KOPF, "kopf"), (WHOLE, "controller")):
                trial = Trial(farm, kubeconfig, Path(folder), argument)
                found = await trial.run(RATE * settings.load, settings.idle_s)
                row.figures += [Figure(what, _CASE, actor, UNITS[what], found[what]) for what in UNITS]
                say(f"{actor}: " + ", ".join(f"{what} {found[what]} {unit}" for what, unit in UNITS.items()))
    row.tables.append(_table(row.figures))
    row.goals += _goals(row.figures)
    yield row


_CASE = f"{PODS:,} pods"


@dataclass(frozen=True, slots=True)
class Trial:
    farm: asyncio.subprocess.Process
    kubeconfig: str
    folder: Path
    actor: str
    pods: int = PODS
    settle_s: float = SETTLE_S

    async def run(self, rate: float, seconds: float) -> dict[str, Sample]:
        result, began_s = self.folder / f"{self.actor}.json", time.monotonic()
        words = self.actor, str(self.pods), str(result)
        env = {"KUBECONFIG": self.kubeconfig, **_byte_code(self.folder)}
        async with process("bench.podwatch", *words, env=env) as it:
            await _line(it, self.actor)
            start_s, work_s = time.monotonic() - began_s, usage(it.pid).cpu_s
            await asyncio.sleep(self.settle_s)
            began_mb = usage(it.pid).rss_mb
            await _line(it, self.actor)
            cpu = await self._load(it.pid, rate, seconds)
            memory_mb = max(began_mb, usage(it.pid).rss_mb)  # at rest again: what the events left counts, too
        ages = msgspec.json.decode(result.read_bytes(), type=list[float])
        single = {START: start_s, WORK: work_s, MEMORY: memory_mb, CPU: cpu}
        return {**{what: Sample.of([value]) for what, value in single.items()}, AGE: Sample.of(ages)}

    async def _load(self, pid: int, rate: float, seconds: float) -> float:
        """CPU in % of a core; what is still to be done when the events end counts, too."""
        before, began_s = usage(pid), time.monotonic()
        made = int(await _tell(self.farm, f"{rate} {seconds}"))
        took_s = time.monotonic() - began_s
        if made < 0.95 * rate * seconds:
            raise BenchFailed(f"only {made} of {rate * seconds:g} events could be made: the machine is busy")
        await _until_idle(pid)
        return 100 * (usage(pid).cpu_s - before.cpu_s) / took_s


def _byte_code(folder: Path) -> dict[str, str]:
    """Variables by which it is read, and written, in a folder of the bench's own."""
    return {"PYTHONPYCACHEPREFIX": str(folder / "byte-code"), "PYTHONDONTWRITEBYTECODE": ""}


async def _make_byte_code(folder: Path) -> None:
    """Of all that any of them loads, before the first: as it is in an image. Else who is first would make it for all,
    or everybody anew where none may be written. Raises BenchFailed."""
    loads = "import bench.podwatch, hotswitch.cli.main, hotswitch.controller.operator, kopf"
    made = await asyncio.create_subprocess_exec(sys.executable, "-c", loads, env={**os.environ, **_byte_code(folder)})
    if await made.wait():
        raise BenchFailed("what is compared cannot be loaded")


async def _until_idle(pid: int) -> None:
    """It has handled what it was sent: less than a tenth of a core in a second."""
    for _ in range(int(PATIENCE_S)):
        before = usage(pid).cpu_s
        await asyncio.sleep(1.0)
        if usage(pid).cpu_s - before < 0.1:
            return
    raise BenchFailed("a watcher was still busy long after the last event")


async def _tell(farm: asyncio.subprocess.Process, words: str) -> str:
    assert farm.stdin is not None
    farm.stdin.write(f"{words}\n".encode())
    return await _line(farm, "the API server")


async def _line(process: asyncio.subprocess.Process, who: str) -> str:
    assert process.stdout is not None
    line = await asyncio.wait_for(process.stdout.readline(), PATIENCE_S)
    if not line:
        raise BenchFailed(f"{who} has ended")
    return line.decode().strip()


@asynccontextmanager
async def process(
    module: str, *words: str, env: Mapping[str, str] | None = None
) -> AsyncIterator[asyncio.subprocess.Process]:
    """Ends when its standard input does. `env`: variables besides ours."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", module, *words,
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL,
        env={**os.environ, **(env or {})},
    )  # fmt: skip
    try:
        yield process
        assert process.stdin is not None
        process.stdin.close()
        await asyncio.wait_for(process.wait(), PATIENCE_S)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


def _table(figures: list[Figure]) -> Table:
    """The whole controller's age is that of its decision: the watch's callback, the pod's manifest, the decider."""
    found = [{what: find(figures, what, who, _CASE) for what in UNITS} for who in (HOTSWITCH, KOPF, WHOLE)]
    compared = [(f"{what}, {unit}", [each[what] for each in found]) for what, unit in UNITS.items()]
    compared.append((f"{AGE}, p99, ms", [Sample.of([each[AGE].p99]) for each in found]))
    lines = [(what, str(here), str(there), ratio(there, here), str(whole)) for what, (here, there, whole) in compared]
    return Table((_CASE, HOTSWITCH, KOPF, "times", WHOLE), tuple(lines))


def _goals(figures: list[Figure]) -> list[Goal]:
    goals = []
    for who, (what, most) in itertools.product((HOTSWITCH, WHOLE), MOST.items()):
        sample = find(figures, what, who, _CASE)
        value = sample.p99 if what == AGE else sample.median
        name = f"{what}, p99," if what == AGE else what
        text = f"{_CASE}: {who}: {name} below {number(most)} {UNITS[what]}"
        goals.append(Goal(text, "-", f"{number(value)} {UNITS[what]}", value < most))
    return goals
