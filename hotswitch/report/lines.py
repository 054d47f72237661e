"""A line of the journal on the wire between agent and controller (I8)."""

from __future__ import annotations

import msgspec

from hotswitch.api.agent.checked import count, seconds, text
from hotswitch.api.agent.v1 import agent_pb2 as wire
from hotswitch.model import PodRef
from hotswitch.report.journal import Entry

EVIDENCE_AT_MOST = 64
_SAME = (
    "at",
    "event",
    "uid",
    "who",
    "generation",
    "code",
    "why",
    "rules_before",
    "rules_after",
    "istio_rules",
    "failed",
)


def line_message(entry: Entry, number: int = 0) -> wire.Line:
    told = {name: getattr(entry, name) for name in _SAME}
    return wire.Line(**told, evidence=entry.evidence, durations_ms=entry.durations_ms, number=number)


def entry_of(line: wire.Line, pod: PodRef, who: str) -> Entry:
    """As the controller writes it down: of `pod`, said by `who`. Raises Malformed."""
    told = {name: getattr(line, name) for name in _SAME}
    told = {name: text(each) if isinstance(each, str) else count(name, each) for name, each in told.items()}
    evidence = {text(name): text(why) for name, why in list(line.evidence.items())[:EVIDENCE_AT_MOST]}
    durations = {text(name): seconds(name, each, at_most=1e12) for name, each in line.durations_ms.items()}
    by = f"{who}: {told['who']}" if told["who"] not in ("", "agent") else who
    return msgspec.convert(
        {**told, "pod": str(pod), "uid": pod.uid, "who": by, "evidence": evidence, "durations_ms": durations}, Entry
    )
