"""One time line of a fault out of what agent, controller and kubelet wrote, each by its own clock (I8, S4.4). Pure.

Nothing is moved in time: every line stands where its writer's clock put it, and says whose clock that was. How far the
clocks are apart is not known, but bounded by causes: nobody tells of an act before it. Where somebody seems to, the
clocks differ by that much at least, and the time line says so.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from hotswitch.api.status import PodStatus
from hotswitch.report import trace
from hotswitch.report.journal import Entry

BEFORE_S, AFTER_S = 5.0, 60.0  # around the episode: what others, by other clocks, may have said of it
SECOND = 1.0


class Clock(StrEnum):
    AGENT = "agent"
    CONTROLLER = "controller"
    NODE = "kubelet"


@dataclass(frozen=True, slots=True)
class Said:
    """`at_s`: Unix seconds by the writer's clock, cut down to whole `within_s`. `code`: what it is about."""

    at_s: float
    clock: Clock
    event: str
    told: str
    code: str = ""
    within_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Ended:
    """A container's end as the kubelet tells it."""

    container: str
    at: str
    why: str


def joined(
    pod: str,
    agent: Sequence[Entry],
    controller: Sequence[Entry] = (),
    events: Iterable[Mapping[str, Any]] = (),
    status: PodStatus | None = None,
    ended: Iterable[Ended] = (),
) -> list[str]:
    """Of the pod's last fault. `agent`: its own journal; where there is none, its lines as the controller's journal has
    them. `events`: as cli.cluster_read.history has them. No line: no fault."""
    own = list(agent) or [each for each in controller if _by_agent(each)]
    episode = trace.last_episode(trace.of_pod(own, pod)) or trace.last_episode(trace.of_pod(controller, pod))
    if not episode:
        return []
    clock = Clock.CONTROLLER if not own else Clock.AGENT
    began_s = trace.at_s(episode[0]) - trace.before_s(episode[0])
    acts = [Said(began_s, clock, "evidence", "the first evidence was there"), *(_said(each, clock) for each in episode)]
    others = [
        *(_said(each, Clock.CONTROLLER) for each in trace.of_pod(controller, pod) if not _by_agent(each) and own),
        *_of_events(events),
        *_of_status(status),
        *(Said(_unix_s(each.at), Clock.NODE, "ended", f"{each.container}: {each.why}", "", SECOND) for each in ended),
    ]
    near = [each for each in others if began_s - BEFORE_S <= each.at_s <= acts[-1].at_s + AFTER_S]
    known = [_said(each, clock) for each in trace.of_pod(own or controller, pod)]
    lines = [f"{episode[0].pod}: {trace.cause(episode)}", *_clocks(clock, known, near)]
    for each in sorted([*acts, *near], key=lambda said: said.at_s):
        about = "" if not each.within_s else " (to the second)"
        lines.append(
            f"{(each.at_s - began_s) * 1000:>12.2f} ms  {each.clock:<10} {each.event:<14} {each.told[:160]}{about}"
        )
    return lines


def _by_agent(entry: Entry) -> bool:
    """In a controller's journal, as controller.agents.trust.Speaker names them."""
    return entry.who.startswith(("agent on ", "agent in the pod"))


def _said(entry: Entry, clock: Clock) -> Said:
    return Said(trace.at_s(entry), clock, entry.event, trace.told(entry), entry.code)


def _of_events(events: Iterable[Mapping[str, Any]]) -> Iterable[Said]:
    for each in events:
        if each.get("at"):
            told = f"{each['code']} {each['message']}"
            yield Said(_unix_s(str(each["at"])), Clock.CONTROLLER, "Event", told, str(each["code"]), SECOND)


def _of_status(status: PodStatus | None) -> Iterable[Said]:
    if status is not None and status.at:
        levels = ", ".join(f"{way} {level}" for way, level in status.levels.items())
        yield Said(_unix_s(status.at), Clock.CONTROLLER, "status", f"{status.code} {levels}".strip(), status.code)


def _unix_s(told: str) -> float:
    return datetime.fromisoformat(told).timestamp()


def _clocks(own: Clock, acts: Sequence[Said], others: Sequence[Said]) -> list[str]:
    """What can be said of how far the clocks are apart; nothing where there is one. `acts`: all that are known, since
    what others tell may be of an act before this fault."""
    found = []
    for clock in sorted({each.clock for each in others} - {own}):
        late_s = [late for each in others if each.clock is clock and (late := _late_s(each, acts)) is not None]
        found.append(f"clocks: {_apart(clock, own, min(late_s, default=None))}")
    return found


def _late_s(told: Said, acts: Sequence[Said]) -> float | None:
    """After the newest act that it can be of; negative where all of them came later. None: it is of none."""
    waits = [told.at_s + told.within_s - act.at_s for act in acts if act.code and act.code == told.code]
    return min((each for each in waits if each >= 0), default=max(waits, default=None))


def _apart(clock: Clock, first: Clock, late_s: float | None) -> str:
    if late_s is None:
        return f"the {clock}'s and the {first}'s cannot be compared: nothing here was told by both"
    if late_s < 0:
        return (
            f"the {clock}'s is {-late_s * 1000:.0f} ms or more behind the {first}'s: it tells of an act before the act"
        )
    return (
        f"the {clock}'s is at most {late_s * 1000:.0f} ms ahead of the {first}'s; how far behind it may be is not known"
    )
