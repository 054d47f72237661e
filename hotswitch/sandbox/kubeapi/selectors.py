"""Label and field selectors: a text of the query becomes a predicate over stored objects.

Only the fields that a real API server can select by are known; another one is 400, as there, so that nothing is written
against the embedded API that a cluster would refuse.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from hotswitch.sandbox.kubeapi.failure import ApiError
from hotswitch.sandbox.kubeapi.record import Record
from hotswitch.sandbox.kubeapi.resources import Resource

Matches = Callable[[Record], bool]
_Labels = dict[str, str]

_TERM = re.compile(r"(?:[^,(]|\([^)]*\))+")
_SET = re.compile(r"(\S+)\s+(in|notin)\s+\(([^)]*)\)")
_EQUAL = re.compile(r"([^=!\s]+)\s*(==|=|!=)\s*([^=!\s]*)")
_KEY = re.compile(r"!?\s*[A-Za-z0-9]([-A-Za-z0-9_./]*[A-Za-z0-9])?")
_FIELD = re.compile(r"([\w.]+)(==|=|!=)(.*)")

_COMMON = frozenset({"metadata.name", "metadata.namespace"})
_EVENT = ("kind", "namespace", "name", "uid", "apiVersion", "resourceVersion", "fieldPath")
FIELDS: dict[tuple[str, str], frozenset[str]] = {
    ("", "pods"): frozenset(
        {
            "spec.nodeName",
            "spec.restartPolicy",
            "spec.schedulerName",
            "spec.serviceAccountName",
            "spec.hostNetwork",
            "status.phase",
            "status.podIP",
            "status.nominatedNodeName",
        }
    ),
    ("", "events"): frozenset(
        {*(f"involvedObject.{field}" for field in _EVENT), "reason", "type", "source", "reportingComponent"}
    ),
    ("", "secrets"): frozenset({"type"}),
    ("", "namespaces"): frozenset({"status.phase"}),
    ("", "nodes"): frozenset({"spec.unschedulable"}),
}


def selector(resource: Resource, labels: str, fields: str) -> Matches | None:
    """Both must match; None when all objects do. Raises ApiError 400 for what no API server understands."""
    wanted = [_label_term(term.strip()) for term in _TERM.findall(labels)]
    looked = [_field_term(resource, term) for term in fields.split(",") if term]
    if not wanted and not looked:
        return None
    return lambda record: all(term(record.labels) for term in wanted) and all(term(record) for term in looked)


def _label_term(term: str) -> Callable[[_Labels], bool]:
    if match := _SET.fullmatch(term):
        key, values = match[1], {value.strip() for value in match[3].split(",")}
        if match[2] == "in":
            return lambda labels: labels.get(key) in values
        return lambda labels: labels.get(key) not in values
    if match := _EQUAL.fullmatch(term):
        key, value = match[1], match[3]
        if match[2] == "!=":
            return lambda labels: labels.get(key) != value
        return lambda labels: labels.get(key) == value
    if not _KEY.fullmatch(term):
        raise ApiError(400, f"unable to parse requirement: {term!r}")
    if term.startswith("!"):
        return lambda labels: term[1:].strip() not in labels
    return lambda labels: term in labels


def _field_term(resource: Resource, term: str) -> Matches:
    match = _FIELD.fullmatch(term.strip())
    if match is None:
        raise ApiError(400, f"invalid field selector {term!r}")
    path, wanted, equal = match[1], match[3], match[2] != "!="
    if path == "metadata.name":
        return lambda record: (record.name == wanted) == equal
    if path == "metadata.namespace":
        return lambda record: (record.namespace == wanted) == equal
    if path not in FIELDS.get(resource.table, _COMMON):
        raise ApiError(400, f"field label not supported: {path}")
    return lambda record: (_field(record.decode(), path) == wanted) == equal


def _field(value: Any, path: str) -> str:
    """The field as the selector's text would name it; an absent one is empty, a boolean is `false` when absent."""
    for word in path.split("."):
        value = value.get(word) if isinstance(value, dict) else None
    if path in ("spec.hostNetwork", "spec.unschedulable"):
        return "true" if value else "false"
    return "" if value is None else str(value)
