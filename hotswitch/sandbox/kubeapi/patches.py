"""The four ways to change an object by a part of it: merge, JSON, strategic merge, and server-side apply.

Strategic merge knows the merge keys of the lists that hotswitch and its tests touch; a list without one is replaced.
Apply is merging plus taking away what the same field manager applied last time and leaves out now; whose fields are
whose, and the conflicts that come of it, is another page (owners.py).
"""

from __future__ import annotations

from typing import Any

import jsonpatch
import yaml

from hotswitch.sandbox.kubeapi.failure import ApiError, Obj
from hotswitch.sandbox.kubeapi.record import decode

MERGE, JSON, STRATEGIC, APPLY = (
    "application/merge-patch+json",
    "application/json-patch+json",
    "application/strategic-merge-patch+json",
    "application/apply-patch+yaml",
)
KINDS = (MERGE, JSON, STRATEGIC, APPLY)

MERGE_KEYS = {
    "conditions": "type",
    "containers": "name",
    "containerStatuses": "",  # atomic, as are the two below: kubelet writes them whole
    "env": "name",
    "ephemeralContainers": "name",
    "ephemeralContainerStatuses": "",
    "hostAliases": "ip",
    "imagePullSecrets": "name",
    "initContainers": "name",
    "initContainerStatuses": "",
    "ownerReferences": "uid",
    "podIPs": "ip",
    "secrets": "name",
    "topologySpreadConstraints": "topologyKey",
    "volumeMounts": "mountPath",
    "volumes": "name",
}
_SETS = frozenset({"finalizers"})  # lists of words that are merged as sets


def parse(content_type: str, body: bytes) -> Any:
    """Raises ApiError 415 for another kind of patch, 400 for what cannot be read."""
    if content_type not in KINDS:
        raise ApiError(
            415,
            f"the body of the request was in an unknown format - accepted media types include: {', '.join(KINDS)}",
        )
    try:
        return yaml.safe_load(body) if content_type == APPLY else decode(body)
    except (ValueError, yaml.YAMLError) as error:
        raise ApiError(400, f"error decoding patch: {error}") from None


def patched(obj: Obj, patch: Any, content_type: str) -> Obj:
    """A changed `obj` (which may itself be changed). Raises ApiError 422 or 400 when the patch does not fit."""
    if content_type == JSON:
        return _json(obj, patch)
    if not isinstance(patch, dict):
        raise ApiError(400, "json: cannot unmarshal the patch into an object")
    changed = merge(obj, patch) if content_type == MERGE else strategic(obj, patch)
    assert isinstance(changed, dict)
    return changed


def merge(value: Any, patch: Any) -> Any:
    """RFC 7386."""
    if not isinstance(patch, dict):
        return patch
    merged = dict(value) if isinstance(value, dict) else {}
    for key, part in patch.items():
        if part is None:
            merged.pop(key, None)
        else:
            merged[key] = merge(merged.get(key), part)
    return merged


def _json(obj: Obj, patch: Any) -> Obj:
    """RFC 6902; a failed `test` is 422, as is a path that does not exist."""
    try:
        changed = jsonpatch.apply_patch(obj, patch)
    except jsonpatch.InvalidJsonPatch as error:
        raise ApiError(400, f"error decoding patch: {error}") from None
    except jsonpatch.JsonPatchTestFailed:
        raise ApiError(422, "the server rejected our request due to an error in our request") from None
    except (jsonpatch.JsonPatchException, jsonpatch.JsonPointerException) as error:
        raise ApiError(422, f"the server rejected our request due to an error in our request: {error}") from None
    if not isinstance(changed, dict):
        raise ApiError(400, "the patched document is not an object")
    return changed


def strategic(value: Any, patch: Any) -> Any:
    if not isinstance(patch, dict):
        return patch
    if patch.get("$patch") == "replace":
        return {key: part for key, part in patch.items() if key != "$patch"}
    merged = dict(value) if isinstance(value, dict) else {}
    for key, part in patch.items():
        if key.startswith("$deleteFromPrimitiveList/"):
            field = key.partition("/")[2]
            merged[field] = [word for word in merged.get(field) or [] if word not in part]
        elif key.startswith("$"):
            continue  # $setElementOrder, $retainKeys: what kubectl adds for the order of lists
        elif part is None:
            merged.pop(key, None)
        else:
            merged[key] = _part(key, merged.get(key), part)
    return merged


def _part(key: str, value: Any, part: Any) -> Any:
    if key in _SETS and isinstance(part, list):
        return list(dict.fromkeys([*(value or []), *part]))
    if by := merge_key(key, part):
        return _merged_list(value or [], part, by)
    return strategic(value, part) if isinstance(part, dict) else part


def merge_key(field: str, items: Any) -> str:
    if not isinstance(items, list) or not items or not all(isinstance(item, dict) for item in items):
        return ""
    if field == "ports":  # a container's by containerPort, a Service's by port, an EndpointSlice's are replaced
        return next((key for key in ("containerPort", "port") if all(key in item for item in items)), "")
    return MERGE_KEYS.get(field, "")


def _merged_list(items: list[Any], patch: list[Obj], merge_key: str) -> list[Any]:
    if any(part.get("$patch") == "replace" for part in patch):
        return [part for part in patch if "$patch" not in part]
    merged = {_key(item, merge_key): item for item in items}
    named = {_key(part, merge_key): part for part in patch}
    for key, part in named.items():
        if part.get("$patch") == "delete":
            merged.pop(key, None)
        else:
            merged[key] = strategic(merged.get(key, {}), part)
    order = [_key(item, merge_key) for item in items]
    return [merged[key] for key in _ordered(order, list(named)) if key in merged]


def _key(item: Obj, merge_key: str) -> str:
    return str(item.get(merge_key))


def _ordered(items: list[str], patch: list[str]) -> list[str]:
    """As a real API server has it: what the patch names keeps its place among the others, what is new comes first."""
    others = [key for key in items if key not in patch]
    result: list[str] = []
    for key in patch:
        while key in items and others and items.index(others[0]) < items.index(key):
            result.append(others.pop(0))
        result.append(key)
    return result + others


def without_dropped(obj: Any, before: Any, after: Any) -> Any:
    """`obj` less the fields that a manager applied `before` and leaves out in `after`. Lists are left alone."""
    if not (isinstance(obj, dict) and isinstance(before, dict)):
        return obj
    kept = dict(obj)
    for key, part in before.items():
        if not isinstance(after, dict) or key not in after:
            kept.pop(key, None)
        elif key in kept:
            kept[key] = without_dropped(kept[key], part, after[key])
    return kept
