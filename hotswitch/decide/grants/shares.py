"""Who gets how many of a scope's places beforehand (I3). Pure.

What is in use stays where it is; who lacks a place and says so comes next; the rest goes by the number of pods, each
place to whoever is shortest of its part (Webster's rule), so that one party more or one place less moves few others.
"""

from __future__ import annotations

import heapq
import zlib
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Party:
    """`pods`: how many it has in the scope: it never gets more. `wants`: so many more than it uses, at once."""

    name: str
    pods: int
    used: int = 0
    wants: int = 0
    at_most: int = 2**31


def shares(scope: str, budget: int, parties: Sequence[Party]) -> dict[str, int]:
    """By name. More than `budget` in all only where more is in use already. `scope` breaks ties, so that it is not
    the same party that gets the only place of every workload."""
    got = {each.name: each.used for each in parties}
    left = budget - sum(got.values())
    for each in sorted(parties, key=lambda party: _lot(scope, party.name)):
        more = max(0, min(each.wants, left, _most(each) - each.used))
        got[each.name] += more
        left -= more
    heap = [(_shortness(each, got[each.name]), _lot(scope, each.name), each) for each in parties if _open(each, got)]
    heapq.heapify(heap)
    while left > 0 and heap:
        _, lot, each = heapq.heappop(heap)
        got[each.name] += 1
        left -= 1
        if _open(each, got):
            heapq.heappush(heap, (_shortness(each, got[each.name]), lot, each))
    return got


def _most(party: Party) -> int:
    return min(party.pods, party.at_most)


def _open(party: Party, got: dict[str, int]) -> bool:
    return got[party.name] < _most(party)


def _shortness(party: Party, has: int) -> float:
    """The smaller, the more it is owed the next place."""
    return (2 * has + 1) / party.pods


def _lot(scope: str, name: str) -> tuple[int, str]:
    return zlib.crc32(f"{scope}\n{name}".encode()), name
