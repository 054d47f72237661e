"""What a write may change: by the kind, and by the subresource that it goes through.

Observed on a real API server (v1.34): pods/status takes labels, annotations and finalizers beside the status, but no
owner references and nothing of the spec; a custom resource's status takes no metadata at all; deployments/status takes
annotations, no labels; pods/ephemeralcontainers only adds ephemeral containers.
"""

from __future__ import annotations

from hotswitch.sandbox.kubeapi import pods
from hotswitch.sandbox.kubeapi.failure import ApiError, Obj, conflict, invalid
from hotswitch.sandbox.kubeapi.record import at
from hotswitch.sandbox.kubeapi.resources import Resource

KEPT = (
    "name",
    "namespace",
    "uid",
    "creationTimestamp",
    "generation",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
)
_LABELS_STAY = frozenset({("apps", "deployments")})


def immutable_uid(resource: Resource, old: Obj, uid: str) -> ApiError:
    """A patch that names another uid: not a conflict but an invalid change, as on a real API server."""
    why = f'Invalid value: "{uid}": field is immutable'
    return invalid(resource.qualified_kind, old["metadata"]["name"], [("metadata.uid", why)])


def precondition(resource: Resource, old: Obj, uid: str | None, version: str | None) -> None:
    """Raises ApiError 409 when the object is not the one, or not at the version, that the writer had in mind."""
    meta = old["metadata"]
    if uid and uid != meta["uid"]:
        raise conflict(
            resource.qualified,
            meta["name"],
            f"Precondition failed: UID in precondition: {uid}, UID in object meta: {meta['uid']}",
        )
    if version and version != meta["resourceVersion"]:
        raise conflict(
            resource.qualified,
            meta["name"],
            "the object has been modified; please apply your changes to the latest version and try again",
        )


def updated(resource: Resource, sub: str, old: Obj, new: Obj) -> Obj:
    """The object to store when `new` is written over `old`. Raises ApiError 409 (preconditions), 422 (forbidden)."""
    meta = new.get("metadata") or {}
    _same_name(resource, old, meta)
    precondition(resource, old, meta.get("uid"), meta.get("resourceVersion"))
    result = _SUBS.get(sub, _main)(resource, old, new)
    result["metadata"] = {
        **{field: value for field, value in result["metadata"].items() if field not in KEPT},
        **{field: old["metadata"][field] for field in KEPT if field in old["metadata"]},
        "resourceVersion": old["metadata"]["resourceVersion"],
    }
    return result


def count(resource: Resource, old: Obj, new: Obj) -> None:
    """A new generation when what is desired has changed."""
    if resource.counts and _desired(new) != _desired(old):
        new["metadata"]["generation"] = old["metadata"].get("generation", 0) + 1


def _desired(obj: Obj) -> Obj:
    return {field: value for field, value in obj.items() if field not in ("metadata", "status", "kind", "apiVersion")}


def _same_name(resource: Resource, old: Obj, meta: Obj) -> None:
    if meta.get("name", old["metadata"]["name"]) != old["metadata"]["name"]:
        raise ApiError(400, "the name of the object does not match the name on the URL")


def _main(resource: Resource, old: Obj, new: Obj) -> Obj:
    result = dict(new)
    if "status" in resource.subs:
        result.pop("status", None)
        if "status" in old:
            result["status"] = old["status"]
    if resource.table == ("", "pods"):
        pods.unchanged(old, result)
    return result


def _status(resource: Resource, old: Obj, new: Obj) -> Obj:
    result = dict(old)
    result.pop("status", None)
    if "status" in new:
        result["status"] = new["status"]
    result["metadata"] = _status_metadata(resource, old["metadata"], new.get("metadata") or {})
    return result


def _status_metadata(resource: Resource, old: Obj, new: Obj) -> Obj:
    if resource.custom or resource.table == ("apiextensions.k8s.io", "customresourcedefinitions"):
        return dict(old)
    kept = {field: old[field] for field in ("ownerReferences",) if field in old}
    taken = {field: value for field, value in new.items() if field != "ownerReferences"}
    if resource.table in _LABELS_STAY:
        taken.pop("labels", None)
        kept |= {field: old[field] for field in ("labels",) if field in old}
    return {**taken, **kept}


def _ephemeral(resource: Resource, old: Obj, new: Obj) -> Obj:
    return pods.with_ephemeral(old, new)


def _scale(resource: Resource, old: Obj, new: Obj) -> Obj:
    replicas = at(new, "spec", "replicas") or 0
    return {**old, "metadata": dict(old["metadata"]), "spec": {**old["spec"], "replicas": replicas}}


_SUBS = {"status": _status, "ephemeralcontainers": _ephemeral, "scale": _scale}


def scale_of(obj: Obj) -> Obj:
    """The Scale that GET .../scale shows."""
    labels = at(obj, "spec", "selector", "matchLabels") or {}
    meta = {field: obj["metadata"][field] for field in (*KEPT, "resourceVersion") if field in obj["metadata"]}
    return {
        "kind": "Scale",
        "apiVersion": "autoscaling/v1",
        "metadata": {field: value for field, value in meta.items() if field != "generation"},
        "spec": {"replicas": at(obj, "spec", "replicas") or 0},
        "status": {
            "replicas": at(obj, "status", "replicas") or 0,
            "selector": ",".join(f"{key}={value}" for key, value in labels.items()),
        },
    }
