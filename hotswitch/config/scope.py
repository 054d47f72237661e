"""Who may say what (I2): a field that a policy's place gives no authority for is a problem of the policy and counts for
nothing; the rest of the policy holds.

Root namespace only: accepted codes, bounds, opt-in, the budgets of mesh and node, namespaces in the selector, and the
addresses of receivers. A budget speaks of what the policy speaks of as a whole: that of a namespace cannot come from a
policy that selects some of its pods, that of the mesh not from one that selects at all; whether Services may be taken
over not from one that speaks of some pods. And what the root namespace gives goes to namespaces, or to all: labels
alone are the workload's own word.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from hotswitch.api.alerts import Receiver
from hotswitch.api.policy import PolicySpec
from hotswitch.api.values import shortened
from hotswitch.config.objects import PolicyObject, Problem

_NOBODY = PolicySpec()
Refusal = tuple[str, object, str]  # field, value, why


def scoped(policy: PolicyObject, root_namespace: str) -> PolicyObject:
    """The same policy without what it may not say; the problems tell what that was."""
    refusals = list(_refusals(policy, root_namespace))
    if not refusals:
        return policy
    problems = (Problem(policy.ref, f"spec.{field}", shortened(value), why) for field, value, why in refusals)
    spec = _without(policy.spec, {field for field, _, _ in refusals})
    return replace(policy, spec=spec, problems=(*policy.problems, *problems))


def _refusals(policy: PolicyObject, root_namespace: str) -> Iterator[Refusal]:
    if policy.ref.namespace != root_namespace:
        why = f"only a policy in the root namespace {root_namespace} may say this"
        yield from ((field, value, why) for field, value in _of_root(policy.spec))
    else:
        yield from _by_labels_alone(policy)
    yield from _budgets(policy, policy.ref.namespace == root_namespace)


def _by_labels_alone(policy: PolicyObject) -> Iterator[Refusal]:
    """What gives something away goes to namespaces, or to all."""
    why = "labels are the workload's own word: name the namespaces too"
    if policy.by_labels_alone and policy.spec.bounds != _NOBODY.bounds:
        yield "bounds", policy.spec.bounds.model_dump(by_alias=True, exclude_none=True), why
    if policy.by_labels_alone and policy.spec.opt_in is not None:
        yield "optIn", policy.spec.opt_in, why
    if policy.by_labels_alone and policy.spec.endpoints != _NOBODY.endpoints:
        yield "endpoints", policy.spec.endpoints.model_dump(by_alias=True, exclude_none=True), why
    for place, entry in enumerate(policy.spec.accept):
        if not policy.may_accept(entry):
            yield f"accept[{place}]", entry.code, why


def _of_root(spec: PolicySpec) -> Iterator[tuple[str, object]]:
    """What only the root namespace may say, and is said."""
    if spec.selector.namespaces:
        yield "selector.namespaces", list(spec.selector.namespaces)
    if spec.opt_in is not None:
        yield "optIn", spec.opt_in
    if spec.bounds != _NOBODY.bounds:
        yield "bounds", spec.bounds.model_dump(by_alias=True, exclude_none=True)
    for place, entry in enumerate(spec.accept):
        yield f"accept[{place}]", entry.code
    for place, receiver in enumerate(spec.alerts.receivers or ()):
        if receiver.url is not None:
            yield f"alerts.receivers[{place}].url", receiver.url
        if receiver.allow_networks:
            yield f"alerts.receivers[{place}].allowNetworks", list(receiver.allow_networks)


def _budgets(policy: PolicyObject, in_root: bool) -> Iterator[Refusal]:
    budgets, selector = policy.spec.budgets, policy.spec.selector
    selects = bool(selector.match_labels or selector.namespaces)
    for name, value in (("mesh", budgets.mesh), ("node", budgets.node)):
        if value is not None and (not in_root or selects):
            yield f"budgets.{name}", value, "only a policy in the root namespace, without a selector, may say this"
    why = "a policy that selects pods by labels may not say this"
    if budgets.namespace is not None and selector.match_labels:
        yield "budgets.namespace", budgets.namespace, why
    if policy.spec.adopt is not None and selector.match_labels:
        yield "adopt", policy.spec.adopt, why


def _without(spec: PolicySpec, fields: set[str]) -> PolicySpec:
    budgets = {name: None for name in ("mesh", "node", "namespace") if f"budgets.{name}" in fields}
    changes = {
        "selector": spec.selector.model_copy(update={"namespaces": ()}),
        "optIn": None,
        "bounds": _NOBODY.bounds,
        "endpoints": _NOBODY.endpoints,
        "accept": tuple(entry for place, entry in enumerate(spec.accept) if f"accept[{place}]" not in fields),
        "budgets": spec.budgets.model_copy(update=budgets),
        "adopt": None,
        "alerts": spec.alerts.model_copy(update={"receivers": _receivers(spec, fields)}),
    }
    touched = {field.partition("[")[0].partition(".")[0] for field in fields}
    return spec.model_copy(update={name.replace("optIn", "opt_in"): changes[name] for name in touched})


def _receivers(spec: PolicySpec, fields: set[str]) -> tuple[Receiver, ...] | None:
    """Without an address of its own a receiver cannot be told anything; without its networks it may be refused."""
    if spec.alerts.receivers is None:
        return None
    placed = enumerate(spec.alerts.receivers)
    kept = [receiver for place, receiver in placed if f"alerts.receivers[{place}].url" not in fields]
    if not any(field.endswith("allowNetworks") for field in fields):
        return tuple(kept)
    return tuple(receiver.model_copy(update={"allow_networks": ()}) for receiver in kept)
