"""What happens around one pod: budgets per workload, namespace and mesh, and how many look sick at once (I3).

Every worker notes what has changed of its pod in the same turn of the event loop, so the counts are exact when another
decides, however many workers there are. An act that is under way counts as open: two pods that fall ill at the same
moment do not both get the last place.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from hotswitch.model import PodRef, Standing, Surroundings

_Workload = tuple[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How many pods may be open at once; a workload's may be smaller than the mesh's, never larger."""

    mesh: int
    namespace: int
    workload: int
    node: int


class Neighbour(Protocol):
    @property
    def pod(self) -> PodRef: ...

    @property
    def standing(self) -> Standing: ...

    @property
    def counts_as_open(self) -> bool: ...

    @property
    def sick(self) -> bool: ...


@dataclass(frozen=True, slots=True)
class _Note:
    """What one pod adds to the counts. `ill_s`: when its last fault began; None: it has none."""

    workload: _Workload
    node: str
    open: bool
    sick: bool
    ill_s: float | None


class Neighbours:
    """All pods that have a worker. `node_of`: a pod's node, "" while it has none."""

    def __init__(self, node_of: Callable[[PodRef], str] = lambda _: "") -> None:
        self._node_of = node_of
        self._notes: dict[str, _Note] = {}
        self._open: Counter[tuple[str, ...]] = Counter()  # by `_places`
        self._sick = 0
        self._ill: dict[_Workload, dict[str, float]] = {}

    def note(self, worker: Neighbour) -> None:
        pod, began = worker.pod, worker.standing.recent_faults_s[-1:]
        known = self._notes.get(pod.uid)
        node = known.node if known is not None and known.node else self._node_of(pod)
        ill_s = began[0] if began else None
        found = _Note((pod.namespace, pod.workload), node, worker.counts_as_open, worker.sick, ill_s)
        if found != known:
            self.forget(pod.uid)
            self._notes[pod.uid] = found
            self._count(pod.uid, found, 1)

    def forget(self, uid: str) -> None:
        """Its worker has ended."""
        known = self._notes.pop(uid, None)
        if known is not None:
            self._count(uid, known, -1)

    def clear(self) -> None:
        for uid in list(self._notes):
            self.forget(uid)

    def _count(self, uid: str, note: _Note, by: int) -> None:
        self._sick += by * note.sick
        for place in _places(note) if note.open else ():
            self._open[place] += by
            if not self._open[place]:
                del self._open[place]
        if note.ill_s is not None:
            mates = self._ill.setdefault(note.workload, {})
            if by > 0:
                mates[uid] = note.ill_s
            else:
                mates.pop(uid, None)
            if not mates:
                del self._ill[note.workload]

    def around(self, of: PodRef, limits: Limits, *, pods: int, now_s: float) -> Surroundings:
        """`pods`: all that are protected, this one included. The decider asks for one budget above the namespace's: the
        node's where that is used up, else the mesh's."""
        own = self._notes.get(of.uid) or _Note((of.namespace, of.workload), self._node_of(of), False, False, None)
        mesh, namespace, node, workload = (self._open[place] - own.open for place in _places(own))
        full = bool(own.node) and node >= limits.node
        mates = self._ill.get(own.workload, {}) if of.workload else {}
        return Surroundings(
            open_on_node=node if full else mesh,
            open_in_namespace=namespace,
            open_of_workload=workload if of.workload else 0,
            node_budget=limits.node if full else limits.mesh,
            namespace_budget=limits.namespace,
            workload_budget=limits.workload,
            pods_on_node=pods,
            faulty_on_node=self._sick - own.sick + 1,
            workload_fault_ages_s=tuple(now_s - began for uid, began in mates.items() if uid != of.uid),
        )


def _places(note: _Note) -> tuple[tuple[str, ...], ...]:
    """What is counted for it: mesh, namespace, node, workload."""
    return ("mesh",), ("namespace", note.workload[0]), ("node", note.node), ("workload", *note.workload)
