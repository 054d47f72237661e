"""Rounds of trials, and what they amount to: figures per stream and actor, one table with the actors side by side."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from bench.actors import BYPASS, HOTSWITCH, SOURCE, TITLES
from bench.figures import Figure, Sample, Table, find, number, ratio
from bench.fleet import Fleet, Outcome, Stream, Trial
from bench.settings import Settings

LOST, UNDER_WAY, OUTAGE, OPENED, SENT, BEFORE = (
    "requests lost",
    "lost that were under way at the fault",
    "outage",
    "fault to open gate",
    "requests",
    "lost before the fault",
)
Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Plan:
    """One trial, made in turn by every actor: `rounds` by the others, `ours` by hotswitch. Those who act soon need not
    be watched as long: `soon_s` instead of the trial's own `after_s`."""

    trial: Trial
    rounds: int
    ours: int
    soon_s: float

    def of(self, who: str) -> tuple[int, Trial]:
        trial = self.trial if who not in (HOTSWITCH, BYPASS) else replace(self.trial, after_s=self.soon_s)
        return (self.ours if who == HOTSWITCH else self.rounds), trial

    def case(self, stream: Stream) -> str:
        return f"{self.trial.fault}; {stream}"


async def carry_out(fleet: Fleet, plan: Plan, say: Say) -> list[Figure]:
    """All rounds: the actors take turns, so that a slow minute of the machine hits them alike."""
    found: dict[tuple[Stream, str], list[Outcome]] = defaultdict(list)
    for number_ in range(max(plan.rounds, plan.ours)):
        for who, world in fleet.worlds.items():
            rounds, trial = plan.of(who)
            if number_ >= rounds:
                continue
            for stream, outcome in (await fleet.try_out(world, trial)).items():
                found[stream, who].append(outcome)
                say(f"{plan.case(stream)}: {TITLES.get(who, who)}: {outcome.summary}")
    return [
        figure for (stream, who), outcomes in found.items() for figure in _figures(plan.case(stream), who, outcomes)
    ]


def _figures(case: str, who: str, outcomes: Sequence[Outcome]) -> list[Figure]:
    summaries = [outcome.summary for outcome in outcomes]
    endless = sum(summary.still_failing for summary in summaries)
    opened = [outcome.opened_ms for outcome in outcomes if outcome.opened_ms is not None]
    return [
        Figure(LOST, case, who, "requests", Sample.of((summary.failed for summary in summaries), endless)),
        Figure(UNDER_WAY, case, who, "requests", Sample.of(outcome.under_way for outcome in outcomes)),
        Figure(OUTAGE, case, who, "ms", Sample.of((summary.outage_s * 1000 for summary in summaries), endless)),
        Figure(OPENED, case, who, "ms", Sample.of(opened)),
        Figure(SENT, case, who, "requests", Sample.of(summary.requests for summary in summaries)),
        Figure(BEFORE, case, who, "requests", Sample.of(outcome.before for outcome in outcomes)),
    ]


def side_by_side(figures: Sequence[Figure], whos: Sequence[str]) -> Table:
    """A line for each case, a column for each actor; hotswitch against the source's way in the last."""
    cases = list(dict.fromkeys(figure.case for figure in figures))
    header = ("fault; client, replicas, rate", *(TITLES.get(who, who) for who in whos))
    compare = SOURCE in whos and HOTSWITCH in whos
    lines = []
    for case in cases:
        cells = [_cell(figures, case, who) for who in whos]
        lines.append((case, *cells, *((_comparison(figures, case),) if compare else ())))
    return Table((*header, *(("source's way / hotswitch",) if compare else ())), tuple(lines))


def _cell(figures: Sequence[Figure], case: str, who: str) -> str:
    lost, outage = find(figures, LOST, who, case), find(figures, OUTAGE, who, case)
    if not lost.values:
        return "-"
    sent, begun = find(figures, SENT, who, case), find(figures, UNDER_WAY, who, case)
    opened = find(figures, OPENED, who, case)
    gate = f"; open after {opened} ms" if who == HOTSWITCH and opened.values else ""
    under_way = f", {begun} under way at the fault" if who == HOTSWITCH else ""
    return f"**{lost}** of {number(sent.median)}{under_way}; {outage} ms{gate}; n={lost.n}"


def _comparison(figures: Sequence[Figure], case: str) -> str:
    def pair(what: str) -> str:
        return ratio(find(figures, what, SOURCE, case), find(figures, what, HOTSWITCH, case))

    return f"lost {pair(LOST)}, outage {pair(OUTAGE)}"


def not_carried(figures: Sequence[Figure]) -> list[str]:
    """Sentences on loads that failed before there was any fault: what follows of them is not worth much."""
    failed = [figure for figure in figures if figure.what == BEFORE and figure.sample.total]
    return [
        f"{each.case}, {TITLES.get(each.who, each.who)}: the machine did not carry this load: "
        f"{number(each.sample.total)} requests failed before the fault"
        for each in failed
    ]


def by_settings(trial: Trial, settings: Settings, *, soon_s: float, ours: int | None = None) -> Plan:
    return Plan(trial, settings.rounds, settings.ours if ours is None else ours, soon_s)
