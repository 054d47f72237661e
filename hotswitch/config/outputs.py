"""Which outputs the Services of a namespace may have: by the same rule as everything that gives something away (I2).

Whoever may annotate a Service could otherwise have configuration written that he may not write himself. EndpointSlices
and hotswitch's own xDS say nothing of other Services; Istio's objects are seen by the whole mesh, so the root namespace
has to give them. A policy that selects pods by labels says nothing here: a Service is none.
"""

from __future__ import annotations

from collections.abc import Iterable

from hotswitch.api.policy import PolicySpec
from hotswitch.backends import USUAL_OUTPUTS, Output
from hotswitch.config.layers import Layer, Tier
from hotswitch.config.objects import PolicyObject
from hotswitch.config.safety import Safety, resolve


def _pick(spec: PolicySpec) -> frozenset[Output] | None:
    return None if spec.endpoints.outputs is None else frozenset(map(Output, spec.endpoints.outputs))


OUTPUTS = Safety[frozenset[Output]](
    "endpoints.outputs", USUAL_OUTPUTS, _pick, frozenset.intersection, lambda found: ", ".join(sorted(found)) or "none"
)


def allowed(policies: Iterable[PolicyObject], root_namespace: str, namespace: str) -> frozenset[Output]:
    """`policies`: scoped already."""
    layers = (_layer(each, root_namespace, namespace) for each in policies)
    return resolve(OUTPUTS, tuple(sorted((each for each in layers if each), key=lambda each: each.tier)))[0]


def _layer(policy: PolicyObject, root_namespace: str, namespace: str) -> Layer | None:
    """None: it says nothing of this namespace."""
    if policy.selects_some:
        return None
    if policy.ref.namespace != root_namespace:
        return Layer(Tier.NAMESPACE, str(policy.ref), policy.spec) if policy.ref.namespace == namespace else None
    named = policy.spec.selector.namespaces
    if named and namespace not in named:
        return None
    return Layer(Tier.MESH_NAMESPACES if named else Tier.MESH, str(policy.ref), policy.spec)
