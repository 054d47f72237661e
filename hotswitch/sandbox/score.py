"""What the demo counts: requests over time, and per fault how many failed and for how long nothing was served.

Pure: rows of requests and instants in, numbers out. A request belongs to the fault during which it ended, so that one
in flight when a fault begins counts for it. All instants are seconds of one monotonic clock.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from hotswitch.sandbox.outcome import Kind, Row

WITHOUT, WITH = "without", "with"
WORLDS = (WITHOUT, WITH)


@dataclass(frozen=True, slots=True, order=True)
class Stream:
    """One flow of requests: who asks, and how many replicas the Service has. `client`: "plain" or "meshed"."""

    client: str
    replicas: int

    def __str__(self) -> str:
        return f"{self.client} client, {self.replicas} {'replica' if self.replicas == 1 else 'replicas'}"


STREAMS = tuple(Stream(client, replicas) for client in ("plain", "meshed") for replicas in (1, 2))


@dataclass(frozen=True, slots=True)
class Mark:
    """A fault that was made. `bypass`: hotswitch should act on it. `made`: instant by (world, pod). `undone_s`: when it
    was undone; None: not yet, or it needs no undoing."""

    name: str
    bypass: bool
    made: Mapping[tuple[str, str], float]
    undone_s: float | None = None

    @property
    def at_s(self) -> float:
        return min(self.made.values())

    def pods(self, world: str) -> dict[str, float]:
        return {pod: at_s for (where, pod), at_s in self.made.items() if where == world}


@dataclass(frozen=True, slots=True)
class Bucket:
    """Requests that began in one slice of time: `sidecar` through it, `past` it (rescue or direct), `failed`."""

    at_s: float
    sidecar: int = 0
    past: int = 0
    failed: int = 0

    @property
    def requests(self) -> int:
        return self.sidecar + self.past + self.failed


def timeline(rows: Iterable[Row], start_s: float, end_s: float, width_s: float) -> list[Bucket]:
    """Slices of `width_s` from start to end; a slice without requests has zeros."""
    if not (width_s > 0 and end_s > start_s):
        raise ValueError(f"timeline: from {start_s} to {end_s} in slices of {width_s} s is empty")
    count = max(1, round((end_s - start_s) / width_s))
    counts = [[0, 0, 0] for _ in range(count)]
    for row in rows:
        place = int((row.start_s - start_s) // width_s)
        if 0 <= place < count:
            counts[place][_column(row.kind)] += 1
    return [Bucket(start_s + at * width_s, *numbers) for at, numbers in enumerate(counts)]


def _column(kind: Kind) -> int:
    return {Kind.VIA_PROXY: 0, Kind.DIRECT: 1}.get(kind, 2)


@dataclass(frozen=True, slots=True)
class Tally:
    """`outage_s`: the longest time in which every request that began failed. `lasting`: it had not ended."""

    requests: int = 0
    failed: int = 0
    outage_s: float = 0.0
    lasting: bool = False


def tally(rows: Sequence[Row], since_s: float, until_s: float) -> Tally:
    """Requests that ended in [since, until); those that never ended count where they began."""
    mine = [row for row in rows if since_s <= (row.end_s or row.start_s) < until_s]
    outage_s, lasting = _longest_outage(mine, until_s)
    return Tally(len(mine), sum(not row.kind.ok for row in mine), outage_s, lasting)


def _longest_outage(rows: Sequence[Row], until_s: float) -> tuple[float, bool]:
    """From the begin of a failed request to the begin of the next one that was served."""
    longest_s, lasting, began_s = 0.0, False, None
    for row in sorted(rows, key=lambda row: row.start_s):
        if not row.kind.ok:
            began_s = row.start_s if began_s is None else began_s
        elif began_s is not None:
            longest_s, began_s = max(longest_s, row.start_s - began_s), None
    if began_s is not None and until_s - began_s > longest_s:
        longest_s, lasting = until_s - began_s, True
    return longest_s, lasting


@dataclass(frozen=True, slots=True)
class Line:
    """One line of the table. `gate_ms`: from the fault to the open gate, the slowest pod's; None: none was opened."""

    fault: str
    stream: Stream
    tallies: Mapping[str, Tally]  # by world
    bypass: bool
    gate_ms: float | None = None


Rows = Mapping[tuple[str, Stream], Sequence[Row]]


def lines(rows: Rows, marks: Sequence[Mark], end_s: float, gates: Mapping[str, float]) -> list[Line]:
    """The table, fault by fault in order of time; `gates`: milliseconds by fault."""
    found = []
    for place, mark in enumerate(marks):
        until = marks[place + 1] if place + 1 < len(marks) else None
        for stream in STREAMS:
            tallies = {
                world: tally(rows[world, stream], _begin_s(mark, world), _begin_s(until, world) if until else end_s)
                for world in WORLDS
            }
            found.append(Line(mark.name, stream, tallies, mark.bypass, gates.get(mark.name)))
    return found


def _begin_s(mark: Mark, world: str) -> float:
    return min(mark.pods(world).values())


def totals(rows: Rows, since_s: float, until_s: float) -> list[Line]:
    """Each stream over the whole walk."""
    return [
        Line("all", stream, {world: tally(rows[world, stream], since_s, until_s) for world in WORLDS}, True)
        for stream in STREAMS
    ]


def failed_in(lines: Iterable[Line], world: str) -> int:
    return sum(line.tallies[world].failed for line in lines)


Spans = Sequence[tuple[float, float]]


def spans(changes: Sequence[tuple[float, bool]], end_s: float) -> list[tuple[float, float]]:
    """Stretches during which something was so, from (instant, is it so) in order of time."""
    found: list[tuple[float, float]] = []
    began_s: float | None = None
    for at_s, holds in changes:
        if holds and began_s is None:
            began_s = at_s
        elif not holds and began_s is not None:
            found.append((began_s, at_s))
            began_s = None
    return [*found, (began_s, end_s)] if began_s is not None else found


def served_within(rows: Iterable[Row], stretches: Spans) -> int:
    """Requests that began in one of the stretches and were served."""
    return sum(row.kind.ok and any(began <= row.start_s < ended for began, ended in stretches) for row in rows)
