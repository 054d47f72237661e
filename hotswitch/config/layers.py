"""Everybody who has said something about a pod, from the mesh to the pod itself, and where each value came from (I2).

The first three tiers speak with the mesh's authority: there a nearer one replaces what a farther one gives. All others
can only take away; so does a policy of the mesh that selects by labels alone, for those are the workload's own word.
Within a tier nobody stands above: safety is the most careful of what is said, a timing is that of the oldest policy, as
Istio does it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from enum import IntEnum, auto
from typing import TypeVar

from hotswitch.api.knobs import Knobs
from hotswitch.api.policy import PolicySpec
from hotswitch.config.objects import ObjectRef, PolicyObject

T = TypeVar("T")
DEFAULT = "default"
THE_POD = "the pod"
"""As a source it has no name: pods that say the same share one answer."""


class Tier(IntEnum):
    MESH = auto()  # in the root namespace, for all
    MESH_NAMESPACES = auto()  # in the root namespace, for some namespaces
    MESH_SELECTED = auto()  # in the root namespace, for pods by their labels in some namespaces
    MESH_LABELLED = auto()  # in the root namespace, for pods by their labels alone
    NAMESPACE = auto()  # in the pod's namespace, for all of it
    NAMESPACE_OBJECT = auto()  # label and annotations of the namespace
    WORKLOAD = auto()  # in the pod's namespace, for pods by their labels
    POD = auto()  # label and annotations of the pod


MESH_TIERS = (Tier.MESH, Tier.MESH_NAMESPACES, Tier.MESH_SELECTED)


@dataclass(frozen=True, slots=True)
class Layer:
    tier: Tier
    source: str
    spec: PolicySpec


@dataclass(frozen=True, slots=True)
class Provenance:
    """`value` as people are shown it, `source` who said it, `notes` what it replaced or was cut by."""

    value: str
    source: str = DEFAULT
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Bearing:
    """A pod or a namespace, and what its label and annotations say."""

    ref: ObjectRef
    labels: Mapping[str, str]
    knobs: Knobs


def layers(
    policies: Iterable[PolicyObject], root_namespace: str, namespace: Bearing | None, pod: Bearing
) -> tuple[Layer, ...]:
    """Farthest first, so the nearest and among equals the oldest is last. `policies`: those that speak of the pod,
    scoped already."""
    in_force = [(policy, _tier(policy, root_namespace)) for policy in policies]
    in_force.sort(key=lambda each: (each[1], -each[0].created_unix_s, each[0].ref.name))
    found = [Layer(tier, str(policy.ref), policy.spec) for policy, tier in in_force]
    if namespace is not None:
        found.append(Layer(Tier.NAMESPACE_OBJECT, str(namespace.ref), namespace.knobs.spec))
    found.append(Layer(Tier.POD, THE_POD, pod.knobs.spec))
    return tuple(sorted(found, key=lambda layer: layer.tier))


def _tier(policy: PolicyObject, root_namespace: str) -> Tier:
    if policy.ref.namespace != root_namespace:
        return Tier.WORKLOAD if policy.selects_some else Tier.NAMESPACE
    if policy.by_labels_alone:
        return Tier.MESH_LABELLED
    if policy.selects_some:
        return Tier.MESH_SELECTED
    return Tier.MESH_NAMESPACES if policy.spec.selector.namespaces else Tier.MESH


def said(found: Iterable[Layer], pick: Callable[[PolicySpec], T | None]) -> list[tuple[Layer, T]]:
    return [(layer, value) for layer in found if (value := pick(layer.spec)) is not None]
