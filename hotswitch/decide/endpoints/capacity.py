"""How much of what arrives at a distance it can carry, when all callers take from the same backends (S2.8). Pure.

Water poured into nested vessels: what callers of one host ask is carried by that host as far as it goes, what is left
by their zone together with what is left of its other hosts, and so on outward. A backend's capacity is given out once.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from hotswitch.backends import Locality
from hotswitch.decide.endpoints.place import Distance, Group, Order, Place, distance

FILL, REFILL = 0.8, 0.6  # of a capacity: spill above the first, take back below the second
OVERPROVISIONED = 1.4  # Envoy's default overprovisioning factor
Bounds = Mapping[Distance, tuple[float, float]]
"""By distance, the parts (0 to 1) of what arrives there that it carries at REFILL and at FILL. A distance that is not
in it: by readiness."""


def by_readiness(ready: int, expected: int) -> float:
    return min(1.0, OVERPROVISIONED * ready / expected) if ready else 0.0


def bounds(groups: Sequence[Group], order: Order, demand: Mapping[Locality, float]) -> Mapping[Locality, Bounds]:
    """`demand`: requests at once, of all callers of a place together. Places that ask nothing are not in the answer."""
    asking = {where: each for where, each in demand.items() if each > 0}
    places = {where: _by_turn(where, groups, order) for where in asking}
    low, high = (_poured(groups, asking, places, part) for part in (REFILL, FILL))
    return {
        where: {order.all[turn]: (low[where].get(turn, part), part) for turn, part in high[where].items()}
        for where in asking
    }


def of_own_pod(group_capacity: int | None, demand: float) -> tuple[float, float] | None:
    """Of a caller's own pod. None: its capacity or the demand is not known."""
    if group_capacity is None or demand <= 0:
        return None
    return min(1.0, REFILL * group_capacity / demand), min(1.0, FILL * group_capacity / demand)


def _by_turn(where: Locality, groups: Iterable[Group], order: Order) -> Mapping[int, tuple[Place, ...]]:
    turns: dict[int, tuple[Place, ...]] = {}
    known = order.turns()
    for group in groups:
        turn = known.get(distance(where, group.locality, group.stale)) if group.backends else None
        if turn is not None:
            turns[turn] = (*turns.get(turn, ()), group.key)
    return turns


def _poured(
    groups: Iterable[Group],
    demand: Mapping[Locality, float],
    places: Mapping[Locality, Mapping[int, tuple[Place, ...]]],
    part: float,
) -> Mapping[Locality, dict[int, float]]:
    left = {each.key: part * whole for each in groups if (whole := each.capacity) is not None}
    waiting = dict(demand)
    carried: dict[Locality, dict[int, float]] = {where: {} for where in demand}
    for turn in range(len(Distance)):
        together: dict[tuple[Place, ...], list[Locality]] = {}
        for where in waiting:
            if turn in places[where]:
                together.setdefault(places[where][turn], []).append(where)
        for asked, callers in together.items():
            if all(each in left for each in asked):
                fraction = _take(left, asked, sum(waiting[each] for each in callers))
                for where in callers:
                    carried[where][turn] = fraction
                    waiting[where] *= 1 - fraction
    return carried


def _take(left: dict[Place, float], asked: tuple[Place, ...], wanted: float) -> float:
    """The part of `wanted` that is there; it is taken from each in proportion to what it has."""
    there = sum(left[each] for each in asked)
    if there <= 0 or wanted <= 0:
        return 1.0 if wanted <= 0 else 0.0
    fraction = min(1.0, there / wanted)
    for each in asked:
        left[each] *= 1 - fraction * wanted / there
    return fraction
