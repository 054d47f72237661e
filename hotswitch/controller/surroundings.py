"""What happens around one pod: budgets per workload, namespace and mesh, and how many look sick at once (I3).

Counted from the workers, in the same turn of the event loop in which the decision is taken. An act that is under way
counts as open: two pods that fall ill at the same moment do not both get the last place.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Protocol

from hotswitch.model import PodRef, Standing, Surroundings


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


def surroundings(
    of: PodRef,
    others: Iterable[Neighbour],
    limits: Limits,
    *,
    pods: int,
    now_s: float,
    node_of: Callable[[PodRef], str] = lambda _: "",
) -> Surroundings:
    """`others`: every other pod that has a worker; `pods`: all that are protected, this one included. The decider asks
    for one budget above the namespace's: the node's where that is used up, else the mesh's."""
    known = [other for other in others if other.pod.uid != of.uid]
    near = [other for other in known if other.pod.namespace == of.namespace]
    mates = [other for other in near if of.workload and other.pod.workload == of.workload]
    node = node_of(of)
    opened = [other for other in known if other.counts_as_open]
    on_node = sum(node_of(other.pod) == node for other in opened) if node else 0
    full = bool(node) and on_node >= limits.node
    return Surroundings(
        open_on_node=on_node if full else len(opened),
        open_in_namespace=sum(other.counts_as_open for other in near),
        open_of_workload=sum(mate.counts_as_open for mate in mates),
        node_budget=limits.node if full else limits.mesh,
        namespace_budget=limits.namespace,
        workload_budget=limits.workload,
        pods_on_node=pods,
        faulty_on_node=sum(other.sick for other in known) + 1,
        workload_fault_ages_s=tuple(now_s - began for mate in mates for began in mate.standing.recent_faults_s[-1:]),
    )
