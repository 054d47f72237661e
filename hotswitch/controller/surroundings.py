"""What happens around one pod: budgets per workload, namespace and mesh, and how many look sick at once (I3).

Every worker notes what has changed of its pod in the same turn of the event loop, so the counts are exact when another
decides, however many workers there are. An act that is under way counts as open: two pods that fall ill at the same
moment do not both get the last place.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Protocol

from hotswitch.model import PodRef, Standing, Surroundings
from hotswitch.observe.crowd import Crowd, Note


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


class Neighbours(Crowd):
    """All pods that have a worker. `node_of`: a pod's node, "" while it has none."""

    def __init__(self, node_of: Callable[[PodRef], str] = lambda _: "") -> None:
        super().__init__()
        self._node_of = node_of
        self.drilled: dict[str, PodRef] = {}
        """Pods that may be open because of a drill: they count as open, whatever their workers have seen by then."""

    def note(self, worker: Neighbour) -> None:
        pod, began = worker.pod, worker.standing.recent_faults_s[-1:]
        known = self._notes.get(pod.uid)
        node = known.node if known is not None and known.node else self._node_of(pod)
        ill_s = began[0] if began else None
        counts = worker.counts_as_open or pod.uid in self.drilled
        self.put(pod.uid, Note((pod.namespace, pod.workload), node, counts, worker.sick, ill_s))

    def drills(self, pod: PodRef) -> None:
        self.drilled[pod.uid] = pod
        known = self._notes.get(pod.uid) or Note((pod.namespace, pod.workload), self._node_of(pod))
        self.put(pod.uid, replace(known, open=True))

    def unattended(self, uid: str) -> None:
        """Its worker has ended."""
        self.forget(uid)
        if (pod := self.drilled.get(uid)) is not None:
            self.drills(pod)

    def clear(self) -> None:
        self.drilled.clear()
        super().clear()

    def around(self, of: PodRef, limits: Limits, *, pods: int, now_s: float) -> Surroundings:
        """`pods`: all that are protected, this one included. The decider asks for one budget above the namespace's: the
        node's where that is used up, else the mesh's."""
        own = self._notes.get(of.uid) or Note((of.namespace, of.workload), self._node_of(of))
        beside = self.beside(of.uid, own)
        full = bool(own.node) and beside.open_on_node >= limits.node
        return Surroundings(
            open_on_node=beside.open_on_node if full else beside.open,
            open_in_namespace=beside.open_in_namespace,
            open_of_workload=beside.open_of_workload,
            node_budget=limits.node if full else limits.mesh,
            namespace_budget=limits.namespace,
            workload_budget=limits.workload,
            pods_on_node=pods,
            faulty_on_node=beside.sick + 1,
            workload_fault_ages_s=tuple(now_s - began for began in self.mates_ill_s(of.uid, own.workload)),
        )
