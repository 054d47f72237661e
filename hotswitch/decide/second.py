"""A hang is acted on when two observers agree (S4.2, S4.2b, I2). Pure.

The first is whoever sits beside the proxy: nobody answers on 15021, and the kernel shows the questions standing in its
queue. Both tell of the same socket, so that is one observer. The second is the controller, which asks 15021 from
elsewhere; where it cannot be asked, something beside the proxy that shares neither the kind nor the socket with the
first. A death needs none: that the kernel ends a process is no matter of opinion.
"""

from __future__ import annotations

from enum import Enum, auto

from hotswitch.decide.evidence import Patience, described, fresh_dump, path_blames_proxy, standing_ports
from hotswitch.model import HEALTH, Diagnosis, Facts, Fault, Opinion, ProbeOutcome, Thresholds, Tripwire

HANGS: frozenset[Fault] = frozenset({Fault.HUNG, Fault.STUCK_WORKER})
SECOND_OBSERVER = "second observer"
"""In the evidence of a hang that an agent sees: who agrees, or why nobody does."""


class Word(Enum):
    AGREES = auto()
    CONTRADICTS = auto()
    NOTHING = auto()


def may_hang(facts: Facts) -> bool:
    """Cheap: without one of these no reading ends in a hang."""
    return facts.tripwire is Tripwire.UNANSWERED or any(each.outcome is ProbeOutcome.TIMEOUT for each in facts.probes)


def word(fault: Fault, opinion: Opinion) -> Word:
    """With one worker of several stuck, those that the others serve say nothing against it."""
    if fault is Fault.STUCK_WORKER:
        return Word.AGREES if opinion.silent else Word.NOTHING
    if opinion.answered:
        return Word.CONTRADICTS
    return Word.AGREES if opinion.asked and opinion.silent == opinion.asked else Word.NOTHING


def beside(facts: Facts, hang: Diagnosis, thresholds: Thresholds) -> str:
    """What else shows the hang where the agent is, apart from 15021; "" when nothing does."""
    if facts.pressure.stopped:
        return "the kernel: every thread of the proxy is stopped"
    path = path_blames_proxy(facts, facts.at_s if hang.since_s is None else hang.since_s)
    if path is not None:
        return f"the request path: the proxied way fails ({path.proxied}), the direct way works"
    patience = Patience.of(facts, thresholds)
    at_least_s = patience.worker_s if hang.fault is Fault.STUCK_WORKER else patience.queue_s
    others = tuple(port for port in standing_ports(fresh_dump(facts), at_least_s) if port != HEALTH)
    return f"the kernel: connections stand in the queue of {described(others)}" if others else ""
