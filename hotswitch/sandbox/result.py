"""The end of the demo in words: the table, what kept the endpoints, and whether all was as it should be."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rich import box
from rich.table import Table

from hotswitch.model import Act
from hotswitch.report.journal import Entry
from hotswitch.sandbox.protector import VERIFIED, openings, pod_name
from hotswitch.sandbox.score import WITH, WITHOUT, Line, Mark, Rows, Spans, Stream, Tally, served_within

_WRITES = (Act.OPEN, Act.CLOSE)
FOOTNOTE = (
    "Failed: refused, reset, answered with an error, or not answered in time. Outage: the longest time in which every "
    "request that began failed; * it had not ended when the next fault came. Fault to gate: the slower of "
    "the two pods, by the agent's journal."
)
ALL_WELL = (
    "hotswitch acted where it should, left alone what it should; every gate is closed, and Istio's rules are what they "
    "were (the agent's journal and the kernel agree)."
)


@dataclass(frozen=True, slots=True)
class Endpoints:
    """How long the hit pods of each world were NotReady, and what that came to. `served`: requests that hotswitch's
    world answered meanwhile in the Service of one replica, which would have had no endpoint without adoption."""

    unready_s: Mapping[str, float]
    times: Mapping[str, int]
    served: int

    def __str__(self) -> str:
        return (
            f"Endpoints. Without hotswitch one-0 was NotReady {self.times[WITHOUT]} times, "
            f"{self.unready_s[WITHOUT]:.1f} s in all, and its Service had no endpoint. With hotswitch it was NotReady "
            f"{self.times[WITH]} times, {self.unready_s[WITH]:.1f} s in all; while its gate was open it stayed in (the "
            f"endpoint part of hotswitch, played by the sandbox), and {self.served} requests were served that way."
        )


def endpoints(unready: Mapping[str, Spans], rows: Rows) -> Endpoints:
    """`unready`: by world, when the pod of the Service of one replica was NotReady."""
    lengths = {world: sum(ended - began for began, ended in stretches) for world, stretches in unready.items()}
    streams = [Stream(client, 1) for client in ("plain", "meshed")]
    served = sum(served_within(rows[WITH, stream], unready[WITH]) for stream in streams)
    return Endpoints(lengths, {world: len(stretches) for world, stretches in unready.items()}, served)


def gates(entries: Sequence[Entry], marks: Sequence[Mark], end_s: float) -> dict[str, dict[str, float]]:
    """By fault and pod: milliseconds from the fault to the first opening, by the agent's journal."""
    ends = [*(mark.at_s for mark in marks[1:]), end_s]
    return {mark.name: openings(entries, mark, WITH, end) for mark, end in zip(marks, ends, strict=True)}


def complaints(entries: Sequence[Entry], marks: Sequence[Mark], end_s: float) -> list[str]:
    """What was not as it should be by the agent's journal, a sentence each; empty: all was."""
    found: list[str] = []
    opened = gates(entries, marks, end_s)
    for mark in marks:
        pods = mark.pods(WITH)
        if mark.bypass:
            found += [f"{mark.name}: the gate of {pod} was not opened" for pod in pods if pod not in opened[mark.name]]
        else:
            found += [f"{mark.name}: the gate of {pod} was opened, and should not" for pod in opened[mark.name]]
    return found + _unproven(entries)


def _unproven(entries: Sequence[Entry]) -> list[str]:
    """After the last write of each gate: it was closed, and Istio's rules were found as they had been (I4)."""
    found = []
    for pod in sorted({pod_name(entry) for entry in entries if entry.event == Act.OPEN}):
        mine = [entry for entry in entries if pod_name(entry) == pod]
        last = [entry.event for entry in mine if entry.event in _WRITES and not entry.failed][-1]
        if last != Act.CLOSE:
            found.append(f"{pod}: by the journal its gate was not closed")
        written = max(place for place, entry in enumerate(mine) if entry.event in _WRITES)
        proof = next((entry for entry in mine[written:] if entry.event == VERIFIED), None)
        if proof is None:
            found.append(f"{pod}: by the journal its rules were not verified after the last restore")
        elif proof.evidence.get("istio_rules_unchanged") != "True":
            found.append(f"{pod}: by the journal Istio's rules are not what they were")
    return found


# ---- the table ----


def table(lines: Sequence[Line], *, plain: bool) -> Table:
    made = Table(
        title="Requests lost, fault by fault", title_justify="left", box=box.ASCII if plain else box.SIMPLE_HEAD
    )
    made.add_column("fault", no_wrap=True)
    made.add_column("client")
    for title in ("replicas", "requests", "failed without", "with", "outage without", "with"):
        made.add_column(title, justify="right")
    made.add_column("fault to gate", justify="right")
    for place, line in enumerate(lines):
        first = place == 0 or lines[place - 1].fault != line.fault
        ends = place + 1 == len(lines) or lines[place + 1].fault != line.fault
        made.add_row(line.fault if first else "", *_cells(line, first), end_section=ends)
    return made


def _cells(line: Line, first: bool) -> tuple[str, ...]:
    bare, kept = line.tallies[WITHOUT], line.tallies[WITH]
    gate = milliseconds(line.gate_ms) if line.gate_ms is not None else ("" if line.bypass else "left alone")
    return (
        line.stream.client, str(line.stream.replicas), str(kept.requests), str(bare.failed), str(kept.failed),
        _outage(bare), _outage(kept), gate if first else "",
    )  # fmt: skip


def _outage(tally: Tally) -> str:
    if not tally.failed:
        return "-"
    return milliseconds(tally.outage_s * 1000) + (" *" if tally.lasting else "")


def milliseconds(value: float) -> str:
    return f"{value / 1000:.2f} s" if value >= 1000 else f"{value:.0f} ms" if value >= 10 else f"{value:.1f} ms"
