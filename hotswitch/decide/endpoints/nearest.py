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

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from hotswitch.backends import BackendId
from hotswitch.decide.endpoints.capacity import Bounds, by_readiness
from hotswitch.decide.endpoints.place import DEFAULT, Caller, Distance, Group, Order, Place, capacity_of, distance, own

FULL = 100
EPSILON = 1e-6  # 0.14 * 100 is 14


@dataclass(frozen=True, slots=True)
class Part:
    """Of the backends of `place`: all, `without` one, or `only` one."""

    place: Place
    only: BackendId | None = None
    without: BackendId | None = None


@dataclass(frozen=True, slots=True)
class Rung:
    """One distance. `share`: percent of the caller's requests; 0: only when all those with a share have failed.
    `carries`: percent of what arrives here that it can bear, kept for the next time. `capacity`: requests at once."""

    distance: Distance
    parts: tuple[Part, ...] = ()
    ready: int = 0
    expected: int = 0
    capacity: int | None = None
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


def ladder(
    caller: Caller,
    groups: Sequence[Group],
    order: Order = DEFAULT,
    bounds: Bounds | None = None,
    before: Ladder = NOBODY,
) -> Ladder:
    """`groups`: all places of the Service; `bounds`: of the caller's place; `before`: what it was told last."""
    kept = {each.distance: each.carries for each in before.rungs}
    rungs = [_bearing(each, bounds or {}, kept.get(each.distance)) for each in _rungs(caller, groups, order)]
    return Ladder(tuple(_shared(rungs)))


# ---- who is where ----


def _rungs(caller: Caller, groups: Sequence[Group], order: Order) -> list[Rung]:
    mine = own(caller, (each for group in groups if _may_hold(caller, group) for each in group.backends))
    found: dict[int, Rung] = {}
    for group in groups:
        for where, rung in _parts(caller, group, mine):
            turn = order.turn(where)
            if turn is not None:
                found[turn] = _joined(found.get(turn, Rung(order.all[turn], capacity=0)), rung)
    return [found[turn] for turn in sorted(found)]


def _may_hold(caller: Caller, group: Group) -> bool:
    """Its own pod is on its own host."""
    return (group.locality.cluster, group.locality.node) == (caller.locality.cluster, caller.locality.node)


def _parts(caller: Caller, group: Group, mine: BackendId | None) -> Iterable[tuple[Distance, Rung]]:
    """The caller's own pod is a part of its own, and the rest of its group another."""
    where = distance(caller, group.locality, group.stale)
    own_pod = next((each for each in group.backends if each.id == mine), None) if _may_hold(caller, group) else None
    if own_pod is None:
        yield where, _rung(where, Part(group.key), len(group.backends), group.expected, group.capacity)
        return
    others = [each for each in group.backends if each.id != mine]
    yield Distance.POD, _rung(Distance.POD, Part(group.key, only=mine), 1, 1, own_pod.capacity)
    if group.expected > 1:
        part = Part(group.key, without=mine)
        yield where, _rung(where, part, len(others), group.expected - 1, capacity_of(others))


def _rung(where: Distance, part: Part, ready: int, expected: int, capacity: int | None) -> Rung:
    return Rung(where, (part,) if ready else (), ready, expected, capacity)


def _joined(one: Rung, more: Rung) -> Rung:
    known = one.capacity is not None and more.capacity is not None
    return replace(
        one,
        parts=(*one.parts, *more.parts),
        ready=one.ready + more.ready,
        expected=one.expected + more.expected,
        capacity=(one.capacity or 0) + (more.capacity or 0) if known else None,
    )


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
