"""Which pods there are to be drilled, in which turns, and what the API remembers of their drills (S4.4, I6).

A workload's last drill is the latest of its pods. Kept up by the watch, whoever leads: a new leader knows at once.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

from hotswitch.api.drills import DrillOrder, DrillRecord, read_order, read_record
from hotswitch.api.values import InvalidValue, instant_unix_s
from hotswitch.cluster.pods import Pod
from hotswitch.config.drilling import Turns
from hotswitch.decide.drill import Schedule, next_s, overdue_s, turn_s, workload_of
from hotswitch.model import PodRef
from hotswitch.observe.podlife import reference

NEVER_S = float("-inf")


@dataclass(frozen=True, slots=True)
class Known:
    pod: PodRef
    turns: Turns
    record: DrillRecord | None
    order: DrillOrder | None

    @property
    def ran_unix_s(self) -> float:
        return _unix_s(self.record.ran) if self.record is not None else NEVER_S

    @property
    def passed_unix_s(self) -> float:
        return _unix_s(self.record.passed) if self.record is not None else NEVER_S

    @property
    def waits(self) -> DrillOrder | None:
        """A person's order that nobody has heeded: it stays with the pod, whatever drills come after it."""
        if self.order is None or self.record is None:
            return self.order
        return None if self.order.id in (self.record.id, self.record.heeded) else self.order


def _unix_s(told: str) -> float:
    return instant_unix_s(told) if told else NEVER_S


@dataclass
class Town:
    """All pods that are looked after, by uid."""

    pods: dict[str, Known] = field(default_factory=dict)
    said: dict[str, Known] = field(default_factory=dict)
    """Those of them that bear a record or an order: they are looked at each second, and a mesh has few."""
    _workloads: dict[str, dict[str, Known]] = field(default_factory=dict)
    """Of pods that take part in a schedule: likewise looked at each second."""

    def there(self, pod: Pod, turns: Turns) -> None:
        before = self.pods.get(pod.uid)
        shown = read_record(pod.annotations, pod.uid)
        record = _newer(before.record if before is not None else None, shown)
        self._put(Known(reference(pod), turns, record, _order(pod.annotations)))

    def remember(self, uid: str, record: DrillRecord) -> None:
        """What the leader has written, or is about to: the watch shows it later, and an older one before that."""
        if (known := self.pods.get(uid)) is not None:
            self._put(replace(known, record=record))

    def _put(self, known: Known) -> None:
        self.gone(known.pod.uid)
        self.pods[known.pod.uid] = known
        if known.record is not None or known.order is not None:
            self.said[known.pod.uid] = known
        if known.turns.every_s is not None:
            self._workloads.setdefault(workload_of(known.pod), {})[known.pod.uid] = known

    def gone(self, uid: str) -> None:
        known = self.pods.pop(uid, None)
        self.said.pop(uid, None)
        if known is None or known.turns.every_s is None:
            return
        mates = self._workloads[workload_of(known.pod)]
        mates.pop(uid)
        if not mates:
            del self._workloads[workload_of(known.pod)]

    def in_turn(self) -> Iterator[tuple[str, list[Known]]]:
        """Workloads with a schedule, and those of their pods that take part in it."""
        for workload, mates in self._workloads.items():
            yield workload, list(mates.values())

    def due_unix_s(self, workload: str, mates: list[Known], began_unix_s: float) -> float:
        """`began_unix_s`: since when somebody leads who could have drilled."""
        schedule, ran_s = schedule_of(mates), max(each.ran_unix_s for each in mates)
        if ran_s == NEVER_S:
            return turn_s(schedule, workload, began_unix_s)
        return next_s(schedule, workload, ran_s)

    def overdue_unix_s(self, mates: list[Known], began_unix_s: float) -> float:
        passed_s = max(each.passed_unix_s for each in mates)
        return overdue_s(schedule_of(mates), began_unix_s if passed_s == NEVER_S else passed_s)


def _newer(ours: DrillRecord | None, shown: DrillRecord | None) -> DrillRecord | None:
    if ours is None or shown is None:
        return ours or shown
    return ours if (ours.at, not ours.under_way) > (shown.at, not shown.under_way) else shown


def schedule_of(mates: list[Known]) -> Schedule:
    """Pods of a workload may say different things while it is rolled out: the most frequent counts."""
    return Schedule(min(each.turns.every_s or 0.0 for each in mates))


def _order(annotations: Mapping[str, str]) -> DrillOrder | None:
    """One that is not valid is none; its author hears of it (protecting.wrong_orders)."""
    try:
        return read_order(annotations)
    except InvalidValue:
        return None


def age_s(order: DrillOrder) -> float:
    return time.time() - instant_unix_s(order.at)
