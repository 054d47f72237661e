"""Istio's AuthorizationPolicy as far as it speaks of connections (L4): a typed model of what is understood.

The rescue sees connections, not requests. A policy that needs more (methods, paths, hosts, JWTs, CUSTOM, headers) is
refused as a whole with `UnsupportedAuthorization`, so that the caller falls to the next level instead of enforcing half
of it (I2). Sources: Istio's AuthorizationPolicy reference; semantics as istiod generates them for TCP
(pilot/pkg/security/authz/model).
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from enum import StrEnum
from typing import Any, TypeVar

from hotswitch.model import Port


class UnsupportedAuthorization(ValueError):
    """A policy says something that cannot be enforced per connection. Names the field and its value."""

    def __init__(self, field: str, value: object, why: str = "not a property of connections") -> None:
        super().__init__(f"{field}: {value!r}: {why}")
        self.field, self.value = field, value


class Action(StrEnum):
    ALLOW = "ALLOW"
    DENY = "DENY"
    AUDIT = "AUDIT"  # enforces nothing


@dataclass(frozen=True, slots=True)
class Source:
    """One entry of `from`: every field that is set must hold, by any of its values."""

    principals: tuple[str, ...] = ()
    not_principals: tuple[str, ...] = ()
    namespaces: tuple[str, ...] = ()
    not_namespaces: tuple[str, ...] = ()
    ip_blocks: tuple[str, ...] = ()
    not_ip_blocks: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Operation:
    """One entry of `to`. Ports are the pod's own, i.e. the container's."""

    ports: tuple[Port, ...] = ()
    not_ports: tuple[Port, ...] = ()


@dataclass(frozen=True, slots=True)
class Condition:
    """One entry of `when`."""

    key: str
    values: tuple[str, ...] = ()
    not_values: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Rule:
    """Any source (none given: any), any operation (none given: any), and every condition."""

    sources: tuple[Source, ...] = ()
    operations: tuple[Operation, ...] = ()
    conditions: tuple[Condition, ...] = ()


@dataclass(frozen=True, slots=True)
class AuthorizationPolicy:
    """A policy that selects the pod. No rules: nothing matches, so ALLOW without rules allows nobody."""

    name: str
    action: Action = Action.ALLOW
    rules: tuple[Rule, ...] = ()


DRY_RUN = "istio.io/dry-run"  # annotation: the policy is only looked at, it enforces nothing
CONDITION_KEYS = frozenset(
    {"source.ip", "source.namespace", "source.principal", "destination.ip", "destination.port", "connection.sni"}
)
_IP_KEYS = frozenset({"source.ip", "destination.ip"})
_Part = TypeVar("_Part", Source, Operation)


def parse_policy(manifest: Mapping[str, Any]) -> AuthorizationPolicy:
    """The L4 model of a security.istio.io AuthorizationPolicy that the caller knows to select the pod.

    Raises UnsupportedAuthorization for whatever is not understood, also for unknown fields and malformed values.
    """
    metadata, spec = manifest.get("metadata", {}), manifest.get("spec", {})
    _only(spec, {"selector", "action", "rules"}, "spec")
    rules = tuple(_rule(rule, f"spec.rules[{i}]") for i, rule in enumerate(_list(spec, "rules", "spec")))
    name = f"{metadata.get('namespace', '')}/{metadata.get('name', '')}"
    return AuthorizationPolicy(name, _action(spec, metadata.get("annotations") or {}), rules)


def _action(spec: Mapping[str, Any], annotations: Mapping[str, str]) -> Action:
    try:
        action = Action(spec.get("action", Action.ALLOW))
    except ValueError:
        raise UnsupportedAuthorization("spec.action", spec["action"]) from None
    return Action.AUDIT if annotations.get(DRY_RUN) == "true" else action


def _rule(rule: Mapping[str, Any], where: str) -> Rule:
    _only(rule, {"from", "to", "when"}, where)
    return Rule(
        tuple(_part(Source, entry, "source", f"{where}.from[{i}]") for i, entry in _entries(rule, "from", where)),
        tuple(_part(Operation, entry, "operation", f"{where}.to[{i}]") for i, entry in _entries(rule, "to", where)),
        tuple(_condition(entry, f"{where}.when[{i}]") for i, entry in _entries(rule, "when", where)),
    )


def _part(kind: type[_Part], entry: Mapping[str, Any], name: str, where: str) -> _Part:
    _only(entry, {name}, where)
    body, where = entry.get(name), f"{where}.{name}"
    known = {_camel(field.name): field.name for field in fields(kind)}
    _only(body, known, where)
    if not body:
        raise UnsupportedAuthorization(where, body, "empty")
    given: dict[str, Any] = {known[field]: _values(body, field, where) for field in body}
    return kind(**given)


def _condition(entry: Mapping[str, Any], where: str) -> Condition:
    _only(entry, {"key", "values", "notValues"}, where)
    key = entry.get("key")
    if not isinstance(key, str) or key not in CONDITION_KEYS:
        raise UnsupportedAuthorization(f"{where}.key", key)
    values, not_values = (
        tuple(_texts(entry, field, where)) if field in entry else () for field in ("values", "notValues")
    )
    for value in (*values, *not_values):
        if key in _IP_KEYS:
            _block(value, where)
        elif key == "destination.port":
            _port(value, where)
    if not values and not not_values:
        raise UnsupportedAuthorization(where, entry, "neither values nor notValues")
    return Condition(key, values, not_values)


def _values(body: Mapping[str, Any], field: str, where: str) -> tuple[str | Port, ...]:
    texts, path = _texts(body, field, where), f"{where}.{field}"
    if field in ("ports", "notPorts"):
        return tuple(_port(text, path) for text in texts)
    if field in ("ipBlocks", "notIpBlocks"):
        return tuple(_block(text, path) for text in texts)
    return tuple(texts)


def _port(text: str, where: str) -> Port:
    if not (text.isascii() and text.isdigit() and 0 < int(text) < 65536):
        raise UnsupportedAuthorization(where, text, "not a port from 1 to 65535")
    return int(text)


def _block(text: str, where: str) -> str:
    """An address or CIDR, as its network in CIDR notation; host bits are dropped, as Envoy does."""
    try:
        return str(ipaddress.ip_network(text, strict=False))
    except ValueError:
        raise UnsupportedAuthorization(where, text, "neither an address nor a CIDR block") from None


def _only(body: Any, known: Iterable[str], where: str) -> None:
    if not isinstance(body, Mapping):
        raise UnsupportedAuthorization(where, body, "not an object")
    for field in body.keys() - set(known):
        raise UnsupportedAuthorization(f"{where}.{field}", body[field])


def _list(body: Mapping[str, Any], field: str, where: str) -> list[Any]:
    value = body.get(field, [])
    if not isinstance(value, list):
        raise UnsupportedAuthorization(f"{where}.{field}", value, "not a list")
    return value


def _entries(rule: Mapping[str, Any], field: str, where: str) -> Iterable[tuple[int, Mapping[str, Any]]]:
    """An empty list is refused: whether it means everybody or nobody must not be guessed."""
    entries = _list(rule, field, where)
    if field in rule and not entries:
        raise UnsupportedAuthorization(f"{where}.{field}", entries, "empty")
    return enumerate(entries)


def _texts(body: Mapping[str, Any], field: str, where: str) -> list[str]:
    values = _list(body, field, where)
    if not values or not all(isinstance(value, str) and value for value in values):
        raise UnsupportedAuthorization(f"{where}.{field}", values, "not a list of texts that are not empty")
    return values


def _camel(name: str) -> str:
    head, *tail = name.split("_")
    return head + "".join(word.capitalize() for word in tail)
