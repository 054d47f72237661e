"""What hotswitch costs while nothing is wrong: the agent and its rescue Envoy, guarding 1, 10, 100, 250 pods.

The pods' namespaces, rules, cgroups and identities are real; one Envoy plays all sidecars (see herd). Each size is
a fresh agent with the rescue ready for every pod; then it is left alone, and the CPU time it takes is counted.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import AsyncIterator, Collection, Sequence
from pathlib import Path
from typing import Any

import yaml

from bench.actors import HOTSWITCH, rescue_pid
from bench.figures import Figure, Goal, Row, Sample, Table, number
from bench.fleet import BenchFailed
from bench.herd import Herd, Member
from bench.settings import PREFIX, Settings
from bench.trials import Say
from bench.usage import usage
from hotswitch.cli.ask import AgentError, ask
from hotswitch.sandbox.process import Process, start
from hotswitch.sandbox.protector import POLICY, seen
from hotswitch.sandbox.sandbox import Sandbox

NAMES = ("scale",)
MOST_AGENT_MB, MOST_ENVOY_MB, MOST_CPU = 80.0, 120.0, 5.0
READY_TIMEOUT_S = 180.0
SETTLE_S = 3.0
AGENT_MB, ENVOY_MB, AGENT_CPU, ENVOY_CPU = "agent memory", "rescue Envoy memory", "agent CPU", "rescue Envoy CPU"
READY_S = "start to all pods guarded"
UNITS = {AGENT_MB: "MB", ENVOY_MB: "MB", AGENT_CPU: "% of a core", ENVOY_CPU: "% of a core", READY_S: "s"}


async def run(names: Collection[str], settings: Settings, say: Say) -> AsyncIterator[Row]:
    row = Row("scale", "agent and rescue Envoy at rest; one Envoy plays all sidecars, everything else is real")
    async with Sandbox(prefix=PREFIX) as box:
        herd = Herd(box)
        say(f"making {settings.pods[-1]} namespaces")
        await herd.start(settings.pods[-1])
        try:
            for count in settings.pods:
                found = await _at_rest(box, herd.members[:count], settings.idle_s)
                say(
                    f"{_case(count)}: "
                    + ", ".join(f"{name} {number(value)} {UNITS[name]}" for name, value in found.items())
                )
                row.figures += [
                    Figure(name, _case(count), HOTSWITCH, UNITS[name], Sample.of([value]))
                    for name, value in found.items()
                ]
        finally:
            await asyncio.shield(herd.stop())
    row.tables.append(_table(row.figures, settings.pods))
    row.goals += _goals(row.figures, settings.pods[-1])
    yield row


def _case(count: int) -> str:
    return f"{count} {'pod' if count == 1 else 'pods'}"


async def _at_rest(box: Sandbox, members: Sequence[Member], seconds: float) -> dict[str, float]:
    """One agent over these pods, from its start to its end."""
    started_s = time.monotonic()
    process, config = _start(box, members)
    try:
        await _until_ready(process, Path(config["socket"]), len(members))
        ready_s = time.monotonic() - started_s
        await asyncio.sleep(SETTLE_S)
        envoy = rescue_pid(Path(config["rescue"]["directory"]))
        return {**await _measure(process.pid, envoy, seconds), READY_S: ready_s}
    finally:
        await process.stop(patience_s=10)


def _start(box: Sandbox, members: Sequence[Member]) -> tuple[Process, dict[str, Any]]:
    config: dict[str, Any] = box.agent_config([]) | {"pods": [member.agent_config(dict(POLICY)) for member in members]}
    path = box.estate.directory / f"agent-{len(members)}.yaml"
    path.write_text(yaml.safe_dump(config))
    argv = (sys.executable, "-m", "hotswitch.cli.start", "agent", "--config", str(path))
    # one cgroup, so that the rescue goes with the sandbox; not that of the CPU, where its shares would count
    cgroups = box.estate.make_cgroups("agent")[-1:]
    return start(box.estate, argv, log=path.with_suffix(".log"), cgroups=cgroups), config


async def _until_ready(process: Process, socket: Path, count: int) -> None:
    """Every pod is guarded, well, and the rescue has an identity and listens for it. Raises BenchFailed."""
    late: list[str] = ["the agent does not answer"]
    deadline_s = time.monotonic() + READY_TIMEOUT_S
    while late and time.monotonic() < deadline_s and process.running:
        await asyncio.sleep(0.5)
        try:
            pods = (await asyncio.to_thread(ask, socket, {"verb": "status"}))["pods"]
        except AgentError:
            continue
        statuses = {pod["pod"]: seen(pod) for pod in pods}
        late = [f"{name}: {each}" for name, each in statuses.items() if not each.at_rest or each.rescue != "ready"]
        late += [f"{count - len(statuses)} pods are not guarded"] if len(statuses) < count else []
    if late or not process.running:
        raise BenchFailed(f"{len(late)} of {count} pods are not ready after {READY_TIMEOUT_S:g} s: {late[:3]}")


async def _measure(agent: int, envoy: int, seconds: float) -> dict[str, float]:
    before, began_s = (usage(agent), usage(envoy)), time.monotonic()
    await asyncio.sleep(seconds)
    after, took_s = (usage(agent), usage(envoy)), time.monotonic() - began_s
    cpu = [100 * (late.cpu_s - early.cpu_s) / took_s for early, late in zip(before, after, strict=True)]
    return {AGENT_CPU: cpu[0], AGENT_MB: after[0].rss_mb, ENVOY_CPU: cpu[1], ENVOY_MB: after[1].rss_mb}


def _value(figures: Sequence[Figure], what: str, count: int) -> float:
    return next(figure.sample.median for figure in figures if (figure.what, figure.case) == (what, _case(count)))


def _table(figures: Sequence[Figure], counts: Sequence[int]) -> Table:
    header = ("pods", *(f"{name}, {unit}" for name, unit in UNITS.items()))
    return Table(header, tuple((str(n), *(number(_value(figures, name, n)) for name in UNITS)) for n in counts))


def _goals(figures: Sequence[Figure], count: int) -> list[Goal]:
    agent_mb, envoy_mb = _value(figures, AGENT_MB, count), _value(figures, ENVOY_MB, count)
    cpu = _value(figures, AGENT_CPU, count)
    goals = [
        (f"agent below {MOST_AGENT_MB:g} MB", "-", f"{number(agent_mb)} MB", agent_mb < MOST_AGENT_MB),
        (f"agent at most {MOST_CPU:g} % of a core, idle", "-", f"{number(cpu)} %", cpu <= MOST_CPU),
        (f"rescue Envoy below {MOST_ENVOY_MB:g} MB", "91 MB", f"{number(envoy_mb)} MB", envoy_mb < MOST_ENVOY_MB),
    ]
    return [Goal(f"{_case(count)}: {text}", limit, measured, met) for text, limit, measured, met in goals]
