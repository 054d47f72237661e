"""What the demo shows at one moment, as values: the fault under way, each pod, each stream, what hotswitch said."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from hotswitch.decide.codes import Code
from hotswitch.model import OPEN_LEVELS, Level
from hotswitch.report.journal import Entry
from hotswitch.sandbox.clients import LoadRun
from hotswitch.sandbox.outcome import COUNTED
from hotswitch.sandbox.pod import Pod
from hotswitch.sandbox.protector import Protector, at_s, pod_name
from hotswitch.sandbox.score import STREAMS, WORLDS, Mark, Stream
from hotswitch.sandbox.world import World

SHOWN = {Level.RESCUE: "RESCUED", Level.DIRECT: "DIRECT", Level.HOLD: "HELD", Level.CAPTURE: "captured"}
RECENT_S = 1.0
_ENDED = [kind.name.lower() for kind in COUNTED]
_OK = [kind.name.lower() for kind in COUNTED if kind.ok]


@dataclass(frozen=True, slots=True)
class Counter:
    """`recent`: share of the last second's answers that were good; None: there were none."""

    served: int
    failed: int
    recent: float | None


@dataclass(frozen=True, slots=True)
class PodLine:
    """`kubelet`: what the pod's status says; `proxy`: what Envoy's process is. The rest is hotswitch's, "" without."""

    pod: str
    kubelet: str
    proxy: str
    seen: str = ""
    decided: str = ""
    done: str = ""
    is_open: bool = False


@dataclass(frozen=True, slots=True)
class Remark:
    """One thing that hotswitch did or said. `since_fault_ms`: for openings that follow a fault."""

    at_s: float
    pod: str
    code: str
    sentence: str
    gate_ms: float | None = None
    since_fault_ms: float | None = None

    def __str__(self) -> str:
        times = [f"{self.since_fault_ms:,.1f} ms after the fault"] if self.since_fault_ms is not None else []
        times += [f"written in {self.gate_ms:.2f} ms"] if self.gate_ms is not None else []
        when = f" {', '.join(times)}:" if times else ""
        return f"{self.pod} {self.code}{when} {self.sentence}"


@dataclass(frozen=True, slots=True)
class Board:
    elapsed_s: float
    counters: Mapping[tuple[str, Stream], Counter]
    pods: Mapping[str, Sequence[PodLine]]  # by world


def board(worlds: Mapping[str, World], since_s: float) -> Board:
    return Board(
        elapsed_s=time.monotonic() - since_s,
        counters={(name, stream): counter(worlds[name].runs[stream]) for name in WORLDS for stream in STREAMS},
        pods={name: [_pod_line(worlds[name], pod) for pod in worlds[name].pods.values()] for name in WORLDS},
    )


def counter(run: LoadRun) -> Counter:
    ok, every = _sums(run.totals)
    at_least_s = run.history[-1][0] - RECENT_S if run.history else 0.0
    before = next((totals for instant, totals in reversed(run.history) if instant <= at_least_s), {})
    ok_before, every_before = _sums(before)
    answers = every - every_before
    return Counter(ok, every - ok, (ok - ok_before) / answers if answers else None)


def _sums(totals: Mapping[str, int]) -> tuple[int, int]:
    return sum(totals.get(name, 0) for name in _OK), sum(totals.get(name, 0) for name in _ENDED)


def _pod_line(world: World, pod: Pod) -> PodLine:
    line = PodLine(pod.name, kubelet_says(pod), world.proxy_state(pod))
    seen = world.protector.statuses.get(pod.name) if world.protector else None
    if world.protector is None or seen is None:
        return line
    levels = (Level(seen.inbound), Level(seen.outbound))
    return replace(
        line,
        seen=seen.fault,
        decided=last_code(world.protector, pod.name),
        done=", ".join(SHOWN[level] for level in levels),
        is_open=not OPEN_LEVELS.isdisjoint(levels),
    )


def last_code(protector: Protector, pod: str) -> str:
    """The code of the newest decision about the pod."""
    return next((each.code for each in reversed(protector.journal.entries) if each.code and pod_name(each) == pod), "")


def kubelet_says(pod: Pod) -> str:
    waiting = pod.proxy.status.waiting
    return waiting or ("Ready" if pod.is_ready else "NotReady")


def remark(entry: Entry, marks: Sequence[Mark], world: str) -> Remark | None:
    """A journal line worth showing; None for bookkeeping. An opening tells how long after its fault it was."""
    if not entry.code and not entry.failed:
        return None
    instant, pod = at_s(entry), pod_name(entry)
    made = [made_s for mark in marks if (made_s := mark.pods(world).get(pod)) is not None and made_s <= instant]
    opened = entry.code == Code.OPENED and bool(made) and not entry.failed
    return Remark(
        at_s=instant,
        pod=pod,
        code=entry.code,
        sentence=f"{entry.event} failed: {entry.failed}" if entry.failed else entry.why,
        gate_ms=entry.durations_ms.get("gate_ms"),
        since_fault_ms=(instant - made[-1]) * 1000 if opened else None,
    )
