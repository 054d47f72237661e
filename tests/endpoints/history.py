"""Is this history one of a register that one pod serves at a time? (I7, S0.3, S0.5, S0.7)

Every answered request, with when it was sent and when its answer came. An order is only known of requests of which one
was answered before the other was sent; what overlaps may have happened either way round.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Answered:
    """`kind`: write or read. `n`: the request's number; `seq`: of the newest entry, its own for a write."""

    kind: str
    n: int
    sent_s: float
    came_s: float
    pod: str
    generation: int
    seq: int


def breaches(history: Sequence[Answered], rows: Iterable[tuple[int, int, str, int]]) -> list[str]:
    """What cannot be. `rows`: (seq, n, pod, generation) as the storage has them in the end."""
    return [
        *_two_of_one_generation(history),
        *_goes_back(history),
        *_lost(history, {seq: (n, pod, generation) for seq, n, pod, generation in rows}),
    ]


def _two_of_one_generation(history: Sequence[Answered]) -> list[str]:
    pods: dict[int, set[str]] = {}
    for each in history:
        pods.setdefault(each.generation, set()).add(each.pod)
    return [f"generation {each} was answered by {sorted(names)}" for each, names in pods.items() if len(names) > 1]


def _goes_back(history: Sequence[Answered]) -> list[str]:
    """By a sweep over time: what was answered before a request was sent is known to have come first."""
    found = []
    by_end = sorted(history, key=lambda each: each.came_s)
    newest_generation, newest_seq, at = 0, 0, 0
    for each in sorted(history, key=lambda each: each.sent_s):
        while at < len(by_end) and by_end[at].came_s < each.sent_s:
            newest_generation = max(newest_generation, by_end[at].generation)
            newest_seq = max(newest_seq, by_end[at].seq)
            at += 1
        if each.generation < newest_generation:
            found.append(f"{each.kind} {each.n}: generation {each.generation} of {each.pod} after {newest_generation}")
        if each.seq < newest_seq or (each.kind == "write" and each.seq == newest_seq):
            found.append(f"{each.kind} {each.n}: number {each.seq} of {each.pod} after {newest_seq}")
    return found


def _lost(history: Sequence[Answered], rows: dict[int, tuple[int, str, int]]) -> list[str]:
    writes = [each for each in history if each.kind == "write"]
    return [
        f"write {each.n}: acknowledged as {each.seq} by {each.pod} in {each.generation}; stored: {rows.get(each.seq)}"
        for each in writes
        if rows.get(each.seq) != (each.n, each.pod, each.generation)
    ]


def longest_gap(history: Sequence[Answered]) -> float:
    """For how long nothing was answered at most, s, between the first and the last of these. In the order of their
    answers."""
    return max((later.came_s - each.came_s for each, later in itertools.pairwise(history)), default=0.0)
