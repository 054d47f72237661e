"""What `kubectl get` shows: tables, made by the server, one row for an object.

Columns are those of a real API server for the kinds that people look at in the demo; a custom resource has those of its
definition, everything else name and age. Columns of priority 1 are for `-o wide`.
"""

from __future__ import annotations

import datetime
import re
from collections.abc import Callable, Iterable
from typing import Any

from hotswitch.sandbox.kubeapi.failure import Obj
from hotswitch.sandbox.kubeapi.podrow import COLUMNS as POD_COLUMNS
from hotswitch.sandbox.kubeapi.podrow import cells as pod_cells
from hotswitch.sandbox.kubeapi.record import Record, at
from hotswitch.sandbox.kubeapi.resources import Resource

Columns = tuple[tuple[str, str, int], ...]
"""Name, type, priority."""

AGE = ("Age", "string", 0)
_NAME = ("Name", "string", 0)
_STEP = re.compile(r"\.([A-Za-z_][-\w]*)|\['([^']+)'\]|\[(\d+)\]|\[\?\(@\.(\w+)==\"([^\"]*)\"\)\]")


def wanted(accept: str) -> bool:
    """Does the client ask for a table?"""
    first = accept.partition(",")[0]
    return "as=Table" in first and "g=meta.k8s.io" in first


def table(resource: Resource, records: Iterable[Record], version: str, *, head: bool = True) -> Obj:
    """`head` False: without the columns, as in all events of a watch but the first."""
    columns, cells = _kind(resource)
    defined = [
        {"name": name, "type": kind, "format": "", "description": "", "priority": p} for name, kind, p in columns
    ]
    return {
        "kind": "Table",
        "apiVersion": "meta.k8s.io/v1",
        "metadata": {"resourceVersion": version},
        "columnDefinitions": defined if head else [],
        "rows": [_row(record.decode(), cells) for record in records],
    }


def _row(obj: Obj, cells: Callable[[Obj], list[Any]]) -> Obj:
    part = {"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": obj["metadata"]}
    return {"cells": cells(obj), "object": part}


def age(since: Any) -> str:
    """As kubectl writes it: 42s, 3m10s, 5h, 2d."""
    if not isinstance(since, str):
        return "<unknown>"
    then = datetime.datetime.fromisoformat(since)
    seconds = max(int((datetime.datetime.now(datetime.UTC) - then).total_seconds()), 0)
    for unit, size, below in (("s", 1, 120), ("m", 60, 10_800), ("h", 3_600, 172_800)):
        if seconds < below:
            return f"{seconds // size}{unit}"
    return f"{seconds // 86_400}d"


def _kind(resource: Resource) -> tuple[Columns, Callable[[Obj], list[Any]]]:
    if resource.columns:
        return _custom(resource)
    return _KINDS.get(resource.table, ((_NAME, AGE), lambda obj: [_name(obj), _age(obj)]))


def _custom(resource: Resource) -> tuple[Columns, Callable[[Obj], list[Any]]]:
    columns = (_NAME, *((name, kind, 0) for name, kind, _ in resource.columns))

    def cells(obj: Obj) -> list[Any]:
        found = ((kind, path_value(obj, path)) for _, kind, path in resource.columns)
        return [_name(obj), *(age(value) if kind == "date" else value for kind, value in found)]

    return columns, cells


def path_value(obj: Any, path: str) -> Any:
    """The simple JSON paths of printer columns: fields, indices, and [?(@.type=="Ready")]."""
    for field, quoted, index, key, value in _STEP.findall(path):
        if field or quoted:
            obj = obj.get(field or quoted) if isinstance(obj, dict) else None
        elif not isinstance(obj, list):
            return None
        elif index:
            obj = obj[int(index)] if int(index) < len(obj) else None
        else:
            obj = next((item for item in obj if isinstance(item, dict) and item.get(key) == value), None)
    return obj


def _name(obj: Obj) -> Any:
    return obj["metadata"]["name"]


def _age(obj: Obj) -> str:
    return age(obj["metadata"].get("creationTimestamp"))


def _pod(obj: Obj) -> list[Any]:
    return pod_cells(obj, age)


def _deployment(obj: Obj) -> list[Any]:
    status = obj.get("status") or {}
    ready = f"{status.get('readyReplicas', 0)}/{at(obj, 'spec', 'replicas') or 0}"
    return [_name(obj), ready, status.get("updatedReplicas", 0), status.get("availableReplicas", 0), _age(obj)]


def _service(obj: Obj) -> list[Any]:
    spec = obj.get("spec") or {}
    ports = ",".join(f"{port['port']}/{port.get('protocol', 'TCP')}" for port in spec.get("ports") or ())
    address = spec.get("clusterIP") or "<none>"
    return [_name(obj), spec.get("type", "ClusterIP"), address, "<none>", ports or "<none>", _age(obj)]


def _slice(obj: Obj) -> list[Any]:
    ports = ",".join(str(port.get("port")) for port in obj.get("ports") or ())
    addresses = ",".join(address for endpoint in obj.get("endpoints") or () for address in endpoint["addresses"])
    return [_name(obj), obj.get("addressType"), ports or "<unset>", addresses or "<unset>", _age(obj)]


def _event(obj: Obj) -> list[Any]:
    about = obj.get("involvedObject") or {}
    seen = obj.get("lastTimestamp") or obj.get("eventTime") or obj["metadata"].get("creationTimestamp")
    what = f"{about.get('kind', '').lower()}/{about.get('name', '')}"
    return [age(seen), obj.get("type", ""), obj.get("reason", ""), what, (obj.get("message") or "").strip()]


def _lease(obj: Obj) -> list[Any]:
    return [_name(obj), at(obj, "spec", "holderIdentity") or "", _age(obj)]


def _phase(obj: Obj) -> list[Any]:
    return [_name(obj), at(obj, "status", "phase") or "", _age(obj)]


def _columns(*names: str) -> Columns:
    return tuple((name, "string", 0) for name in names)


_KINDS: dict[tuple[str, str], tuple[Columns, Callable[[Obj], list[Any]]]] = {
    ("", "pods"): (POD_COLUMNS, _pod),
    ("", "namespaces"): (_columns("Name", "Status", "Age"), _phase),
    ("", "services"): (_columns("Name", "Type", "Cluster-IP", "External-IP", "Port(s)", "Age"), _service),
    ("", "events"): (_columns("Last Seen", "Type", "Reason", "Object", "Message"), _event),
    ("apps", "deployments"): (_columns("Name", "Ready", "Up-to-date", "Available", "Age"), _deployment),
    ("discovery.k8s.io", "endpointslices"): (_columns("Name", "AddressType", "Ports", "Endpoints", "Age"), _slice),
    ("coordination.k8s.io", "leases"): (_columns("Name", "Holder", "Age"), _lease),
}
