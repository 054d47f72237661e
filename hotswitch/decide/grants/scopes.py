"""What a place is counted in: the mesh, a namespace, a workload. A pod that is open takes one in each (I3)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import NewType

from hotswitch.model import PodRef

Scope = NewType("Scope", str)

MESH = Scope("mesh")
"""Of an agent's places in it the node's cap is taken off already: it is what may be open on the agent."""


def namespace_scope(name: str) -> Scope:
    return Scope(f"namespace/{name}")


def workload_scope(namespace: str, workload: str) -> Scope:
    return Scope(f"workload/{namespace}/{workload}")


def scopes_of(pod: PodRef) -> tuple[Scope, Scope, Scope]:
    return MESH, namespace_scope(pod.namespace), workload_scope(pod.namespace, pod.workload)


def use(opened: Iterable[PodRef]) -> dict[Scope, int]:
    return dict(Counter(scope for pod in opened for scope in scopes_of(pod)))
