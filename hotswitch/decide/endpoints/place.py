"""How far a backend is from a caller, and in which order distances are asked (S2.5, S2.8). Pure.

The default order is that of S2.5: own pod, same host, same cluster (its own zone first), other cluster; a cluster that
has not been heard of for a while comes last. Another order may be given per Service, and per request (S2.8).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from hotswitch.backends import Backend, BackendId, Locality, PublishedEndpoint, Staleness

ONLY = "only:"


class Distance(StrEnum):
    """Each but the last two encloses those before it."""

    POD = "own-pod"
    HOST = "same-host"
    ZONE = "same-zone"
    CLUSTER = "same-cluster"
    OTHER = "other-cluster"
    STALE = "stale-cluster"  # known from earlier; whether it still serves nobody can say


Place = tuple[Locality, bool]
"""Where, and whether that cluster has not been heard of for a while."""
NESTED = (Distance.POD, Distance.HOST, Distance.ZONE, Distance.CLUSTER)


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks. `pod`: namespace/name, "" when it is none or does not say. Its own word, not proven."""

    pod: str = ""
    addresses: tuple[str, ...] = ()
    locality: Locality = field(default_factory=Locality)


@dataclass(frozen=True, slots=True)
class Group:
    """Backends of one place that may serve. `expected`: those there are, without those that are going away anyway."""

    locality: Locality
    stale: bool
    backends: tuple[Backend, ...]
    expected: int
    capacity: int | None = None  # requests at once; None: of one of them it is not said

    @property
    def key(self) -> Place:
        return self.locality, self.stale


@dataclass(frozen=True, slots=True)
class Order:
    """Distances in the order in which they are asked. A backend belongs to the nearest one that encloses it, so
    "same-cluster" alone has no preference within the cluster. What is not named follows, unless `only`."""

    distances: tuple[Distance, ...] = tuple(Distance)
    only: bool = False

    @property
    def all(self) -> tuple[Distance, ...]:
        rest = () if self.only else (Distance.CLUSTER, Distance.OTHER, Distance.STALE)
        return (*self.distances, *(each for each in rest if each not in self.distances))

    def turns(self) -> Mapping[Distance, int]:
        """The number of each distance in the order; those that it leaves out are not in it."""
        every = self.all
        found = {}
        for distance in Distance:
            enclosing = NESTED[NESTED.index(distance) :] if distance in NESTED else (distance,)
            turn = next((every.index(each) for each in enclosing if each in every), None)
            if turn is not None:
                found[distance] = turn
        return found

    @classmethod
    def parse(cls, text: str) -> Order:
        """ "same-host, same-cluster", or "only: same-cluster". Raises ValueError."""
        stripped = text.strip()
        words = [each.strip() for each in stripped.removeprefix(ONLY).split(",")]
        unknown = [each for each in words if each not in tuple(Distance)]
        if unknown:
            raise ValueError(f"{unknown[0]!r} is not one of {', '.join(Distance)}")
        if len(set(words)) != len(words):
            raise ValueError(f"{text!r} names a distance twice")
        return cls(tuple(map(Distance, words)), stripped.startswith(ONLY))

    def __str__(self) -> str:
        return (ONLY if self.only else "") + ",".join(self.distances)


DEFAULT = Order()


def distance(here: Locality, locality: Locality, stale: bool = False) -> Distance:
    """Of a place from another; a caller's own pod is told apart by `own`."""
    if locality.cluster != here.cluster:
        return Distance.STALE if stale else Distance.OTHER
    if locality.node and locality.node == here.node:
        return Distance.HOST
    if locality.zone and (locality.region, locality.zone) == (here.region, here.zone):
        return Distance.ZONE
    return Distance.CLUSTER


def own(caller: Caller, backends: Iterable[Backend]) -> BackendId | None:
    """The caller's own pod among them. By name where it says one: pods on the host's network share its address."""
    for each in backends:
        name = f"{each.pod.namespace}/{each.pod.name}"
        if caller.pod == name if caller.pod else bool(set(each.addresses) & set(caller.addresses)):
            return each.id
    return None


def capacity_of(backends: Iterable[Backend]) -> int | None:
    total = 0
    for each in backends:
        if each.capacity is None:
            return None
        total += each.capacity
    return total


def grouped(endpoints: Iterable[PublishedEndpoint]) -> tuple[Group, ...]:
    """In a stable order of places; the backends of each in the order published."""
    ready: dict[Place, list[Backend]] = {}
    expected: dict[Place, int] = {}
    for each in endpoints:
        key = (each.backend.locality, each.backend.staleness is Staleness.STALE)
        members = ready.setdefault(key, [])
        if each.conditions.ready:
            members.append(each.backend)
        expected[key] = expected.get(key, 0) + (each.conditions.ready or not each.conditions.terminating)
    return tuple(
        Group(*key, tuple(ready[key]), expected[key], capacity_of(ready[key])) for key in sorted(ready, key=_sorted_by)
    )


def _sorted_by(key: Place) -> tuple[str, ...]:
    place, stale = key
    return (place.cluster, place.region, place.zone, place.node, place.network, str(stale))
