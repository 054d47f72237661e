"""Is a proxy that is merely slow ever taken for a failed one? `python -m bench.stress --minutes 30` (S4.2b, I2).

Well sidecars on a machine that is taken away from them: CPU hogs on every core, memory churned, CPU quotas of 50m and
100m, a cgroup that is out of memory, and requests all the while. No gate may open for a pod of the default profile; the
fast profile is opt-in, and its needless switches are counted. At the end, still under stress, every proxy is really
killed or stopped, and each must be acted on: a detector that sees nothing would pass the first part.

Every agent guards fewer pods than hotswitch's mass-failure rule needs, so that this rule cannot hide a wrong verdict.
Exit code 1: a needless switch (default profile), or a real fault that was not acted on.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import os
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from bench import machine
from bench.actors import Hotswitch
from bench.findings import ACT_WITHIN_S, Finding, Report
from bench.lives import Lives
from bench.rows.fast import PACE as FAST_PACE
from bench.settings import PREFIX, READY_S
from bench.usage import usage
from bench.watcher import Watcher
from hotswitch.decide.codes import Code
from hotswitch.model import Act
from hotswitch.report.journal import Entry
from hotswitch.sandbox.clients import LoadRun
from hotswitch.sandbox.outcome import COUNTED
from hotswitch.sandbox.pod import Pod
from hotswitch.sandbox.process import Process, start
from hotswitch.sandbox.protector import at_s, pod_name
from hotswitch.sandbox.sandbox import Sandbox
from hotswitch.sandbox.squeeze import Squeeze

CHURN_BYTES = 256 << 20
CACHE_BYTES = 128 << 20
PROGRESS_S = 60.0
FAILED_KINDS = frozenset(kind.name.lower() for kind in COUNTED if not kind.ok)


@dataclass(frozen=True, slots=True)
class Subject:
    """One pod under stress. `real`: how it fails at the end. `cpus`: quota of its proxy's container, 0 for none.
    `crowd`: as many times the usual requests, more than a starved proxy can keep up with."""

    name: str
    agent: str
    profile: str
    real: str
    cpus: float = 0.0
    memory: bool = False
    crowd: int = 1

    def __str__(self) -> str:
        crowd = f", {self.crowd} times the requests" if self.crowd > 1 else ""
        squeezed = f"quota {self.cpus * 1000:g}m" if self.cpus else "memory at its limit" if self.memory else "no quota"
        return f"{self.profile} profile, {squeezed}{crowd}"


SUBJECTS = (
    Subject("free", "default", "default", "hang"),
    Subject("q100", "default", "default", "hang", cpus=0.1),
    Subject("q50", "default", "default", "kill", cpus=0.05),
    Subject("tight", "crowd", "default", "kill", memory=True),
    Subject("busy", "crowd", "default", "hang", crowd=5),
    Subject("fast", "fast", "fast", "hang"),
    Subject("fast-q100", "fast", "fast", "kill", cpus=0.1),
)


class Stress:
    """Made, put under stress and watched; `run` gives the report."""

    def __init__(self, box: Sandbox, *, hogs: int, rate: float) -> None:
        self._box, self._hogs, self._rate = box, hogs, rate
        self._agents: dict[str, Hotswitch] = {}
        self._watchers: dict[str, Watcher] = {}
        self._loads: dict[str, LoadRun] = {}
        self._processes: list[Process] = []
        self._lives: dict[str, Lives] = {}

    async def run(self, seconds: float) -> Report:
        """Raises TimeoutError, ProtectorFailed, FaultUnavailable."""
        await self._build()
        self._squeeze()
        self._start_load()
        began_s, before = time.monotonic(), self._cpu_s()
        await self._wait(seconds)
        report = Report(time.monotonic() - began_s)
        report.agents = {name: 100 * (cpu_s - before[name]) / report.seconds for name, cpu_s in self._cpu_s().items()}
        report.findings = [await self._finding(subject) for subject in SUBJECTS]
        for subject, found in zip(SUBJECTS, report.findings, strict=True):
            found.acted_ms = await self._really_fail(subject)
        return report

    async def stop(self) -> None:
        for watcher in self._watchers.values():
            watcher.stop()
        for lives in self._lives.values():
            lives.stop()
        await asyncio.gather(*(agent.stop() for agent in self._agents.values()))
        await asyncio.gather(*(process.stop() for process in self._processes))

    # ---- the stage ----

    async def _build(self) -> None:
        pods = [await self._box.pod(each.name, workload=each.name, families=("v4",)) for each in SUBJECTS]
        self._client = await self._box.client("client")
        await asyncio.gather(*(pod.ready(READY_S) for pod in pods))
        for pod in pods:
            self._lives[pod.name] = Lives(pod)
        for name in dict.fromkeys(subject.agent for subject in SUBJECTS):
            mine = [subject for subject in SUBJECTS if subject.agent == name]
            pace = FAST_PACE if name == "fast" else None
            policy = {"profile": mine[0].profile}
            agent = Hotswitch(self._box, [self._pod(each) for each in mine], name=name, policy=policy, pace=pace)
            self._agents[name] = agent
            await agent.start()

    def _pod(self, subject: Subject) -> Pod:
        return self._box.pods[subject.name]

    def _squeeze(self) -> None:
        for subject in SUBJECTS:
            squeeze = Squeeze(self._pod(subject).proxy_cgroups)
            if subject.cpus:
                squeeze.limit_cpu(subject.cpus)
            if subject.memory:
                squeeze.limit_memory()
                self._hog("cache", CACHE_BYTES, self._pod(subject).proxy_cgroups)
        for _ in range(self._hogs):
            self._hog("cpu")
        self._hog("memory", CHURN_BYTES)

    def _hog(self, kind: str, size: int = 0, cgroups: tuple[Path, ...] = ()) -> None:
        argv = (sys.executable, "-m", "bench.hogs", kind, str(size))
        log = self._box.estate.directory / "hogs.log"
        self._processes.append(start(self._box.estate, argv, log=log, cgroups=cgroups))

    def _start_load(self) -> None:
        for subject in SUBJECTS:
            pod = self._pod(subject)
            rate = self._rate * subject.crowd
            self._loads[subject.name] = self._client.load((pod.ip, 8080), rate=rate, seconds=86400, timeout_s=5.0)
            self._watchers[subject.name] = Watcher(pod.netns)

    async def _wait(self, seconds: float) -> None:
        """Says now and then how it stands. Raises ProtectorFailed when an agent has ended."""
        until_s, said = time.monotonic() + seconds, set[str]()
        while (left_s := until_s - time.monotonic()) > 0:
            await asyncio.sleep(min(left_s, PROGRESS_S))
            opened = {name: await self._opened(agent) for name, agent in self._agents.items()}
            counts = {name: len(entries) for name, entries in opened.items()}
            _say(f"{until_s - time.monotonic():.0f} s to go; gates opened so far: {counts}")
            for entry in itertools.chain.from_iterable(opened.values()):
                if entry.at not in said:
                    said.add(entry.at)
                    _say(f"{entry.at} {entry.pod}: {entry.why}: {entry.evidence}")

    async def _opened(self, agent: Hotswitch) -> list[Entry]:
        await agent.look()
        agent.journal.catch_up()
        return [entry for entry in agent.journal.entries if entry.event == Act.OPEN]

    # ---- what came of it ----

    def _cpu_s(self) -> dict[str, float]:
        return {name: usage(agent.pid).cpu_s for name, agent in self._agents.items()}

    async def _finding(self, subject: Subject) -> Finding:
        agent, watcher, load = self._agents[subject.agent], self._watchers[subject.name], self._loads[subject.name]
        await agent.look()  # raises if the agent has died under it
        agent.journal.catch_up()
        entries = [entry for entry in agent.journal.entries if pod_name(entry) == subject.name]
        opened = [entry for entry in entries if entry.event == Act.OPEN and not entry.failed]
        lives = self._lives[subject.name]
        needless = [entry for entry in opened if not lives.explain(at_s(entry))]
        codes = Counter(entry.code for entry in entries)
        watcher.stop()
        return Finding(
            subject=str(subject), profile=subject.profile, deaths=len(lives.gone), switches=len(needless),
            throttled=codes[Code.THROTTLED],
            held=codes[Code.HELD], probes=watcher.probes, late=watcher.late, silent=watcher.silent,
            naive=watcher.silent_runs, naive_quick=watcher.late_runs, requests=load.sent, failed=_failed(load),
            real=subject.real, why=[f"{entry.at}: {entry.why}; {dict(entry.evidence)}" for entry in needless],
        )  # fmt: skip

    async def _really_fail(self, subject: Subject) -> float | None:
        """Milliseconds until hotswitch opened; None when it did not."""
        agent, faults = self._agents[subject.agent], self._pod(subject).faults
        fault = await (faults.hang() if subject.real == "hang" else faults.kill())
        deadline_s = time.monotonic() + ACT_WITHIN_S
        while (opened_s := agent.opened_s(subject.name, fault.at_s)) is None:
            if time.monotonic() > deadline_s:
                return None
            await asyncio.sleep(0.05)
        return (opened_s - fault.at_s) * 1000


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _failed(load: LoadRun) -> int:
    """The load goes on: the real faults come under the same stress."""
    return sum(count for kind, count in load.totals.items() if kind in FAILED_KINDS)


@asynccontextmanager
async def open_stress(*, hogs: int, rate: float) -> AsyncIterator[Stress]:
    async with Sandbox(prefix=PREFIX) as box:
        stress = Stress(box, hogs=hogs, rate=rate)
        try:
            yield stress
        finally:
            await asyncio.shield(stress.stop())


async def measure(seconds: float, *, hogs: int, rate: float) -> Report:
    async with open_stress(hogs=hogs, rate=rate) as stress:
        return await stress.run(seconds)


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.stress", description=__doc__)
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--hogs", type=int, default=os.cpu_count() or 1, help="CPU hogs at nice 0; default: one a core")
    parser.add_argument("--rate", type=float, default=20.0, help="requests/s on each pod")
    parser.add_argument("--json", type=Path, help="keep the figures here")
    chosen = parser.parse_args(argv)
    report = asyncio.run(measure(chosen.minutes * 60, hogs=chosen.hogs, rate=chosen.rate))
    setup = machine.describe()
    print("\n".join(f"- {name}: {value}" for name, value in setup.items()))
    told = f"{report.seconds:.0f} s: {chosen.hogs} CPU hogs, memory churned, {chosen.rate:g} requests/s on each pod"
    print(f"- under stress for {told}\n")
    print(report.table())
    print("\nCPU of the agents:", ", ".join(f"{name} {cpu:.1f} % of a core" for name, cpu in report.agents.items()))
    for needless in report.needless():
        print(f"- needless switch: {needless}")
    if chosen.json:
        chosen.json.write_text(json.dumps({"machine": setup, **asdict(report)}, indent=1))
    for breach in report.breaches():
        print(f"BREACH: {breach}")
    return 1 if report.breaches() else 0


if __name__ == "__main__":
    sys.exit(main())
