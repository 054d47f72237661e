"""What became of requests: one row each, and the figures that count: outage, failed, how it was served.

Outage as in the measurements this project compares itself with: from the fault (t0) to the start of the first request
after which nothing fails. A request that never got a turn (BUSY: all kept connections in use) is a failed one.
"""

from __future__ import annotations

from array import array
from collections import Counter
from dataclasses import dataclass, field
from enum import IntEnum
from pathlib import Path


class Kind(IntEnum):
    PENDING = 0  # never finished: the load program was killed
    VIA_PROXY = 1  # 200 through a sidecar (x-via)
    DIRECT = 2  # 200 without one: directly, or through the rescue
    REFUSED = 3
    RESET = 4  # or closed before a whole answer
    TIMEOUT = 5
    HTTP_ERROR = 6  # an answer, not 200
    BUSY = 7

    @property
    def ok(self) -> bool:
        return self in (Kind.VIA_PROXY, Kind.DIRECT)


COUNTED = tuple(kind for kind in Kind if kind is not Kind.PENDING)


@dataclass(frozen=True, slots=True)
class Row:
    """Seconds of CLOCK_MONOTONIC, as time.monotonic() tells them."""

    start_s: float
    end_s: float
    kind: Kind


@dataclass(frozen=True, slots=True)
class Summary:
    """`outage_s`: 0 when nothing failed since t0. `still_failing`: the last request failed, so it had not ended."""

    requests: int
    failed: int
    outage_s: float
    still_failing: bool
    kinds: dict[Kind, int] = field(default_factory=dict)

    def __str__(self) -> str:
        kinds = ", ".join(f"{kind.name.lower()} {count}" for kind, count in sorted(self.kinds.items()))
        return f"{self.failed} of {self.requests} failed, outage {self.outage_s * 1e3:.1f} ms ({kinds})"


@dataclass(frozen=True, slots=True)
class Results:
    rows: tuple[Row, ...]

    @classmethod
    def read(cls, path: Path) -> Results:
        """The file that the load program wrote. Raises FileNotFoundError if it did not come to an end."""
        numbers = array("q")
        numbers.frombytes(path.read_bytes())
        rows = (
            Row(numbers[at] / 1e9, numbers[at + 1] / 1e9, Kind(numbers[at + 2])) for at in range(0, len(numbers), 3)
        )
        return cls(tuple(rows))

    def since(self, t0_s: float) -> Results:
        """Requests that had not ended at t0: those in flight count."""
        return Results(tuple(row for row in self.rows if row.end_s >= t0_s or row.kind is Kind.PENDING))

    def started_between(self, first_s: float, last_s: float) -> Results:
        return Results(tuple(row for row in self.rows if first_s <= row.start_s < last_s))

    def summary(self, t0_s: float | None = None) -> Summary:
        """Figures of all requests, or of those from t0 on."""
        rows = self.rows if t0_s is None else self.since(t0_s).rows
        start = rows[0].start_s if rows and t0_s is None else (t0_s or 0.0)
        last_bad = max((at for at, row in enumerate(rows) if not row.kind.ok), default=-1)
        recovered = rows[last_bad + 1].start_s if last_bad + 1 < len(rows) else (rows[-1].end_s if rows else start)
        return Summary(
            requests=len(rows),
            failed=sum(not row.kind.ok for row in rows),
            outage_s=max(0.0, recovered - start) if last_bad >= 0 else 0.0,
            still_failing=bool(rows) and last_bad == len(rows) - 1,
            kinds=dict(Counter(row.kind for row in rows)),
        )
