"""A hang under the fast profile (opt-in): 15021 asked every 20 ms, one answer missing for 100 ms, a queue that stands.

That is dear, and on a busy machine it switches without need (bench.stress counts it): for single pods (S4.2b).
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Sequence

from bench.actors import HOTSWITCH, Hotswitch
from bench.figures import Goal, Row, find, number
from bench.fleet import MESHED, PLAIN, Stream, Trial, open_fleet
from bench.settings import Settings
from bench.trials import LOST, OUTAGE, Plan, Say, carry_out, not_carried, side_by_side
from hotswitch.sandbox.pod import Pod
from hotswitch.sandbox.sandbox import Sandbox

NAMES = ("fast",)
PACE = {"idle_s": 0.02, "fast_s": 0.01}
STREAMS = (Stream(PLAIN, 1, 500), Stream(MESHED, 1, 200))
MOST_MS = 130.0


def _hire(box: Sandbox, pods: Sequence[Pod]) -> Hotswitch:
    return Hotswitch(box, pods, policy={"profile": "fast"}, pace=PACE)


async def run(names: Collection[str], settings: Settings, say: Say) -> AsyncIterator[Row]:
    row = Row("fast", "hang (SIGSTOP), fast profile, 15021 asked every 20 ms; hotswitch alone")
    streams = tuple(stream.times(settings.load) for stream in STREAMS)
    trial = Trial("hang, fast profile", lambda faults: faults.hang(), streams, after_s=2.0)
    plan = Plan(trial, rounds=0, ours=settings.ours, soon_s=2.0)
    async with open_fleet({HOTSWITCH: _hire}, replicas=(1,)) as fleet:
        row.figures += await carry_out(fleet, plan, say)
    row.tables.append(side_by_side(row.figures, (HOTSWITCH,)))
    row.remarks += not_carried(row.figures)
    case = plan.case(streams[0])
    outage, lost = find(row.figures, OUTAGE, HOTSWITCH, case), find(row.figures, LOST, HOTSWITCH, case)
    text = f"{case}: median outage at most {number(MOST_MS)} ms"
    row.goals.append(Goal(text, "22 ms / 105 ms", f"{outage} ms, {lost} lost, n={lost.n}", outage.median <= MOST_MS))
    yield row
