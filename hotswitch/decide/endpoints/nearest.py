"""Nearest first: which distances a caller's requests go to, in which shares, and what follows when they fail (S2.5-8).

Invariants (tests search for a breach): as long as somebody may serve, the answer is not empty; a nearer distance that
can carry the demand is not passed over; the same input gives the same answer; a small change of demand changes nothing.

A distance carries what arrives at it in full, or in part (spill-over, S2.8), by two rules:
- Where capacities and demand are known (capacity.py): up to 80 % of its capacity. It takes back what it spilled only
  as far as that fills it to 60 %. In between nothing moves, whatever the measuring noise.
- Else by readiness, as Envoy does it: in full while 1 of 1.4 of its backends is ready, then in proportion.
When all of them together cannot carry the demand, each gets its part of the rest: better overloaded than refused.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from hotswitch.backends import BackendId, Locality
from hotswitch.decide.endpoints.capacity import Bounds, by_readiness
from hotswitch.decide.endpoints.place import DEFAULT, Caller, Distance, Group, Order, capacity_of, distance, own

FULL = 100
EPSILON = 1e-6  # 0.14 * 100 is 14


@dataclass(frozen=True, slots=True)
class Part:
    """Of the backends of the group of that number: all, `without` one, or `only` one."""

    group: int
    only: BackendId | None = None
    without: BackendId | None = None


@dataclass(frozen=True, slots=True)
class Arranged:
    """All groups by distance from one place, in an order. It depends on where they are, not on who is ready: to be
    made once and used again while the places stay the same. `here`: those on the same host, where an own pod may be."""

    turns: tuple[tuple[Distance, tuple[Part, ...]], ...]
    here: tuple[int, ...]
    own_turn: int | None  # before which of `turns` an own pod comes; None: the order has no such distance


@dataclass(frozen=True, slots=True)
class Rung:
    """One distance. `share`: percent of the caller's requests; 0: only when all those with a share have failed.
    `carries`: percent of what arrives here that it can bear, kept for the next time. `capacity`: requests at once."""

    distance: Distance
    parts: tuple[Part, ...]
    ready: int
    expected: int
    capacity: int | None
    carries: int = FULL
    share: int = 0

    @property
    def sentence(self) -> str:
        count = f"{self.ready} of {self.expected} ready"
        if not self.ready:
            return f"{count}: nobody can serve"
        if self.carries < FULL:
            by = "what is ready" if self.capacity is None else f"its capacity, {self.capacity} at once"
            count += f", bears {self.carries} % of what arrives, by {by}"
        return f"{count}, gets {self.share} %" if self.share else f"{count}, asked when those before it fail"


@dataclass(frozen=True, slots=True)
class Ladder:
    """Rungs in the order asked, also those on which nobody can serve."""

    rungs: tuple[Rung, ...] = ()

    @property
    def tiers(self) -> tuple[tuple[Rung, ...], ...]:
        """By priority: those that share the requests now, then each of the others by itself."""
        sharing = tuple(each for each in self.rungs if each.share)
        return (sharing, *((each,) for each in self.rungs if each.ready and not each.share)) if sharing else ()


NOBODY = Ladder()


def arranged(here: Locality, groups: Sequence[Group], order: Order = DEFAULT) -> Arranged:
    numbers, every = order.turns(), order.all
    found: dict[int, list[Part]] = {}
    for number, group in enumerate(groups):
        turn = numbers.get(distance(here, group.locality, group.stale))
        if turn is not None:
            found.setdefault(turn, []).append(Part(number))
    near = tuple(
        number
        for number, group in enumerate(groups)
        if (group.locality.cluster, group.locality.node) == (here.cluster, here.node)
    )
    turns = tuple((every[turn], tuple(found[turn])) for turn in sorted(found))
    own_turn = sum(turn < every.index(Distance.POD) for turn in found) if Distance.POD in every else None
    return Arranged(turns, near, own_turn)


def ladder(
    caller: Caller,
    groups: Sequence[Group],
    arrangement: Arranged,
    bounds: Bounds | None = None,
    before: Ladder = NOBODY,
) -> Ladder:
    """`groups`: all places of the Service; `bounds`: of the caller's place; `before`: what it was told last."""
    kept = {each.distance: each.carries for each in before.rungs}
    rungs = _rungs(caller, groups, arrangement)
    return Ladder(tuple(_shared([_bearing(each, bounds or {}, kept.get(each.distance)) for each in rungs])))


# ---- who is where ----


def _rungs(caller: Caller, groups: Sequence[Group], arrangement: Arranged) -> list[Rung]:
    if arrangement.own_turn is not None:
        for number in arrangement.here:
            mine = own(caller, groups[number].backends)
            if mine is not None:
                return _with_own_pod(Part(number, only=mine), groups, arrangement)
    return [_rung(where, parts, groups) for where, parts in arrangement.turns]


def _with_own_pod(mine: Part, groups: Sequence[Group], arrangement: Arranged) -> list[Rung]:
    """The caller's own pod is a distance of its own, and the rest of its group another part."""
    rest = Part(mine.group, without=mine.only)
    rungs = []
    for where, parts in arrangement.turns:
        others = tuple(rest if each.group == mine.group else each for each in parts)
        rung = _rung(where, others, groups)
        rungs += [rung] if rung.expected else []
    at = arrangement.own_turn or 0
    return [*rungs[:at], _rung(Distance.POD, (mine,), groups), *rungs[at:]]


def _rung(where: Distance, parts: tuple[Part, ...], groups: Sequence[Group]) -> Rung:
    ready = expected = capacity = 0
    is_known = True
    for part in parts:
        group = groups[part.group]
        if part.only is None and part.without is None:
            counts = len(group.backends), group.expected, group.capacity
        else:
            counts = _counts(group, part)
        ready, expected = ready + counts[0], expected + counts[1]
        is_known &= counts[2] is not None
        capacity += counts[2] or 0
    return Rung(where, parts, ready, expected, capacity if is_known else None)


def _counts(group: Group, part: Part) -> tuple[int, int, int | None]:
    """Of a part that is not the whole of its group: ready, expected, capacity."""
    chosen = [each for each in group.backends if part.only in (None, each.id) and each.id != part.without]
    return len(chosen), 1 if part.only is not None else group.expected - 1, capacity_of(chosen)


# ---- how much goes where ----


def _bearing(rung: Rung, bounds: Bounds, before: int | None) -> Rung:
    if not rung.ready:
        return replace(rung, carries=0)
    plain = by_readiness(rung.ready, rung.expected)
    low, high = (int(FULL * each + EPSILON) for each in bounds.get(rung.distance, (plain, plain)))
    return replace(rung, carries=high if before is None else min(max(before, low), high))


def _shared(rungs: Sequence[Rung]) -> list[Rung]:
    """Shares add up to 100 as soon as anybody is ready."""
    parts, arriving = [], float(FULL)
    for rung in rungs:
        parts.append(arriving * rung.carries / FULL)
        arriving -= parts[-1]
    if not sum(parts):  # no capacity at all: the first that is there
        parts = [float(each is next((r for r in rungs if r.ready), None)) for each in rungs]
    return [replace(rung, share=share) for rung, share in zip(rungs, _percent(parts), strict=True)]


def _percent(parts: Sequence[float]) -> list[int]:
    """Whole percents in the proportion of `parts` that add up to 100; all 0 when the parts are."""
    total, said = sum(parts), 0.0
    shares: list[int] = []
    for part in parts:
        said += part
        shares.append(round(FULL * said / total) - sum(shares) if total else 0)
    return shares
