"""The time line of one fault, from the first evidence to traffic and back, out of a journal (I8, S4.4, S4.5). Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

import msgspec

from hotswitch.report.journal import Entry

_ENDS = frozenset({"verified"})
_BEGINS = frozenset({"open", "hold"})
EVIDENCE_MS, GATE_MS = "evidence_to_gate_ms", "gate_ms"


def trace(entries: Sequence[Entry], pod: str) -> list[str]:
    """Of the pod's last fault: milliseconds since the first evidence, and what happened. No line: no fault."""
    episode = last_episode(of_pod(entries, pod))
    if not episode:
        return []
    began_s = at_s(episode[0]) - before_s(episode[0])
    lines = [f"{episode[0].pod}: {cause(episode)}", _line(0.0, "evidence", "the first evidence was there")]
    for each in episode:
        lines.append(_line((at_s(each) - began_s) * 1000, each.event, told(each)))
    return lines


def entries_of(texts: Iterable[Mapping[str, Any]]) -> list[Entry]:
    """As JSON tells them. Raises msgspec.ValidationError."""
    return [msgspec.convert(each, Entry) for each in texts]


def of_pod(entries: Iterable[Entry], pod: str) -> list[Entry]:
    """`pod`: namespace/name, name or uid."""
    return [each for each in entries if each.pod == pod or pod in (each.uid, each.pod.rpartition("/")[2])]


def last_episode(entries: Sequence[Entry]) -> list[Entry]:
    """From the first line of the last episode to the look that ended it, or to the end of what there is."""
    episodes: list[list[Entry]] = []
    under_way = False
    for each in entries:
        if not under_way and each.event in _BEGINS:
            episodes.append([])
            under_way = True
        if under_way:
            episodes[-1].append(each)
            closed = any(line.event == "close" and not line.failed for line in episodes[-1])
            under_way = not (closed and each.event in _ENDS)
    return episodes[-1] if episodes else []


def before_s(entry: Entry) -> float:
    """How long before the line was written the evidence for it was there."""
    return entry.durations_ms.get(EVIDENCE_MS, 0.0) / 1000


def at_s(entry: Entry) -> float:
    return datetime.fromisoformat(entry.at).timestamp()


def cause(episode: Sequence[Entry]) -> str:
    opened = next((each for each in episode if each.event == "open" and not each.failed), episode[0])
    return opened.why or opened.evidence.get("fault", "") or "a fault"


def told(entry: Entry) -> str:
    if entry.failed:
        return f"failed: {entry.failed}"
    if entry.event == "open":
        took = entry.durations_ms
        evidence, gate = took.get(EVIDENCE_MS, 0.0), took.get(GATE_MS, 0.0)
        return f"traffic goes on, {evidence:.2f} ms after the evidence ({gate:.2f} ms the gate): {entry.rules_after}"
    return entry.why or entry.rules_after or ", ".join(f"{key} {value}" for key, value in entry.evidence.items())


def _line(since_ms: float, event: str, told: str) -> str:
    return f"{since_ms:>12.2f} ms  {event:<14} {told[:160]}".rstrip()
