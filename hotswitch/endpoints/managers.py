"""Whose fields are whose, as the API tells it (metadata.managedFields): who fights for an object is known by that.

Whoever applies an object (server-side) says each time again what it is to be: a GitOps tool. Two that do so would write
over each other for ever, so what others apply is theirs. Whoever only edits it once does not come back. Names are what
each client says of itself, and prove nothing: by them hotswitch lets go, and removes what Kubernetes calls its own.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from hotswitch.cluster.client import FIELD_MANAGER

APPLY = "Apply"
SLICE_FIELDS = ("f:endpoints", "f:ports", "f:addressType")
Object = dict[str, Any]


def _entries(content: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """One without a manager is how all are reset."""
    return (each for each in content["metadata"].get("managedFields") or () if each.get("manager"))


def _fields(entry: Mapping[str, Any], *path: str) -> Mapping[str, Any]:
    found: Mapping[str, Any] = entry.get("fieldsV1") or {}
    for step in path:
        found = found.get(step) or {}
    return found


def applied_by_others(slice_: Mapping[str, Any]) -> bool:
    """A GitOps tool says what this EndpointSlice is to be."""
    return any(
        each.get("operation") == APPLY and each["manager"] != FIELD_MANAGER and _has_any(each, SLICE_FIELDS)
        for each in _entries(slice_)
    )


def _has_any(entry: Mapping[str, Any], fields: tuple[str, ...]) -> bool:
    return any(field in _fields(entry) for field in fields)


def has_selector(service: Mapping[str, Any]) -> bool:
    """hotswitch owns the Service's selector: who applies another one has a conflict with us."""
    return any(each["manager"] == FIELD_MANAGER and _owns_selector(each) for each in _entries(service))


def _owns_selector(entry: Mapping[str, Any]) -> bool:
    return any(field.startswith("f:selector") for field in _fields(entry, "f:spec"))


def without_us(service: Mapping[str, Any]) -> list[Object]:
    """The entries of others, to be written in place of all; [{}] where there are none, for an empty list counts as
    nothing said."""
    return [dict(each) for each in _entries(service) if each["manager"] != FIELD_MANAGER] or [{}]


def writers(endpoints: Mapping[str, Any]) -> frozenset[str]:
    """Who wrote the addresses of an Endpoints object; of one that has none, whoever wrote it."""
    entries = list(_entries(endpoints))
    return frozenset(each["manager"] for each in entries if "f:subsets" in _fields(each)) or frozenset(
        each["manager"] for each in entries
    )
