"""The agents of a node and of a pod beside the standalone agent: the same fault, the same load, in turns, in one run,
with the API server stopped (S4.2, S4.4, I1).

Both act on pods of one cluster in miniature, as shipped and within what the shipped controller granted (bench.granted):
the node's agent in the DaemonSet's container; the pod's as the injection template has it. Each also where it shares the
pids of those whom it watches. Requests go straight to the pod, each on a new connection.

An outage is seen by requests, so none shorter than the time between two of them can be told from none: for the ratio it
counts as that long. Of a kill one connection more is held to 15021: that the kernel closes it is the first that anybody
can see of a death who sees no processes.
"""

from __future__ import annotations

import asyncio
import math
from collections import defaultdict
from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import AsyncExitStack, closing
from dataclasses import dataclass, field

from bench.actors import Hotswitch, opening_s
from bench.figures import Figure, Goal, Row, Sample, Table, find, number
from bench.granted import ALONE as POLICY
from bench.granted import Town
from bench.held import Held
from bench.settings import READY_S, Settings
from bench.trials import Say
from hotswitch.sandbox.cluster.cluster import SandboxCluster
from hotswitch.sandbox.cluster.published import Published
from hotswitch.sandbox.kubelet import Timings

WHO: Mapping[str, str] = {
    "beside": "node agent",
    "beside-shared": "node agent, hostPID",
    "beside-pod": "pod agent",
    "beside-pod-shared": "pod agent, shareProcessNamespace",
}
NAMES = tuple(WHO)
ALONE = "standalone agent"
BEFORE_S = 0.5
MOST_TIMES = 1.5
OUTAGE, LOST, OPENED, CLOSED = "outage", "requests lost", "fault to open gate", "fault to first closed socket"
UNITS = {OUTAGE: "ms", LOST: "requests", OPENED: "ms", CLOSED: "ms"}


@dataclass(frozen=True, slots=True)
class Case:
    """`rate`: requests/s, for `after_s` after the fault. `rounds`: as a multiple of the bench's."""

    fault: str
    rate: float
    after_s: float
    rounds: int


CASES = (Case("kill", 1000.0, 1.5, 2), Case("hang", 250.0, 3.5, 1))


@dataclass(slots=True)
class Found:
    """By figure, fault and agent, in the order of the rounds. `endless`: outages whose end was not seen."""

    values: dict[tuple[str, str, str], list[float]] = field(default_factory=lambda: defaultdict(list))
    endless: dict[tuple[str, str], int] = field(default_factory=lambda: defaultdict(int))

    def figures(self) -> list[Figure]:
        return [
            Figure(what, fault, who, UNITS[what], Sample.of(each, self.endless[fault, who] if what == OUTAGE else 0))
            for (what, fault, who), each in self.values.items()
        ]


async def run(names: Collection[str], settings: Settings, say: Say) -> AsyncIterator[Row]:
    for name in names:
        row = Row(name, f"the {WHO[name]} beside the standalone one, in turns; plain client, new connections")
        async with Trial(name, settings, say) as trial:
            row.figures = (await trial.carried_out()).figures()
        row.tables += [_table(row.figures), _ratios(row.figures, WHO[name], settings)]
        row.goals += [_goal(row.figures, case, WHO[name], settings) for case in CASES]
        row.remarks.append("nobody listened at the API server's port before the first fault, nor after the last")
        yield row


class Trial:
    """A cluster, two pods, and an agent for each."""

    def __init__(self, name: str, settings: Settings, say: Say) -> None:
        self._name, self._settings, self._say = name, settings, say
        self._stack = AsyncExitStack()
        self._found = Found()

    async def __aenter__(self) -> Trial:
        async with AsyncExitStack() as stack:
            cluster = await stack.enter_async_context(SandboxCluster(namespace="shop"))
            self._town = await Town.open(cluster)
            stack.push_async_callback(self._town.close)
            alone, ours = await _pod(cluster, "alone-0", "off"), await _pod(cluster, "ours-0", "auto")
            self._client = await cluster.box.client("caller")
            make = self._town.pod_agent if self._name.startswith("beside-pod") else self._town.node_agent
            self._ours = await make(ours, shares_pids=self._name.endswith("-shared"))
            self._keeper = Hotswitch(cluster.box, [alone.pod], policy=POLICY)
            stack.push_async_callback(self._keeper.stop)
            await self._keeper.start()
            self._pods = {ALONE: alone, WHO[self._name]: ours}
            self._stack = stack.pop_all()
        return self

    async def __aexit__(self, *error: object) -> None:
        await self._stack.aclose()

    async def carried_out(self) -> Found:
        """Each begins every other round. Raises BenchFailed."""
        await self._town.lose_api()
        for case in CASES:
            for number_ in range(case.rounds * self._settings.ours):
                turns = list(self._pods) if number_ % 2 else list(reversed(self._pods))
                for who in turns:
                    await self._once(case, who)
                    await self._at_rest(self._pods[who])
        await self._town.must_be_lost()
        return self._found

    async def _once(self, case: Case, who: str) -> None:
        web, seconds = self._pods[who], BEFORE_S + case.after_s
        with closing(Held(web.pod.netns)) as held:
            rate = case.rate * self._settings.load
            load = self._client.load((web.pod.ip, 8080), rate=rate, seconds=seconds, timeout_s=2.0)
            await load.begun()
            await asyncio.sleep(BEFORE_S)
            made = await getattr(web.pod.faults, case.fault)()
            results = await load.results()
            await made.undo()
        summary = results.since(made.at_s).summary(made.at_s)
        opened_s = self._opened_s(who, made.at_s)
        told = {OUTAGE: summary.outage_s * 1000, LOST: float(summary.failed)}
        told[OPENED] = math.inf if opened_s is None else (opened_s - made.at_s) * 1000
        if case.fault == "kill" and held.closed_s is not None:
            told[CLOSED] = (held.closed_s - made.at_s) * 1000
        for what, value in told.items():
            self._found.values[what, case.fault, who].append(value)
        self._found.endless[case.fault, who] += summary.still_failing
        self._say(f"{case.fault}, {who}: {'; '.join(f'{what} {number(value)}' for what, value in told.items())}")

    def _opened_s(self, who: str, since_s: float) -> float | None:
        journal = self._keeper.journal if who == ALONE else self._ours.journal
        return opening_s(journal, self._pods[who].pod.name, since_s)

    async def _at_rest(self, web: Published) -> None:
        await web.pod.ready(READY_S)
        web.pod.proxy.hurry()
        await self._ours.guards()
        async with asyncio.timeout(READY_S):
            while await self._keeper.restless():
                await asyncio.sleep(0.1)


async def _pod(cluster: SandboxCluster, name: str, mode: str) -> Published:
    labels = {"hotswitch.io/mode": mode}
    web = await cluster.pod(name, labels=labels, families=("v4",), timings=Timings(scale=0.2), native=True)
    await web.pod.ready(READY_S)
    return web


# ---- what is told ----


def _table(figures: list[Figure]) -> Table:
    lines = []
    for fault, who in dict.fromkeys((each.case, each.who) for each in figures):
        samples = {what: find(figures, what, who, fault) for what in UNITS}
        lines.append((fault, who, *map(str, samples.values()), str(samples[OUTAGE].n)))
    return Table(("fault", "who", *(f"{what}, {unit}" for what, unit in UNITS.items()), "n"), tuple(lines))


def ratios(ours: Sample, alone: Sample, gap: float) -> Sample:
    """Round by round; what is less than `gap` counts as that."""
    pairs = zip(ours.values, alone.values, strict=False)
    return Sample.of((max(each, gap) / max(other, gap) for each, other in pairs), ours.at_least)


def _outages(figures: list[Figure], case: Case, who: str, settings: Settings) -> Sample:
    ours, alone = (find(figures, OUTAGE, each, case.fault) for each in (who, ALONE))
    return ratios(ours, alone, 1000 / (case.rate * settings.load))


def _ratios(figures: list[Figure], who: str, settings: Settings) -> Table:
    lines = []
    for case in CASES:
        opened = ratios(find(figures, OPENED, who, case.fault), find(figures, OPENED, ALONE, case.fault), 0.0)
        lines.append((case.fault, str(_outages(figures, case, who, settings)), str(opened), str(opened.n)))
    header = ("fault", "times the standalone agent's, round by round: outage", OPENED, "n")
    return Table(header, tuple(lines))


def _goal(figures: list[Figure], case: Case, who: str, settings: Settings) -> Goal:
    times = _outages(figures, case, who, settings)
    medians = [number(find(figures, OUTAGE, each, case.fault).median) for each in (who, ALONE)]
    text = f"{case.fault}, {who}: outage within {MOST_TIMES:g} times the standalone agent's, the API server stopped"
    measured = f"{times} times; medians {medians[0]} ms against {medians[1]} ms"
    return Goal(text, "-", measured, times.median <= MOST_TIMES)
