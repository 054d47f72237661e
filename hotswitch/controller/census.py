"""How many meshed pods live, and where: what a budget that is a share is a share of (I3).

Of a Job's completed pods there may be more than of all others, so only those count that could be open.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

from hotswitch.cluster.pods import Pod
from hotswitch.config.merged import Budgets
from hotswitch.controller.surroundings import Limits
from hotswitch.model import PodRef
from hotswitch.observe.podlife import workload

HASH = "pod-template-hash"  # a workload's name goes by it


class Census:
    def __init__(self) -> None:
        self._of_workload: Counter[tuple[str, str]] = Counter()
        self._of_namespace: Counter[str] = Counter()
        self._of_node: Counter[str] = Counter()
        self.living = 0
        """Meshed pods that have not completed."""

    def replace(self, before: Pod | None, after: Pod | None) -> None:
        """None: it was not there, or is gone."""
        if before is not None and after is not None and _as_before(before, after):
            return  # of every event of every pod, nearly all
        if before is not None:
            self._count(before, -1)
        if after is not None:
            self._count(after, 1)

    def _count(self, pod: Pod, by: int) -> None:
        if pod.is_completed:
            return
        self.living += by
        for counted, key in self._counters(pod):
            counted[key] += by
            if not counted[key]:
                del counted[key]

    def _counters(self, pod: Pod) -> tuple[tuple[Counter[Any], object], ...]:
        namespace = pod.metadata.namespace
        return (
            (self._of_workload, (namespace, workload(pod))),
            (self._of_namespace, namespace),
            (self._of_node, pod.spec.node_name),
        )

    def limits(self, pod: PodRef, node: str, budgets: Budgets) -> Limits:
        return Limits(
            mesh=budgets.mesh.of(self.living),
            namespace=budgets.namespace.of(self._of_namespace[pod.namespace]),
            workload=budgets.workload.of(self._of_workload[pod.namespace, pod.workload]),
            node=budgets.node.of(self._of_node[node]),
        )

    def counts(self, pod: PodRef) -> tuple[int, int, int]:
        """Of the mesh, the pod's namespace, its workload."""
        mates = self._of_workload[pod.namespace, pod.workload]
        return self.living, self._of_namespace[pod.namespace], mates


def _as_before(before: Pod, after: Pod) -> bool:
    """By all that it is counted by. Of one uid name and namespace do not change."""
    return (
        before.spec.node_name == after.spec.node_name
        and before.is_completed == after.is_completed
        and before.labels.get(HASH) == after.labels.get(HASH)
        and before.metadata.owner_references == after.metadata.owner_references
        and before.uid == after.uid
    )
