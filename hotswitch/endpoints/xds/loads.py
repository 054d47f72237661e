"""What clients report of their load (LRS), and what follows for the levels: who asks how much, from where (S2.8).

A client that takes endpoints from us may report, each few seconds, how many requests it has under way, by cluster and
locality. The sums by the callers' places are the demand that shares are reckoned from (decide/endpoints/capacity.py),
smoothed, since a report is a moment. What a client that has left reported counts no more. `by_level` are requests that
ended, by the level that served them, since the start. Reports are believed: who reports too much makes the host that it
names spill over sooner, and nobody is refused by it.

Field numbers: envoy/service/load_stats/v3/lrs.proto, envoy/config/endpoint/v3/load_report.proto.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from hotswitch.backends import Locality, ServiceId
from hotswitch.decide.endpoints.place import Caller, Distance
from hotswitch.endpoints.xds.names import DOMAIN, Target, parse
from hotswitch.protowire import every, first, integer, message, string, whole

INTERVAL_S = 2
SMOOTHING = 0.5  # weight of the newest report
LEAST = 0.01  # requests at once; what has sunk below is forgotten
Load = Callable[[ServiceId, Mapping[Locality, float]], None]


@dataclass(frozen=True, slots=True)
class Report:
    """Of one cluster: requests under way, and ended ones by level."""

    target: Target
    under_way: int
    ended: Mapping[str, int]


@dataclass(slots=True)
class Reporter:
    """One client. `under_way`: smoothed, by Service."""

    caller: Caller | None = None
    under_way: dict[ServiceId, float] = field(default_factory=dict)


def answer() -> bytes:
    """LoadStatsResponse: report all clusters, each INTERVAL_S."""
    return message(2, whole(1, INTERVAL_S)) + whole(4, 1)


def reports(data: bytes, domain: str = DOMAIN) -> list[Report]:
    """LoadStatsRequest. Clusters that are not ours are left out. Raises Malformed."""
    found = []
    for stats in every(data, 2):
        target = parse(string(first(stats, 1)), domain)
        if target is not None:
            localities = tuple(every(stats, 2))
            found.append(Report(target, sum(integer(each, 3) for each in localities), _ended(localities)))
    return found


def _ended(localities: Iterable[bytes]) -> Mapping[str, int]:
    counts: Counter[str] = Counter()
    for each in localities:
        counts[string(first(first(each, 1), 3))] += integer(each, 2) + integer(each, 4)
    return counts


class Loads:
    """`load` is told a Service's demand by places when it has changed; `placed`: where a caller is; `ours`: whether it
    is a Service that is published. Of others nothing is kept: a client may report what it likes."""

    def __init__(
        self,
        load: Load,
        placed: Callable[[Caller], Caller],
        domain: str = DOMAIN,
        ours: Callable[[ServiceId], bool] = lambda service: True,
    ) -> None:
        self.by_level: Counter[str] = Counter()
        self._load, self._placed, self._domain, self._ours = load, placed, domain, ours
        self._known: dict[int, Reporter] = {}

    def hear(self, reporter: Reporter, data: bytes) -> None:
        """A report. Raises Malformed."""
        self._known[id(reporter)] = reporter
        now: dict[ServiceId, float] = {}
        for each in reports(data, self._domain):
            service = each.target.service
            if not self._ours(service):
                continue
            now[service] = now.get(service, 0.0) + each.under_way
            self._count(each.ended)
        known = tuple(reporter.under_way)
        for service in {*now, *known}:
            before = reporter.under_way.get(service)
            newest = now.get(service, 0.0)
            if service not in now and (not self._ours(service) or (before or 0.0) < LEAST):
                del reporter.under_way[service]
                continue
            reporter.under_way[service] = newest if before is None else before + SMOOTHING * (newest - before)
        self._tell({*now, *known})

    def forget(self, reporter: Reporter) -> None:
        if self._known.pop(id(reporter), None) is not None:
            self._tell(reporter.under_way)

    def _count(self, ended: Mapping[str, int]) -> None:
        for level, number in ended.items():
            if level in tuple(Distance):
                self.by_level[level] += number

    def _tell(self, services: Iterable[ServiceId]) -> None:
        for service in services:
            demand: dict[Locality, float] = {}
            for each in self._known.values():
                amount = each.under_way.get(service, 0.0)
                if amount and each.caller is not None:
                    place = self._placed(each.caller).locality
                    demand[place] = demand.get(place, 0.0) + amount
            self._load(service, demand)
