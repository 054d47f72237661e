"""ValidatingAdmissionPolicies with their bindings: CEL that says no before anything is stored.

As far as hotswitch's own need it: match constraints and conditions, variables, messages, failure policies, namespace
and object selectors, `authorizer` for resources; no parameters. An expression that fails is a no
(failurePolicy Fail), as is one that cannot be read.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from hotswitch.sandbox.kubeapi.authorizer import Authorizer
from hotswitch.sandbox.kubeapi.cel import CelError, Expression, cel, cel_map
from hotswitch.sandbox.kubeapi.failure import ApiError, Obj, invalid
from hotswitch.sandbox.kubeapi.rbac import Action, Rbac
from hotswitch.sandbox.kubeapi.record import at
from hotswitch.sandbox.kubeapi.request import Ask
from hotswitch.sandbox.kubeapi.store import Store

GROUP = "admissionregistration.k8s.io"
POLICIES, BINDINGS = (GROUP, "validatingadmissionpolicies"), (GROUP, "validatingadmissionpolicybindings")
_CODES = {"Unauthorized": 401, "Forbidden": 403, "Invalid": 422, "RequestEntityTooLarge": 413}


@dataclass(frozen=True, slots=True)
class _Policy:
    name: str
    spec: Obj
    conditions: tuple[Expression, ...]
    variables: tuple[tuple[str, Expression], ...]
    validations: tuple[tuple[Expression, Obj], ...]

    @classmethod
    def of(cls, name: str, spec: Obj) -> _Policy:
        """Raises CelError."""
        return cls(
            name,
            spec,
            tuple(Expression(each["expression"]) for each in spec.get("matchConditions") or ()),
            tuple((each["name"], Expression(each["expression"])) for each in spec.get("variables") or ()),
            tuple((Expression(each["expression"]), each) for each in spec.get("validations") or ()),
        )

    @property
    def fails_closed(self) -> bool:
        return bool(self.spec.get("failurePolicy", "Fail") == "Fail")


class Admission:
    def __init__(self, store: Store, rbac: Rbac) -> None:
        self._store, self._rbac = store, rbac
        self._policies: dict[str, _Policy] | None = None
        store.listen(POLICIES, lambda _: self._forget())

    def _forget(self) -> None:
        self._policies = None

    def shape(self, ask: Ask, before: Obj | None, after: Obj) -> None:
        """A policy whose CEL cannot be read is refused when it is written. Raises ApiError 422."""
        if ask.resource.table != POLICIES or ask.sub:
            return
        after["spec"] = {"failurePolicy": "Fail", **(after.get("spec") or {})}
        if not after["spec"].get("matchConstraints"):
            name = after["metadata"].get("name", "")
            raise invalid(ask.resource.qualified_kind, name, [("spec.matchConstraints", "Required value")])
        try:
            _Policy.of(after["metadata"].get("name", ""), after["spec"])
        except CelError as error:
            kind = ask.resource.qualified_kind
            raise invalid(kind, after["metadata"].get("name", ""), [("spec", f"Invalid value: {error}")]) from None

    def guard(self, ask: Ask, operation: str, before: Obj | None, after: Obj | None) -> None:
        """Raises ApiError with the policy's reason (422 unless it says another)."""
        if ask.resource.group == GROUP:
            return  # as on a real API server: a policy cannot lock its own removal
        names = None  # seldom needed, and the same for all policies
        for record in self._store.records(BINDINGS):
            binding = record.decode()
            policy = self._read().get(at(binding, "spec", "policyName") or "")
            actions = at(binding, "spec", "validationActions") or ()
            if policy is None or "Deny" not in actions:
                continue
            places = (policy.spec.get("matchConstraints") or {}, at(binding, "spec", "matchResources") or {})
            if all(self._matches(place, ask, operation, before, after) for place in places):
                names = names or self._names(ask, operation, before, after)
                self._ask(policy, record.name, names, ask, after)

    def _read(self) -> dict[str, _Policy]:
        if self._policies is None:
            records = self._store.records(POLICIES)
            self._policies = {record.name: _Policy.of(record.name, record.decode()["spec"]) for record in records}
        return self._policies

    def _matches(self, place: Obj, ask: Ask, operation: str, before: Obj | None, after: Obj | None) -> bool:
        rules, excluded = place.get("resourceRules"), place.get("excludeResourceRules") or ()
        if rules is not None and not any(_rule_matches(rule, ask, operation) for rule in rules):
            return False
        if any(_rule_matches(rule, ask, operation) for rule in excluded):
            return False
        labels = [at(obj, "metadata", "labels") or {} for obj in (before, after) if obj is not None]
        if labels and not any(_selected(place.get("objectSelector") or {}, each) for each in labels):
            return False
        return _selected(place.get("namespaceSelector") or {}, self._namespace_labels(ask))

    def _namespace_labels(self, ask: Ask) -> Mapping[str, str]:
        record = self._store.find(("", "namespaces"), ("", ask.namespace))
        return record.labels if record is not None else {}

    def _names(self, ask: Ask, operation: str, before: Obj | None, after: Obj | None) -> dict[str, Any]:
        """What an expression may speak of."""
        return {
            "object": cel(after),
            "oldObject": cel(before),
            "request": cel(_request(ask, operation)),
            "namespaceObject": cel(self._namespace(ask)),
            "params": None,
            "authorizer": Authorizer(lambda action: self._rbac.permits(ask.user, action, count=False), Action("")),
        }

    def _ask(self, policy: _Policy, binding: str, names: dict[str, Any], ask: Ask, after: Obj | None) -> None:
        for why, reason in _objections(policy, names):
            said = f"ValidatingAdmissionPolicy '{policy.name}' with binding '{binding}' denied request: {why}"
            kind, name = ask.resource.qualified, ask.name or at(after, "metadata", "name") or ""
            details = {"name": name, "group": ask.resource.group, "kind": ask.resource.plural}
            details["causes"] = [{"message": said}]
            raise ApiError(_CODES.get(reason, 422), f'{kind} "{name}" is forbidden: {said}', reason, details)

    def _namespace(self, ask: Ask) -> Obj | None:
        record = self._store.find(("", "namespaces"), ("", ask.namespace))
        return record.decode() if record is not None else None


def _objections(policy: _Policy, names: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """What is wrong, with the reason of the answer."""
    try:
        if not all(condition.holds(names) for condition in policy.conditions):
            return
        names = {**names, "variables": _variables(policy, names)}
        for expression, said in policy.validations:
            if not expression.holds(names):
                yield _message(said, names), said.get("reason", "Invalid")
    except CelError as error:
        if policy.fails_closed:
            yield str(error), "Invalid"


def _variables(policy: _Policy, names: dict[str, Any]) -> Any:
    """Each may use those before it. One that fails is missing, and so fails only what asks for it."""
    values: dict[str, Any] = {}
    for name, expression in policy.variables:
        with contextlib.suppress(CelError):
            values[name] = expression.value({**names, "variables": cel_map(values)})
    return cel_map(values)


def _message(said: Obj, names: Mapping[str, Any]) -> str:
    if said.get("messageExpression"):
        try:
            return str(Expression(said["messageExpression"]).value(names))
        except CelError:
            pass  # the plain message then, as the API's documentation says
    return str(said.get("message") or f"failed expression: {said['expression'].strip()}")


def _rule_matches(rule: Obj, ask: Ask, operation: str) -> bool:
    def has(field: str, value: str) -> bool:
        words = rule.get(field) or ()
        return "*" in words or value in words

    resource = ask.resource
    resources = rule.get("resources") or ()
    named = ask.path in resources or "*/*" in resources or f"{resource.plural}/*" in resources
    named = named or ("*" in resources and not ask.sub)
    names = rule.get("resourceNames")
    scope = rule.get("scope", "*")
    return (
        named
        and has("operations", operation)
        and has("apiGroups", resource.group)
        and has("apiVersions", resource.version)
        and (not names or ask.name in names)
        and (scope == "*" or (scope == "Namespaced") == resource.namespaced)
    )


def _selected(selector: Obj, labels: Mapping[str, str]) -> bool:
    wanted = selector.get("matchLabels") or {}
    if any(labels.get(key) != value for key, value in wanted.items()):
        return False
    return all(_term(term, labels) for term in selector.get("matchExpressions") or ())


def _term(term: Obj, labels: Mapping[str, str]) -> bool:
    value, values = labels.get(term["key"]), term.get("values") or ()
    match term["operator"]:
        case "In":
            return value in values
        case "NotIn":
            return value not in values
        case "Exists":
            return value is not None
    return value is None


def _request(ask: Ask, operation: str) -> Obj:
    resource = ask.resource
    kind = {"group": resource.group, "version": resource.version, "kind": resource.kind}
    plural = {"group": resource.group, "version": resource.version, "resource": resource.plural}
    request = {
        "uid": ask.resource.qualified,  # never empty on a real API server; nothing may rely on what it is
        "kind": kind,
        "resource": plural,
        "subResource": ask.sub,
        "requestKind": kind,
        "requestResource": plural,
        "requestSubResource": ask.sub,
        "name": ask.name,
        "namespace": ask.namespace,
        "operation": operation,
        "userInfo": ask.user.info(),
        "dryRun": ask.dry,
    }
    return {name: value for name, value in request.items() if value != ""}  # as there: has() is false for them
