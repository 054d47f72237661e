"""What is measured: samples, figures made of them, and the goals they are held against. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any

P99_FROM = 100
"""With fewer values the 99th percentile is the largest one, so it is not given."""


@dataclass(frozen=True, slots=True)
class Sample:
    """Values in the order in which they were measured. `at_least`: how many of them are lower bounds only, because what
    was waited for had not come when the watch ended."""

    values: tuple[float, ...]
    at_least: int = 0

    @classmethod
    def of(cls, values: Iterable[float], at_least: int = 0) -> Sample:
        return cls(tuple(values), at_least)

    @property
    def n(self) -> int:
        return len(self.values)

    @property
    def median(self) -> float:
        return median(self.values) if self.values else math.nan

    @property
    def low(self) -> float:
        return min(self.values, default=math.nan)

    @property
    def high(self) -> float:
        return max(self.values, default=math.nan)

    @property
    def p99(self) -> float:
        """The nearest-rank 99th percentile."""
        if not self.values:
            return math.nan
        return sorted(self.values)[math.ceil(0.99 * self.n) - 1]

    @property
    def total(self) -> float:
        return sum(self.values)

    def __str__(self) -> str:
        if not self.values:
            return "-"
        bound = "> " if 2 * self.at_least > self.n else ""
        spread = f" ({number(self.low)} to {number(self.high)})" if self.n > 1 and self.low != self.high else ""
        tail = f", p99 {number(self.p99)}" if self.n >= P99_FROM else ""
        return f"{bound}{number(self.median)}{spread}{tail}"

    def as_json(self) -> dict[str, Any]:
        kept = {"n": self.n, "values": list(self.values)} if self.n <= 1000 else {"n": self.n}
        figures = {"median": self.median, "min": self.low, "max": self.high}
        p99 = {"p99": self.p99} if self.n >= P99_FROM else {}
        return {**kept, **figures, **p99, "lower_bounds": self.at_least}


def number(value: float) -> str:
    """Three digits are as many as a measurement here is worth; counts are given in full."""
    if not math.isfinite(value):
        return "-"
    if value == round(value) or abs(value) >= 1000:
        return f"{round(value):,}"
    return f"{value:.3g}"


@dataclass(frozen=True, slots=True)
class Figure:
    """One thing measured: `what` in `unit`, of `who`, in `case`."""

    what: str
    case: str
    who: str
    unit: str
    sample: Sample

    def as_json(self) -> dict[str, Any]:
        return {
            "what": self.what, "case": self.case, "who": self.who, "unit": self.unit, **self.sample.as_json(),
        }  # fmt: skip


@dataclass(frozen=True, slots=True)
class Goal:
    """`limit`: what was measured to be possible at best; `met` None: this run cannot say (not measured)."""

    text: str
    limit: str
    measured: str
    met: bool | None

    def as_json(self) -> dict[str, Any]:
        return {"goal": self.text, "limit": self.limit, "measured": self.measured, "met": self.met}


@dataclass(frozen=True, slots=True)
class Table:
    header: tuple[str, ...]
    lines: tuple[tuple[str, ...], ...]

    def __str__(self) -> str:
        rule = tuple("---" for _ in self.header)
        return "\n".join(f"| {' | '.join(cells)} |" for cells in (self.header, rule, *self.lines))


@dataclass(slots=True)
class Row:
    """What one row of the bench has to say."""

    name: str
    title: str
    tables: list[Table] = field(default_factory=list)
    figures: list[Figure] = field(default_factory=list)
    goals: list[Goal] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        return {
            "row": self.name,
            "title": self.title,
            "figures": [figure.as_json() for figure in self.figures],
            "goals": [goal.as_json() for goal in self.goals],
            "remarks": self.remarks,
        }


def find(figures: Sequence[Figure], what: str, who: str, case: str) -> Sample:
    """The sample of one figure; an empty one where it was not measured."""
    found = (each.sample for each in figures if (each.what, each.who, each.case) == (what, who, case))
    return next(found, Sample(()))


def ratio(worse: Sample, better: Sample) -> str:
    """How many times: medians, with "more than" where the worse one had not ended."""
    if not worse.values or not better.values or better.median <= 0:
        return "-"
    bound = "> " if worse.at_least else ""
    return f"{bound}{number(round(worse.median / better.median, 1))}x"
