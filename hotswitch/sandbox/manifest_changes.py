"""What a kustomization does to objects: patches, a namespace, labels, images. As kustomize does it, of what is known.

A strategic merge puts new entries of a keyed list in front, as kustomize does and the API server does not; that is why
this is not the merge of the sandbox's API server.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Iterator
from typing import Any

import jsonpatch

Obj = dict[str, Any]


class ManifestError(ValueError):
    """A kustomization cannot be rendered; the message names the file or the field."""


MERGE_KEYS = {
    "containers": "name",
    "env": "name",
    "initContainers": "name",
    "ports": "containerPort",
    "topologySpreadConstraints": "topologyKey",
    "volumeMounts": "mountPath",
    "volumes": "name",
}
"""Of the lists that are merged entry by entry in a Deployment; all others are replaced."""
_PODS_KINDS = frozenset({"Deployment", "DaemonSet", "StatefulSet", "Pod", "Job"})
_CLUSTER_WIDE = frozenset(
    {
        "ClusterRole", "ClusterRoleBinding", "CustomResourceDefinition", "Namespace", "PriorityClass",
        "ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding", "ValidatingWebhookConfiguration",
    }
)  # fmt: skip


def patched(objects: list[Obj], patch: Obj, content: list[Any]) -> list[Obj]:
    """`content`: documents; a list is a JSON patch (RFC 6902), an object a strategic merge. Raises ManifestError."""
    unknown = sorted(set(patch) - {"path", "patch", "target"})
    if unknown:
        raise ManifestError(f"patches: {', '.join(unknown)}: not known here")
    if content and all(isinstance(document, dict) for document in content):
        for document in content:
            objects = _merged_into(objects, document, patch.get("target"))
        return objects
    (operations,) = content
    if "target" not in patch:
        raise ManifestError("patches: a JSON patch needs a target")
    return _each(objects, patch["target"], lambda obj: _json_patched(obj, operations))


def _merged_into(objects: list[Obj], document: Obj, target: Obj | None) -> list[Obj]:
    named = target or {
        "kind": document["kind"],
        "name": re.escape(document["metadata"]["name"]),
        **({"namespace": document["metadata"]["namespace"]} if "namespace" in document["metadata"] else {}),
    }
    if document.get("$patch") == "delete":
        return _each(objects, named, lambda obj: None)
    return _each(objects, named, lambda obj: _identity_kept(obj, _merge(obj, document)))


def _identity_kept(obj: Obj, merged: Obj) -> Obj:
    """A target says which object is meant, so a patch's own name does not rename it."""
    merged["metadata"]["name"] = obj["metadata"]["name"]
    return merged | {"apiVersion": obj["apiVersion"], "kind": obj["kind"]}


def _each(objects: list[Obj], target: Obj, change: Callable[[Obj], Obj | None]) -> list[Obj]:
    chosen = [_is_meant(obj, target) for obj in objects]
    if not any(chosen):
        raise ManifestError(f"patches: nothing is {target}")
    changed = (change(obj) if meant else obj for obj, meant in zip(objects, chosen, strict=True))
    return [obj for obj in changed if obj is not None]


def _is_meant(obj: Obj, target: Obj) -> bool:
    group, _, version = obj["apiVersion"].rpartition("/")
    has = {"group": group, "version": version, "kind": obj["kind"]}
    has |= {"name": obj["metadata"]["name"], "namespace": obj["metadata"].get("namespace", "default")}
    unknown = sorted(set(target) - set(has))
    if unknown:
        raise ManifestError(f"patches: target: {', '.join(unknown)}: not known here")
    return all(re.fullmatch(str(wanted), has[field]) for field, wanted in target.items())


def _json_patched(obj: Obj, operations: list[Any]) -> Obj:
    try:
        changed = jsonpatch.apply_patch(obj, operations)
    except (jsonpatch.JsonPatchException, jsonpatch.JsonPointerException) as failure:
        raise ManifestError(f"patches: {obj['kind']} {obj['metadata']['name']}: {failure}") from failure
    return dict(changed)


def _merge(value: Any, patch: Any) -> Any:
    if not isinstance(patch, dict):
        return copy.deepcopy(patch)
    merged = dict(value) if isinstance(value, dict) else {}
    for field, part in patch.items():
        if part is None:
            merged.pop(field, None)
        elif MERGE_KEYS.get(field) and isinstance(part, list):
            merged[field] = _merged_list(merged.get(field) or [], part, MERGE_KEYS[field])
        else:
            merged[field] = _merge(merged.get(field), part)
    return merged


def _merged_list(items: list[Obj], patch: list[Obj], key: str) -> list[Obj]:
    parts = {part[key]: part for part in patch}
    gone = {name for name, part in parts.items() if part.get("$patch") == "delete"}
    merged = [_merge(item, parts.get(item.get(key), {})) for item in items if item.get(key) not in gone]
    known = {item.get(key) for item in items} | gone
    return [copy.deepcopy(part) for name, part in parts.items() if name not in known] + merged


def set_namespace(objects: list[Obj], namespace: str) -> None:
    ours = {obj["metadata"]["name"] for obj in objects if obj["kind"] == "ServiceAccount"}
    for obj in objects:
        if obj["kind"] == "Namespace":
            obj["metadata"]["name"] = namespace
        elif obj["kind"] not in _CLUSTER_WIDE:
            obj["metadata"]["namespace"] = namespace
        for subject in obj.get("subjects", []):
            if subject["kind"] == "ServiceAccount" and subject["name"] in ours | {"default"}:
                subject["namespace"] = namespace


def add_labels(objects: list[Obj], labels: Obj) -> None:
    """On the objects alone, not in selectors and templates."""
    unknown = sorted(set(labels) - {"pairs"})
    if unknown:
        raise ManifestError(f"labels: {', '.join(unknown)}: not known here")
    for obj in objects:
        obj["metadata"]["labels"] = obj["metadata"].get("labels", {}) | labels["pairs"]


def set_images(objects: list[Obj], image: Obj) -> None:
    unknown = sorted(set(image) - {"name", "newName", "newTag", "digest"})
    if unknown:
        raise ManifestError(f"images: {', '.join(unknown)}: not known here")
    for obj in objects:
        for container in _containers(obj) if obj["kind"] in _PODS_KINDS else ():
            name, mark, rest = _parts(container["image"])
            if name == image["name"]:
                container["image"] = image.get("newName", name) + _suffix(image, mark + rest)


def _suffix(image: Obj, before: str) -> str:
    if "digest" in image:
        return f"@{image['digest']}"
    return f":{image['newTag']}" if "newTag" in image else before


def _parts(image: str) -> tuple[str, str, str]:
    """Name, then `:` or `@` and what follows; a port of a registry is part of the name."""
    if "@" in image:
        return image.partition("@")
    folder, slash, last = image.rpartition("/")
    name, mark, tag = last.partition(":")
    return folder + slash + name, mark, tag


def _containers(value: Any) -> Iterator[Obj]:
    if isinstance(value, list):
        for item in value:
            yield from _containers(item)
    elif isinstance(value, dict):
        for field, part in value.items():
            if field in ("containers", "initContainers") and isinstance(part, list):
                yield from (container for container in part if "image" in container)
            else:
                yield from _containers(part)
