"""What is wrong with a proxy, and how sure that is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum


class Fault(StrEnum):
    """What is wrong, named as users would; WELL is the absence of a fault."""

    WELL = "well"
    UNKNOWN = "unknown"  # too little is known to say anything
    STARTING = "starting"  # never ready yet
    DEAD = "dead"
    CORE_DUMPING = "core-dumping"
    HUNG = "hung"
    STUCK_WORKER = "stuck-worker"
    THROTTLED = "throttled"  # slow for a reason that is not the proxy's own
    DRAINED = "drained"  # by an operator, on purpose
    TERMINATING = "terminating"
    UNCONFIGURED = "unconfigured"  # alive, but LDS never arrived (istiod absent at start)
    UNREADY = "unready"  # answers, but says it is not healthy (S4.2b)
    MISROUTING = "misrouting"  # ready, yet what passes it fails and the direct way works
    CERTIFICATE_EXPIRED = "certificate-expired"  # S4.2c
    APP_SICK = "app-sick"  # the app itself is the problem


class Grade(StrEnum):
    """How sure we are; the bar depends on what an act gives away."""

    NONE = "none"
    SUSPECTED = "suspected"  # look faster, do nothing
    CONFIRMED = "confirmed"  # enough for acts that give no policy away
    CORROBORATED = "corroborated"  # a second independent source agrees, and enough time has passed: `direct` inbound


@dataclass(frozen=True, slots=True)
class Diagnosis:
    fault: Fault
    grade: Grade
    sentence: str
    evidence: Mapping[str, str] = field(default_factory=dict)
    since_s: float | None = None  # the oldest evidence of it
