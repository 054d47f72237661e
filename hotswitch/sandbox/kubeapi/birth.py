"""What an object must have to be created, and what the API server fills in: names, labels, defaults.

Not a whole validation: the mistakes that a test or a manifest is likely to make. The names' rules are RFC 1123's.
"""

from __future__ import annotations

import re
import secrets
import uuid
from collections.abc import Iterator

from hotswitch.sandbox.kubeapi import kinds, pods
from hotswitch.sandbox.kubeapi.failure import ApiError, Cause, Obj, invalid
from hotswitch.sandbox.kubeapi.record import now
from hotswitch.sandbox.kubeapi.resources import Resource

_SUFFIX_LETTERS = "bcdfghjklmnpqrstvwxz2456789"
_SUBDOMAIN = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
_PATH_SEGMENT = re.compile(r"(?!\.\.?$)[^/%]+")  # RBAC's names
_LABEL_KEY = re.compile(r"([a-z0-9]([-a-z0-9.]*[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?")
_LABEL_VALUE = re.compile(r"([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?")
_ANNOTATIONS_LIMIT = 256 * 1024  # bytes


def newborn(resource: Resource, namespace: str, obj: Obj) -> Obj:
    """`obj` with its identity, ready to be validated and stored. Raises ApiError 400 or 422."""
    meta = dict(obj.get("metadata") or {})
    _check_version(resource, obj)
    if meta.get("resourceVersion"):
        raise ApiError(400, "resourceVersion should not be set on objects to be created")
    if resource.namespaced:
        _check_namespace(namespace, meta)
        meta["namespace"] = namespace
    else:
        meta.pop("namespace", None)
    if not meta.get("name") and meta.get("generateName"):
        meta["name"] = meta["generateName"] + "".join(secrets.choice(_SUFFIX_LETTERS) for _ in range(5))
    for field in ("deletionTimestamp", "deletionGracePeriodSeconds", "generation", "managedFields", "selfLink"):
        meta.pop(field, None)
    meta.update(uid=str(uuid.uuid4()), creationTimestamp=now())
    if resource.counts or resource.custom:
        meta["generation"] = 1
    return _defaulted(resource, {**obj, "metadata": meta})


def _check_version(resource: Resource, obj: Obj) -> None:
    said = obj.get("apiVersion", resource.api_version), obj.get("kind", resource.kind)
    if said != (resource.api_version, resource.kind):
        raise ApiError(
            400,
            f"the API version or kind in the data ({said[0]}, {said[1]}) does not match the expected "
            f"({resource.api_version}, {resource.kind})",
        )


def _check_namespace(namespace: str, meta: Obj) -> None:
    if meta.get("namespace", namespace) != namespace:
        raise ApiError(400, "the namespace of the provided object does not match the namespace sent on the request")


def _defaulted(resource: Resource, obj: Obj) -> Obj:
    meta = obj["metadata"]
    if resource.table == ("", "namespaces"):
        meta["labels"] = {**(meta.get("labels") or {}), "kubernetes.io/metadata.name": meta.get("name", "")}
        return {**obj, "spec": {"finalizers": ["kubernetes"]}, "status": {"phase": "Active"}}
    if resource.table == ("", "pods"):
        return {
            **obj,
            "spec": pods.completed(obj.get("spec") or {}),
            "status": {"phase": "Pending", "qosClass": "BestEffort", **(obj.get("status") or {})},
        }
    if resource.custom and "status" in resource.subs:
        return {field: value for field, value in obj.items() if field != "status"}
    kinds.complete(resource, obj)
    return obj


def check(resource: Resource, obj: Obj, *, created: bool = False) -> None:
    """Raises ApiError 422 with a cause for each field that is wrong, 400 for one of a wrong type. `created`: new."""
    kinds.read(resource, obj)
    causes = [*_name(resource, obj["metadata"]), *_labels(obj["metadata"]), *kinds.mistakes(resource, obj)]
    if resource.table == ("", "pods"):
        causes += pods.mistakes(obj.get("spec") or {}, created=created)
    if causes:
        name = obj["metadata"].get("name", "")
        raise invalid(resource.qualified_kind, name, causes)


def _name(resource: Resource, meta: Obj) -> Iterator[Cause]:
    name = meta.get("name")
    rule = _PATH_SEGMENT if resource.group == "rbac.authorization.k8s.io" else _SUBDOMAIN
    if not name:
        yield "metadata.name", "Required value: name or generateName is required"
    elif not isinstance(name, str) or len(name) > 253 or not rule.fullmatch(name):
        yield (
            "metadata.name",
            f'Invalid value: "{name}": a lowercase RFC 1123 subdomain must consist of lower case alphanumeric '
            "characters, '-' or '.', and must start and end with an alphanumeric character",
        )


def _labels(meta: Obj) -> Iterator[Cause]:
    for key, value in (meta.get("labels") or {}).items():
        if not _LABEL_KEY.fullmatch(key):
            yield "metadata.labels", f'Invalid value: "{key}": name part must consist of alphanumeric characters'
        if not isinstance(value, str) or not _LABEL_VALUE.fullmatch(value):
            yield (
                "metadata.labels",
                f"Invalid value: \"{value}\": a valid label must be an empty string or consist of \
alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character",
            )
    annotations = meta.get("annotations") or {}
    for key in annotations:
        if not _LABEL_KEY.fullmatch(key.lower()):
            yield "metadata.annotations", f'Invalid value: "{key}": name part must consist of alphanumeric characters'
    if sum(len(key) + len(value) for key, value in annotations.items()) > _ANNOTATIONS_LIMIT:
        yield "metadata.annotations", f"Too long: may not be more than {_ANNOTATIONS_LIMIT} bytes"
