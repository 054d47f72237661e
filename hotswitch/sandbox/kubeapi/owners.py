"""Who owns which field of an object: managedFields, and what server-side apply makes of it (merges, conflicts, force).

A field is a leaf: a value, a list without a merge key, or what the API calls atomic (a Service's selector). Who
changes one has it alone; who applies the same value has it too; who applies another value than its owner's has a
conflict, or takes it by force. What a manager applied and leaves out now goes, unless somebody else has it. Not kept
for pods, nodes, Leases and Events, which are written by the thousand and which no GitOps tool writes.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from hotswitch.sandbox.kubeapi import patches
from hotswitch.sandbox.kubeapi.failure import ApiError, Obj
from hotswitch.sandbox.kubeapi.record import now
from hotswitch.sandbox.kubeapi.request import Ask
from hotswitch.sandbox.kubeapi.resources import Resource

UNTRACKED = frozenset({"pods", "nodes", "leases", "events"})
UNKNOWN = "unknown"  # where a real API server takes the name from the User-Agent
APPLY, UPDATE = "Apply", "Update"
_ATOMIC = frozenset({("f:spec", "f:selector")})  # of built-in kinds
_SERVERS = frozenset({
    "name", "namespace", "uid", "resourceVersion", "generation", "creationTimestamp", "managedFields", "selfLink",
    "deletionTimestamp", "deletionGracePeriodSeconds", "generateName",
})  # fmt: skip
Path = tuple[str, ...]
"""As FieldsV1 has its keys: f:NAME below an object, k:JSON below a list with a merge key."""
Leaves = dict[Path, Any]


@dataclass(frozen=True, slots=True)
class Manager:
    """`operation`: Apply or Update: the same name is two managers. `sub`: the subresource."""

    name: str
    operation: str
    sub: str = ""


Owners = dict[Manager, frozenset[Path]]


def tracked(resource: Resource) -> bool:
    return resource.plural not in UNTRACKED


def manager(ask: Ask, operation: str) -> Manager:
    return Manager(ask.query.get("fieldManager") or UNKNOWN, operation, ask.sub)


# ---- fields ----


def leaves(resource: Resource, obj: Obj) -> Leaves:
    meta = {key: part for key, part in (obj.get("metadata") or {}).items() if key not in _SERVERS}
    said = {key: part for key, part in obj.items() if key not in ("kind", "apiVersion", "metadata")}
    return dict(_leaves({**said, "metadata": meta} if meta else said, (), has_keys=not _atomic_lists(resource)))


def _atomic_lists(resource: Resource) -> bool:
    return resource.custom or resource.group == "discovery.k8s.io"


def _leaves(value: Any, path: Path, *, has_keys: bool) -> Iterator[tuple[Path, Any]]:
    if isinstance(value, dict) and value and not (has_keys and path in _ATOMIC):
        for key, part in value.items():
            yield from _leaves(part, (*path, f"f:{key}"), has_keys=has_keys)
    elif has_keys and path and (key := patches.merge_key(path[-1][2:], value)):
        for item in value:
            yield from _leaves(item, (*path, f"k:{json.dumps({key: item.get(key)})}"), has_keys=has_keys)
    elif value is not None and path:
        yield path, value


def _without(value: Any, path: Path) -> Any:
    """`value` less one field; what is empty by that goes, too."""
    step, rest = path[0], path[1:]
    if step.startswith("k:"):
        ((key, word),) = json.loads(step[2:]).items()
        changed = [_without(item, rest) if item.get(key) == word else item for item in value or ()]
        return [item for item in changed if item]
    if not isinstance(value, dict) or step[2:] not in value:
        return value
    part = _without(value[step[2:]], rest) if rest else None
    others = {key: each for key, each in value.items() if key != step[2:]}
    return {**others, step[2:]: part} if part else others


# ---- as objects show it ----


def owners_of(obj: Mapping[str, Any]) -> Owners:
    found: Owners = {}
    for entry in obj["metadata"].get("managedFields") or ():
        if entry:
            who = Manager(entry["manager"], entry["operation"], entry.get("subresource", ""))
            found[who] = frozenset(_paths(entry.get("fieldsV1") or {}, ()))
    return found


def _paths(tree: Mapping[str, Any], path: Path) -> Iterator[Path]:
    for key, part in tree.items():
        yield from _paths(part, (*path, key)) if part else ((*path, key),)


def _entry(resource: Resource, who: Manager, fields: frozenset[Path]) -> Obj:
    tree: Obj = {}
    for path in sorted(fields):
        place = tree
        for step in path:
            place = place.setdefault(step, {})
    entry = {"manager": who.name, "operation": who.operation, "apiVersion": resource.api_version, "time": now()}
    entry |= {"subresource": who.sub} if who.sub else {}
    return {**entry, "fieldsType": "FieldsV1", "fieldsV1": tree}


def _told(resource: Resource, obj: Obj, before: Owners, after: Owners) -> None:
    """An entry that is as it was keeps its time."""
    known = {
        Manager(each["manager"], each["operation"], each.get("subresource", "")): each
        for each in obj["metadata"].get("managedFields") or ()
        if each
    }
    entries = [
        known[who] if who in known and before.get(who) == fields else _entry(resource, who, fields)
        for who, fields in after.items()
        if fields
    ]
    obj["metadata"].pop("managedFields", None)
    if entries:
        obj["metadata"]["managedFields"] = entries


# ---- what a write makes of it ----


def born(ask: Ask, obj: Obj, config: Obj | None) -> None:
    """`config`: what was applied; None: it was created."""
    who = manager(ask, UPDATE if config is None else APPLY)
    _told(ask.resource, obj, {}, {who: frozenset(leaves(ask.resource, obj if config is None else config))})


def updated(ask: Ask, old: Obj, new: Obj) -> None:
    """`new` has been written over `old`: whose changed fields are now. What the writer says of managedFields himself
    counts, where he says it, and not through a subresource; [] and [{}] forget all (fieldmanager.go, decodeLiveOrNew,
    isResetManagedFields)."""
    if ask.sub or new["metadata"].get("managedFields") is None:
        new["metadata"]["managedFields"] = old["metadata"].get("managedFields") or []
    before = owners_of(new)
    there, here = leaves(ask.resource, old), leaves(ask.resource, new)
    changed = frozenset(path for path, part in here.items() if path not in there or there[path] != part)
    who = manager(ask, UPDATE)
    after = {each: (fields - changed) & here.keys() for each, fields in before.items()}
    if changed:
        after[who] = after.get(who, frozenset()) | changed
    _told(ask.resource, new, before, after)


def applied(ask: Ask, old: Obj, config: Obj) -> tuple[Obj, Owners]:
    """`old` with `config` in it, not yet validated, and whose everything is then. Raises ApiError 409."""
    resource, who = ask.resource, manager(ask, APPLY)
    before, there, wanted = owners_of(old), leaves(ask.resource, old), leaves(ask.resource, config)
    changed = frozenset(path for path, part in wanted.items() if there.get(path) != part)
    others = {each: fields for each, fields in before.items() if each != who}
    if ask.query.get("force") != "true":
        _no_conflict(resource, others, changed)
    result: Obj = patches.merge(old, config) if _atomic_lists(resource) else patches.strategic(old, config)
    for path in wanted.keys() & _ATOMIC:  # a merge would have left what is not said
        result = {**result, "spec": {**result["spec"], path[-1][2:]: wanted[path]}}
    of_others = frozenset[Path]().union(*others.values())
    for path in sorted(before.get(who, frozenset()) - wanted.keys() - of_others, reverse=True):
        result = _without(result, path)
    return result, {who: frozenset(wanted), **{each: fields - changed for each, fields in others.items()}}


def _no_conflict(resource: Resource, others: Owners, changed: frozenset[Path]) -> None:
    found = [(each, path) for each, fields in others.items() for path in sorted(fields & changed)]
    if not found:
        return
    causes = [
        {"reason": "FieldManagerConflict", "message": f'conflict with "{each.name}"', "field": _shown(path)}
        for each, path in found
    ]
    of = resource.api_version
    said = "; ".join(f'conflict with "{each.name}" using {of}: {_shown(path)}' for each, path in found)
    number = f"{len(found)} conflict{'s' if len(found) > 1 else ''}"
    raise ApiError(409, f"Apply failed with {number}: {said}", details={"causes": causes})


def _shown(path: Path) -> str:
    return "".join(f".{step[2:]}" if step.startswith("f:") else f"[{step[2:]}]" for step in path)


def settled(ask: Ask, old: Obj, result: Obj, after: Owners) -> None:
    """An apply is about to be stored: what was not kept of it is nobody's."""
    here = leaves(ask.resource, result).keys()
    result["metadata"]["managedFields"] = old["metadata"].get("managedFields") or []
    _told(ask.resource, result, owners_of(old), {each: fields & here for each, fields in after.items()})
