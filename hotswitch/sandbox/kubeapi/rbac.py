"""Who may do what: evaluated from the Role, ClusterRole and binding objects that were applied, and from nothing else.

So a right that the manifests forgot is missing here as it would be in a cluster (S4.1: exactly the rights it needs).
Each permit is counted on the rules that gave it: a shipped rule that was never the only one to give a permit is one
that nothing needs.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from hotswitch.sandbox.kubeapi.failure import ApiError, Obj
from hotswitch.sandbox.kubeapi.identity import MASTERS, User
from hotswitch.sandbox.kubeapi.request import Ask
from hotswitch.sandbox.kubeapi.store import Store

GROUP = "rbac.authorization.k8s.io"
_TABLES = tuple((GROUP, plural) for plural in ("roles", "rolebindings", "clusterroles", "clusterrolebindings"))


@dataclass(frozen=True, slots=True, order=True)
class Rule:
    """The rule number `index` (from 0) of a role; `namespace` is "" for a ClusterRole."""

    kind: str
    namespace: str
    name: str
    index: int

    def __str__(self) -> str:
        return f"{self.kind} {f'{self.namespace}/' if self.namespace else ''}{self.name} rule {self.index}"


@dataclass(frozen=True, slots=True)
class Action:
    """What is asked: of a resource, or of a path that is none (`url`)."""

    verb: str
    group: str = ""
    resource: str = ""  # with its subresource: pods/status
    namespace: str = ""
    name: str = ""
    url: str = ""

    @classmethod
    def of(cls, ask: Ask, verb: str = "") -> Action:
        namespace = ask.name if ask.resource.table == ("", "namespaces") else ask.namespace
        name = ask.name or _only_name(ask.query.get("fieldSelector", ""))
        return cls(verb or ask.verb, ask.resource.group, ask.path, namespace, name)

    def __str__(self) -> str:
        return f"{self.verb} {self.url or self.resource}{f'.{self.group}' if self.group else ''} {self.name}".rstrip()


@dataclass(frozen=True, slots=True)
class Denial:
    user: str
    action: Action


@dataclass(slots=True)
class Uses:
    """`all`: how often a rule permitted an action. `alone`: how often it was the only one that did."""

    all: Counter[tuple[Rule, str]] = field(default_factory=Counter)
    alone: Counter[tuple[Rule, str]] = field(default_factory=Counter)

    def add(self, rules: set[Rule], action: str) -> None:
        self.all.update((rule, action) for rule in rules)
        if len(rules) == 1:
            self.alone.update((rule, action) for rule in rules)

    def needed(self) -> set[Rule]:
        """Rules without which something would have been denied."""
        return {rule for rule, _ in self.alone}


class Rbac:
    def __init__(self, store: Store) -> None:
        self._store = store
        self._grants: dict[str, list[tuple[Rule, str, Obj]]] | None = None
        self.denied: list[Denial] = []
        self.uses = Uses()
        for table in _TABLES:
            store.listen(table, lambda _: self._forget())

    def _forget(self) -> None:
        self._grants = None

    def permits(self, user: User, action: Action, *, count: bool = True) -> bool:
        """`count`: it is about to be done, not only asked."""
        if MASTERS in user.groups:
            return True
        rules = {rule for rule, where, body in self._of(user) if _covers(body, where, action)}
        if count:
            self.uses.add(rules, str(action))
        return bool(rules)

    def check(self, user: User, action: Action) -> None:
        """Raises ApiError 403, in a real API server's words, and remembers it in `denied`."""
        if self.permits(user, action):
            return
        self.denied.append(Denial(user.name, action))
        raise _forbidden(user, action)

    def _of(self, user: User) -> Iterator[tuple[Rule, str, Obj]]:
        if self._grants is None:
            self._grants = self._collect()
        for subject in (f"User {user.name}", *(f"Group {group}" for group in user.groups)):
            yield from self._grants.get(subject, ())

    def _collect(self) -> dict[str, list[tuple[Rule, str, Obj]]]:
        """By subject: rule, namespace where it counts ("" everywhere), and the rule's text."""
        grants: dict[str, list[tuple[Rule, str, Obj]]] = {}
        for plural in ("rolebindings", "clusterrolebindings"):
            for record in self._store.records((GROUP, plural)):
                binding = record.decode()
                rules = [(rule, record.namespace, body) for rule, body in self._rules(record.namespace, binding)]
                for subject in binding.get("subjects") or ():
                    grants.setdefault(_subject(subject, record.namespace), []).extend(rules)
        return grants

    def _rules(self, namespace: str, binding: Obj) -> Iterator[tuple[Rule, Obj]]:
        kind, name = binding["roleRef"]["kind"], binding["roleRef"]["name"]
        where = namespace if kind == "Role" else ""
        role = self._store.find((GROUP, "roles" if kind == "Role" else "clusterroles"), (where, name))
        if role is not None:  # a binding may come before its role
            for index, body in enumerate(role.decode().get("rules") or ()):
                yield Rule(kind, where, name, index), body


def _subject(subject: Obj, namespace: str) -> str:
    if subject["kind"] == "ServiceAccount":
        return f"User system:serviceaccount:{subject.get('namespace', namespace)}:{subject['name']}"
    return f"{subject['kind']} {subject['name']}"


def _covers(rule: Obj, where: str, action: Action) -> bool:
    if where and where != action.namespace:
        return False
    if action.url:
        return _has(rule, "verbs", action.verb) and any(
            _url(url, action.url) for url in rule.get("nonResourceURLs", ())
        )
    names = rule.get("resourceNames")
    return (
        _has(rule, "verbs", action.verb)
        and _has(rule, "apiGroups", action.group)
        and _names_resource(rule, action.resource)
        and (not names or action.name in names)
    )


def _has(rule: Obj, field: str, value: str) -> bool:
    words: Any = rule.get(field) or ()
    return "*" in words or value in words


def _names_resource(rule: Obj, resource: str) -> bool:
    sub = resource.partition("/")[2]
    return _has(rule, "resources", resource) or bool(sub and f"*/{sub}" in (rule.get("resources") or ()))


def _url(pattern: str, url: str) -> bool:
    return url.startswith(pattern[:-1]) if pattern.endswith("*") else url == pattern


def _only_name(selector: str) -> str:
    """A list or watch of one object by its name is permitted as a request for that object."""
    named = [term.partition("=")[2].lstrip("=") for term in selector.split(",") if term.startswith("metadata.name=")]
    return named[0] if named else ""


def _forbidden(user: User, action: Action) -> ApiError:
    if action.url:
        return ApiError(403, f'forbidden: User "{user.name}" cannot {action.verb} path "{action.url}"')
    plural = action.resource.partition("/")[0]
    qualified = f"{plural}.{action.group}" if action.group else plural
    what = f'{qualified} "{action.name}"' if action.name else qualified
    where = f'in the namespace "{action.namespace}"' if action.namespace else "at the cluster scope"
    return ApiError(
        403,
        f'{what} is forbidden: User "{user.name}" cannot {action.verb} resource "{action.resource}" '
        f'in API group "{action.group}" {where}',
        details={"name": action.name, "group": action.group, "kind": plural},
    )
