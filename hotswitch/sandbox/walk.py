"""The faults that the demo walks through, in order, and how many of them fit into a given time.

Each step says in one line what is done to the proxies and in another what to expect. Times: `hold_s` is how long the
fault lasts before it is undone, `rest_s` what recovery and a look at the restored state take.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace

from hotswitch.sandbox.faults import Fault, Faults

SHORTEST_S = 20.0
BACKOFF_SCALE = 0.2
"""The kubelet waits 10 s, 20 s, 40 s ... before it restarts what crashes again and again; here five times less."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """`bypass`: hotswitch should open the gate; otherwise it should do nothing, and say why. `rank`: the lower, the
    sooner it is taken along when time is short. `after`: undoing it is an event of its own, with this name."""

    name: str
    happens: str
    expect: str
    make: Callable[[Faults], Awaitable[Fault]]
    rank: int
    hold_s: float
    rest_s: float
    bypass: bool = True
    after: str = ""


WALK: tuple[Step, ...] = (
    Step(
        name="killed",
        happens="kill -9 on Envoy; the kubelet notices within a second and restarts the container at once.",
        expect="the gate opens within milliseconds and bridges the restart; then capture is restored.",
        make=lambda faults: faults.kill(),
        rank=1,
        hold_s=3.0,
        rest_s=3.4,
    ),
    Step(
        name="hung",
        happens="every thread of Envoy is stopped (SIGSTOP), later continued: ports accept, nobody answers.",
        expect="proving a hang takes about a second; then the gate opens and stuck connections are cut.",
        make=lambda faults: faults.hang(),
        rank=2,
        hold_s=4.2,
        rest_s=3.4,
    ),
    Step(
        name="crash loop",
        happens="Envoy dies again 0.5 s after every start; the kubelet's back-off grows (5 times as fast here).",
        expect="the gate stays open all the while: a life of half a second is no recovery.",
        make=lambda faults: faults.crash_loop(lives_s=0.5),
        rank=4,
        hold_s=6.2,
        rest_s=4.2,
    ),
    Step(
        name="one worker stuck",
        happens="one of Envoy's two worker threads stands still: every other connection is never answered.",
        expect="readiness sees nothing of it; hotswitch sees one accept queue stand while the other moves.",
        make=lambda faults: faults.stick_worker(),
        rank=5,
        hold_s=6.0,  # of a proxy that has too much to do it is believed after 4 s, so on a machine that is busy
        rest_s=3.4,
    ),
    Step(
        name="drained",
        happens="an operator drains inbound on purpose (POST /drain_listeners), then restarts the proxy.",
        expect="hotswitch does nothing while it is drained, and says so; the restart it bridges like any death.",
        make=lambda faults: faults.drain(),
        rank=6,
        hold_s=2.8,
        rest_s=4.2,
        bypass=False,
        after="restarted",
    ),
    Step(
        name="app sick",
        happens="the app itself answers 500; its proxy is well.",
        expect="a bypass would help nobody: hotswitch does nothing, and says whose fault it is.",
        make=lambda faults: faults.sicken_app("error"),
        rank=3,
        hold_s=3.5,
        rest_s=2.0,
        bypass=False,
    ),
    Step(
        name="no configuration",
        happens="Envoy is killed and comes back while istiod cannot be reached: it never gets its listeners.",
        expect="the gate opens at the kill and stays open until configuration has arrived and requests pass.",
        make=lambda faults: faults.restart_without_lds(),
        rank=7,
        hold_s=3.5,
        rest_s=4.2,
    ),
    Step(
        name="throttled",
        happens="Envoy gets 5 % of a CPU (cgroup quota): slow, but not broken.",
        expect="hotswitch does nothing: slowness that a quota explains is no fault of the proxy.",
        make=lambda faults: faults.throttle(),
        rank=8,
        hold_s=3.5,
        rest_s=2.0,
        bypass=False,
    ),
)


def plan(seconds: float) -> tuple[Step, ...]:
    """Steps, most telling first, as many as fit; their faults last longer when there is time left. Raises ValueError
    for less than SHORTEST_S."""
    if not seconds >= SHORTEST_S:
        raise ValueError(f"seconds: {seconds:g} is less than {SHORTEST_S:g}")
    chosen: list[Step] = []
    for step in sorted(WALK, key=lambda step: step.rank):
        if length([*chosen, step]) > seconds:
            break
        chosen.append(step)
    stretch = (seconds - sum(step.rest_s for step in chosen)) / sum(step.hold_s for step in chosen)
    return tuple(replace(step, hold_s=step.hold_s * stretch) for step in WALK if step in chosen)


def length(steps: list[Step]) -> float:
    """Seconds that the steps take at least."""
    return sum(step.hold_s + step.rest_s for step in steps)
