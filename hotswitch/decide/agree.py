"""Several observers of one proxy, none beside it alone: what do they agree on? (S4.2, S4.2a, S4.2b) Pure and total.

The kubelet tells container states and its own probes' result, seconds late. The controller asks 15021 from afar, over
a network that can be at fault itself. An observer in the pod, where there is one, sees what the kernel sees. An act
needs two of them: one that is wrong, or lies, opens nothing (I2, I3). A death that the kubelet tells and 15021 confirms
by refusing is proven; a hang, and everything else that looks like slowness, needs two that saw it with their own eyes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from hotswitch.decide.evidence import answers, trailing
from hotswitch.decide.levels import justified
from hotswitch.model import Diagnosis, Facts, Fault, Grade, ProbeOutcome, Thresholds

_SILENT = frozenset({ProbeOutcome.TIMEOUT, ProbeOutcome.UNREADY, ProbeOutcome.RESET})
_SEEN_FROM_AFAR = frozenset({Fault.DEAD, Fault.HUNG, Fault.STUCK_WORKER, Fault.CORE_DUMPING, Fault.UNCONFIGURED})
"""Faults that 15021 shows to anyone who asks; the others only an observer in the pod can see."""
_SEES_NOTHING = frozenset({Fault.STARTING, Fault.UNKNOWN})
"""An observer that came after the fault has never seen this proxy well: it is no witness against the others."""
_RESTING = frozenset({Fault.WELL, Fault.STARTING, Fault.UNKNOWN})


@dataclass(frozen=True, slots=True)
class Container:
    """The proxy's container by the pod's status. `running` None: no status yet. `ready`: by the kubelet's probe."""

    running: bool | None = None
    ready: bool = False
    since_s: float | None = None  # of the present state
    crash_looping: bool = False
    restarts: int = 0
    told: str = ""  # the state in the status' own words


@dataclass(frozen=True, slots=True)
class Witnesses:
    """`afar`: the facts of the central prober. `beside`: what the observer in the pod says; None: there is none."""

    now_s: float
    container: Container = Container()
    afar: Facts | None = None
    beside: Diagnosis | None = None


def agree(seen: Witnesses, thresholds: Thresholds) -> Diagnosis:
    afar = _afar(seen, thresholds)
    if seen.beside is not None and seen.beside.fault not in _RESTING:
        return _with_beside(seen, afar, seen.beside, thresholds)
    for found in (_dead(seen, afar, thresholds), _silent(seen, afar, thresholds)):
        if found is not None:
            return found
    if seen.beside is not None and seen.beside.fault is Fault.WELL and afar in (None, ProbeOutcome.OK):
        return seen.beside
    if afar is ProbeOutcome.OK and seen.container.running is not False:
        return Diagnosis(Fault.WELL, Grade.NONE, "the proxy answers and is ready", {"15021 from afar": "ok"})
    return Diagnosis(Fault.UNKNOWN, Grade.NONE, "too little is known of the proxy", _words(seen, afar))


def _afar(seen: Witnesses, thresholds: Thresholds) -> ProbeOutcome | None:
    """What 15021 has said from afar, `hung_probes` times in a row at least; None: nothing, or now this, now that."""
    if seen.afar is None or not (said := answers(seen.afar)):
        return None
    last = said[-1].outcome
    return last if last is ProbeOutcome.OK or len(trailing(said, last)) >= max(1, thresholds.hung_probes) else None


def _words(seen: Witnesses, afar: ProbeOutcome | None) -> dict[str, str]:
    beside = "" if seen.beside is None else f"{seen.beside.fault} ({seen.beside.grade})"
    told = {"container": seen.container.told, "15021 from afar": str(afar or ""), "beside the proxy": beside}
    return {name: value for name, value in told.items() if value}


def _since_s(seen: Witnesses) -> float:
    """Since when the newest answers from afar are what they are; the container's state may be older."""
    said = answers(seen.afar) if seen.afar is not None else ()
    run = trailing(said, said[-1].outcome) if said else ()
    known = [run[0].started_s] if run else []
    known += [seen.container.since_s] if seen.container.since_s is not None else []
    return min(known, default=seen.now_s)


def _graded(seen: Witnesses, fault: Fault, sentence: str, evidence: Mapping[str, str], bar_s: float) -> Diagnosis:
    """Two agree: CONFIRMED, and CORROBORATED once it has stood for `bar_s`."""
    since_s = _since_s(seen)
    grade = Grade.CORROBORATED if seen.now_s - since_s >= bar_s else Grade.CONFIRMED
    return Diagnosis(fault, grade, sentence, evidence, since_s)


def _dead(seen: Witnesses, afar: ProbeOutcome | None, thresholds: Thresholds) -> Diagnosis | None:
    """S4.2a. The status alone lags behind a restart, unless it says that the next one waits (a crash loop)."""
    words = _words(seen, afar)
    down, refused = seen.container.running is False, afar is ProbeOutcome.REFUSED
    if down and refused:
        sentence = "the proxy is dead: its container does not run, and 15021 refuses"
        return _graded(seen, Fault.DEAD, sentence, words, thresholds.direct_after_s)
    if down and seen.container.crash_looping and afar is not ProbeOutcome.OK:
        sentence = "the proxy crashes again and again: the kubelet waits before it starts it once more"
        return Diagnosis(Fault.DEAD, Grade.CONFIRMED, sentence, words, _since_s(seen))
    if down or refused:
        sentence = "its container is said not to run" if down else "15021 refuses from afar"
        return Diagnosis(Fault.DEAD, Grade.SUSPECTED, f"the proxy may be dead: {sentence}", words, _since_s(seen))
    return None


def _silent(seen: Witnesses, afar: ProbeOutcome | None, thresholds: Thresholds) -> Diagnosis | None:
    """Without an observer in the pod the kubelet's own readiness probe is the second witness of a hang. A proxy that
    answers "not ready" is alive: whether requests suffer cannot be seen from afar."""
    words = _words(seen, afar)
    if afar is ProbeOutcome.TIMEOUT:
        saw_nothing = seen.beside is None or seen.beside.fault in _SEES_NOTHING
        if saw_nothing and seen.container.running and not seen.container.ready:
            sentence = "the proxy hangs: neither the kubelet nor the controller gets an answer"
            return _graded(seen, Fault.HUNG, sentence, words, thresholds.direct_after_s)
        sentence = "15021 does not answer from afar, and nobody else has seen it hang"
        return Diagnosis(Fault.HUNG, Grade.SUSPECTED, sentence, words, _since_s(seen))
    if afar in (ProbeOutcome.UNREADY, ProbeOutcome.RESET):
        return Diagnosis(Fault.UNREADY, Grade.SUSPECTED, "the proxy says it is not ready", words, _since_s(seen))
    return None


def _with_beside(seen: Witnesses, afar: ProbeOutcome | None, beside: Diagnosis, thresholds: Thresholds) -> Diagnosis:
    """The one in the pod sees a fault. What anyone could see, a second one must have seen."""
    evidence = {**beside.evidence, **_words(seen, afar)}
    as_said = Diagnosis(beside.fault, beside.grade, beside.sentence, evidence, beside.since_s)
    if not justified(beside) or beside.fault not in _SEEN_FROM_AFAR:
        return as_said
    if _agrees(seen, afar, beside.fault):
        stood = beside.since_s is not None and seen.now_s - beside.since_s >= thresholds.direct_after_s
        grade = Grade.CORROBORATED if stood or beside.grade is Grade.CORROBORATED else Grade.CONFIRMED
        return Diagnosis(beside.fault, grade, beside.sentence, evidence, beside.since_s)
    return Diagnosis(beside.fault, Grade.SUSPECTED, f"{beside.sentence}; seen by one only", evidence, beside.since_s)


def _agrees(seen: Witnesses, afar: ProbeOutcome | None, fault: Fault) -> bool:
    down = seen.container.running is False
    if fault is Fault.DEAD:
        return down or afar in (ProbeOutcome.REFUSED, ProbeOutcome.RESET)
    unready = seen.container.running is True and not seen.container.ready
    if fault is Fault.STUCK_WORKER:  # half of the questions are answered
        said = answers(seen.afar) if seen.afar is not None else ()
        return unready or any(probe.outcome in _SILENT for probe in said)
    return unready or afar in _SILENT or (fault is Fault.CORE_DUMPING and down)
