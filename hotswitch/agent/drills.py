"""All drills of an agent: by hand, by order of the controller or in their turn, one at a time; told to metrics and
journal (S4.4, S4.6, I3, I8).

When a workload's drill passed last is read from the journal at the start, so that an agent that is replaced every day
drills all the same.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime

from hotswitch.agent.drill import CODES, Drill, Hands, OwnHands, Report, refusal
from hotswitch.agent.guard import Guard
from hotswitch.agent.ordered import OrderedGuard
from hotswitch.agent.ordered_drill import OrderedHands
from hotswitch.api.drills import Drilled, Result, Told
from hotswitch.api.orders import OrderText
from hotswitch.config.agentfile import DrillSettings
from hotswitch.decide.codes import Code
from hotswitch.decide.drill import Candidate, Schedule, canary, first_s, next_s, overdue_s, workload_of
from hotswitch.report.journal import Entry, Journal, entry
from hotswitch.report.metrics import Metrics

LOOK_S = 5.0  # how often it is asked whose turn it is


class Drills:
    """`guards`: all that there are now."""

    def __init__(self, guards: Callable[[], Iterable[Guard]], journal: Journal, metrics: Metrics) -> None:
        self._guards, self._journal, self._metrics = guards, journal, metrics
        self._turn = asyncio.Lock()
        self._began_unix_s = time.time()
        self._passed_unix_s: dict[str, float] = {}  # by workload
        self._ended_unix_s: dict[str, float] = {}
        self._last_unix_s: dict[str, float] = {}  # by pod
        self._running: set[asyncio.Task[Report] | asyncio.Task[None]] = set()
        self._task: asyncio.Task[None] | None = None
        self._settings: DrillSettings | None = None

    # ---- by hand ----

    async def run(self, guard: Guard, for_s: float, who: str) -> Report:
        """Waits for a drill that is under way: there is one at a time."""
        task = asyncio.get_running_loop().create_task(self._run(guard, for_s, who, OwnHands(guard, who)))
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        return await asyncio.shield(task)  # whoever asked may go away, and the drill ends as it began

    async def _run(self, guard: Guard, for_s: float, who: str, hands: Hands, order: str = "") -> Report:
        async with self._turn:
            report = await Drill(guard, for_s, hands).run()
        self._tell(guard, report, who, order)
        return report

    # ---- by order of the controller ----

    def order(self, guard: Guard, told: Told, tell: Callable[[Drilled], None], order: OrderText | None = None) -> None:
        """`order`: where a controller decides for the pod; it has the drill's generation."""
        hands: Hands = OwnHands(guard, told.by)
        if isinstance(guard, OrderedGuard) and order is not None:
            hands = OrderedHands(guard, order)
        task = asyncio.get_running_loop().create_task(self._ordered(guard, told, tell, hands))
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    async def _ordered(self, guard: Guard, told: Told, tell: Callable[[Drilled], None], hands: Hands) -> None:
        """One that goes wrong in a way that nobody thought of has failed."""
        try:
            report = await self._run(guard, told.for_s, told.by, hands, told.id)
        except asyncio.CancelledError:
            tell(Drilled(id=told.id, result=Result.INTERRUPTED, why="the agent was told to end"))
            raise
        except Exception as failure:
            tell(Drilled(id=told.id, result=Result.FAILED, why=f"{type(failure).__name__}: {failure}"))
            raise
        tell(
            Drilled(
                id=told.id,
                result=report.result,
                why=report.why,
                served=report.served,
                lost=report.lost,
                durations_s=report.durations_s,
            )
        )

    def _tell(self, guard: Guard, report: Report, who: str, order: str) -> None:
        workload, now_unix_s = workload_of(guard.pod), time.time()
        metrics = self._metrics.drills
        metrics.ended(workload, report.result, served=report.served, lost=report.lost, judges=not order)
        if report.result is not Result.REFUSED:
            self._ended_unix_s[workload] = self._last_unix_s[str(guard.pod)] = now_unix_s
        if report.result is Result.PASSED:
            self._passed_unix_s[workload] = now_unix_s
            if not order:
                metrics.passed(workload, now_unix_s, report.durations_s["open"], report.durations_s["restore"])
        if report.result is Result.FAILED:
            self._metrics.pages.labels(Code.DRILL_FAILED).inc()
        self._show(workload)
        self._journal.write(
            entry(
                "drill",
                guard.pod,
                who=who,
                code=CODES[report.result],
                why=report.why,
                generation=guard.standing.generation,
                evidence={
                    "result": report.result, "workload": workload,
                    "served": str(report.served), "lost": str(report.lost), **({"order": order} if order else {}),
                },
                durations_ms={f"{name}_ms": round(each * 1000, 3) for name, each in report.durations_s.items()},
                failed=report.why if report.result is Result.FAILED else "",
            )
        )  # fmt: skip

    # ---- in their turn ----

    async def start(self, settings: DrillSettings | None) -> None:
        """None: only by hand."""
        if settings is not None:
            self._remember(await asyncio.to_thread(self._journal.read))
        self._settings = settings
        self._task = asyncio.get_running_loop().create_task(self._keep())

    def change(self, settings: DrillSettings | None) -> None:
        self._settings = settings

    async def close(self) -> None:
        """A drill that is under way is ended, and what it opened closed."""
        tasks = [*self._running, *([self._task] if self._task is not None else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _remember(self, entries: Iterable[Entry]) -> None:
        for each in entries:
            if each.event == "drill" and each.code in (Code.DRILL_PASSED, Code.DRILL_FAILED):
                at, workload = datetime.fromisoformat(each.at).timestamp(), each.evidence.get("workload", "")
                self._ended_unix_s[workload] = self._last_unix_s[each.pod] = at
                if each.code == Code.DRILL_PASSED:
                    self._passed_unix_s[workload] = at

    async def _keep(self) -> None:
        while True:
            if self._settings is not None:
                for workload, guards in self._workloads().items():
                    await self._look_safely(workload, guards, self._settings)
            await asyncio.sleep(LOOK_S)

    async def _look_safely(self, workload: str, guards: list[Guard], settings: DrillSettings) -> None:
        """A drill that went wrong in a way that nobody thought of must not be the last one of all."""
        try:
            await self._look(workload, guards, settings)
        except Exception as failure:
            self._ended_unix_s[workload] = time.time()  # not again and again
            self._journal.write(entry("drill", guards[0].pod, failed=f"{type(failure).__name__}: {failure}"))

    def _workloads(self) -> Mapping[str, list[Guard]]:
        found: dict[str, list[Guard]] = {}
        for guard in self._guards():
            if guard.settings.drill:
                found.setdefault(workload_of(guard.pod), []).append(guard)
        return found

    async def _look(self, workload: str, guards: list[Guard], settings: DrillSettings) -> None:
        self._show(workload)
        if time.time() < self._due_unix_s(workload, settings):
            return
        candidates = [Candidate(each.pod, refusal(each), self._last_unix_s.get(str(each.pod))) for each in guards]
        chosen = canary(candidates)
        if chosen is not None:
            guard = next(each for each in guards if each.pod == chosen.pod)
            await self.run(guard, settings.for_s, "schedule")

    def _due_unix_s(self, workload: str, settings: DrillSettings) -> float:
        schedule = Schedule(settings.every_s, settings.jitter)
        last_s = self._ended_unix_s.get(workload)
        return first_s(schedule, workload, self._began_unix_s) if last_s is None else next_s(schedule, workload, last_s)

    def _show(self, workload: str) -> None:
        if self._settings is None:
            return
        schedule = Schedule(self._settings.every_s, self._settings.jitter)
        passed_s = self._passed_unix_s.get(workload)
        since_s = self._began_unix_s if passed_s is None else passed_s
        self._metrics.drills.knows(workload, passed_s, overdue_s(schedule, since_s))
