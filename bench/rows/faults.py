"""Faults under load: kill -9 with the kubelet's restart, a crash loop, outbound from the app, a hang (S4.2, S4.3).

Four actors, plain and meshed clients, one replica and two. The kubelet notices an exit within a second and restarts at
once the first time; in a crash loop its back-off is scaled (fleet.BACKOFF_SCALE). Istio's own readiness takes 45 to
60 s to notice a hang; nobody waits for it here, so that column says "more than".
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Sequence

from bench.actors import ACTORS, HOTSWITCH, NOBODY, SOURCE
from bench.actors import TITLES as TITLE_OF
from bench.figures import Figure, Goal, Row, Sample, find, number, ratio
from bench.fleet import BACKOFF_SCALE, MESHED, OUTBOUND, PLAIN, Fleet, Stream, Trial, open_fleet
from bench.settings import Settings
from bench.trials import LOST, OUTAGE, Plan, Say, by_settings, carry_out, not_carried, side_by_side

NAMES = ("kill", "loop", "outbound", "hang")
TITLES = {
    "kill": "kill -9 of the sidecar; the kubelet restarts it at once",
    "loop": f"crash loop: killed again after every restart; the kubelet's back-off is scaled to {BACKOFF_SCALE:g}",
    "outbound": "kill -9 of the sidecar; the app calls out",
    "hang": "hang (SIGSTOP), default profile",
}
PLAIN_ONE, MESHED_ONE = Stream(PLAIN, 1, 1000), Stream(MESHED, 1, 500)
PLAIN_TWO, MESHED_TWO = Stream(PLAIN, 2, 200), Stream(MESHED, 2, 200)
CALLS = Stream(OUTBOUND, 1, 1000)
LIVES_S = 0.3
MOST_MS, MOST_LOST, HANG_MS, TIMES_BETTER = 4.0, 4, 1200.0, 500


def _plans(name: str, settings: Settings) -> list[Plan]:
    groups: dict[str, list[tuple[Stream, ...]]] = {
        "kill": [(PLAIN_ONE,), (MESHED_ONE,), (PLAIN_TWO, MESHED_TWO)],
        "loop": [(PLAIN_ONE,), (Stream(MESHED, 1, 300), Stream(PLAIN, 2, 150), Stream(MESHED, 2, 150))],
        "outbound": [(CALLS,)],
        "hang": [tuple(Stream(client, count, 100) for count in (1, 2) for client in (PLAIN, MESHED))],
    }
    return [_plan(name, tuple(stream.times(settings.load) for stream in group), settings) for group in groups[name]]


def _plan(name: str, streams: tuple[Stream, ...], settings: Settings) -> Plan:
    few = 2 if settings.quick else 4
    match name:
        case "loop":
            trial = Trial("crash loop", lambda faults: faults.crash_loop(LIVES_S), streams, after_s=8.0)
            return by_settings(trial, settings, soon_s=5.0 if settings.quick else 8.0, ours=few)
        case "hang":
            trial = Trial("hang", lambda faults: faults.hang(), streams, after_s=7.0)
            return by_settings(trial, settings, soon_s=3.0, ours=few)
        case _:
            trial = Trial("kill -9", lambda faults: faults.kill(), streams, after_s=4.5)
            return by_settings(trial, settings, soon_s=2.0 if settings.quick else 3.5)


async def run(names: Collection[str], settings: Settings, say: Say) -> AsyncIterator[Row]:
    async with open_fleet() as fleet:
        for name in NAMES:
            if name in names:
                yield await _row(fleet, name, settings, say)


async def _row(fleet: Fleet, name: str, settings: Settings, say: Say) -> Row:
    row = Row(name, TITLES[name])
    for plan in _plans(name, settings):
        row.figures += await carry_out(fleet, plan, say)
    row.tables.append(side_by_side(row.figures, ACTORS))
    row.goals += _goals(name, row.figures, settings.load)
    row.remarks.append(_watched(plan))
    row.remarks += not_carried(row.figures)
    return row


def _watched(plan: Plan) -> str:
    rest = f"the others for {plan.soon_s:g} s: they act soon, and what they have not lost by then they do not lose"
    return f"watched after the fault: {TITLE_OF[NOBODY]} and {TITLE_OF[SOURCE]} for {plan.trial.after_s:g} s, {rest}"


# ---- goals ----


def _goals(name: str, figures: Sequence[Figure], load: float) -> list[Goal]:
    match name:
        case "kill":
            return [
                _quick_and_few(figures, f"kill -9; {PLAIN_ONE.times(load)}", "2.0 ms, 2 lost"),
                _few(figures, f"kill -9; {MESHED_ONE.times(load)}", "0 to 3 of 1,150", MOST_LOST),
                _few(figures, f"kill -9; {MESHED_TWO.times(load)}", "0", 0),
            ]
        case "loop":
            return [_times_better(figures, f"crash loop; {PLAIN_ONE.times(load)}")]
        case "outbound":
            return [_quick_and_few(figures, f"kill -9; {CALLS.times(load)}", "2.2 ms")]
    case = next(figure.case for figure in figures)
    outage = find(figures, OUTAGE, HOTSWITCH, case)
    text = f"{case}: outage at most {number(HANG_MS)} ms"
    return [Goal(text, "-", f"{outage} ms", _met(outage, outage.high <= HANG_MS))]


def _met(sample: Sample, holds: bool) -> bool | None:
    return holds if sample.values else None


def _quick_and_few(figures: Sequence[Figure], case: str, limit: str) -> Goal:
    outage, lost = find(figures, OUTAGE, HOTSWITCH, case), find(figures, LOST, HOTSWITCH, case)
    met = _met(outage, outage.median <= MOST_MS and lost.median <= MOST_LOST)
    text = f"{case}: median outage at most {number(MOST_MS)} ms, at most {MOST_LOST} lost (median)"
    return Goal(text, limit, f"{outage} ms, {lost} lost, n={lost.n}", met)


def _few(figures: Sequence[Figure], case: str, limit: str, most: int) -> Goal:
    lost = find(figures, LOST, HOTSWITCH, case)
    return Goal(
        f"{case}: at most {most} lost (median)", limit, f"{lost} lost, n={lost.n}", _met(lost, lost.median <= most)
    )


def _times_better(figures: Sequence[Figure], case: str) -> Goal:
    theirs, ours = find(figures, OUTAGE, SOURCE, case), find(figures, OUTAGE, HOTSWITCH, case)
    met = _met(ours, bool(theirs.values) and theirs.median >= TIMES_BETTER * ours.median)
    text = f"{case}: outage at least {TIMES_BETTER} times shorter than the source's way"
    return Goal(text, "-", f"{ratio(theirs, ours)} ({theirs} ms against {ours} ms)", met)
