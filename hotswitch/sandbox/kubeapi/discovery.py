"""What clients ask first: versions, groups, and the resources of each, so that kubectl and kopf find their way.

OpenAPI is only as much as kubectl needs to leave the validation of fields to the server.
"""

from __future__ import annotations

from hotswitch.sandbox.kubeapi.failure import Obj, no_such_path
from hotswitch.sandbox.kubeapi.resources import REVIEWS, VERBS, Catalogue, Resource

VERSION = {
    "major": "1",
    "minor": "34",
    "gitVersion": "v1.34.0+hotswitch-embedded",
    "gitCommit": "",
    "gitTreeState": "clean",
    "buildDate": "1970-01-01T00:00:00Z",
    "goVersion": "",
    "compiler": "",
    "platform": "linux/amd64",
}
_SUB_VERBS = {
    "exec": ["create", "get"],
    "log": ["get"],
    "eviction": ["create"],
    "binding": ["create"],
    "token": ["create"],
}
_SUB_KINDS = {
    "exec": ("", "v1", "PodExecOptions"),
    "eviction": ("policy", "v1", "Eviction"),
    "binding": ("", "v1", "Binding"),
    "scale": ("autoscaling", "v1", "Scale"),
    "token": ("authentication.k8s.io", "v1", "TokenRequest"),
}


def discover(catalogue: Catalogue, words: list[str]) -> Obj:
    """The document at /version, /api, /apis, /api/v1, /apis/GROUP and /apis/GROUP/VERSION. Raises ApiError 404."""
    match words:
        case ["version"]:
            return dict(VERSION)
        case ["api"]:
            return {"kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": []}
        case ["apis"]:
            groups = [_group(name, versions) for name, versions in _groups(catalogue).items()]
            return {"kind": "APIGroupList", "apiVersion": "v1", "groups": groups}
        case ["apis", name] if name in _groups(catalogue):
            return {"kind": "APIGroup", "apiVersion": "v1", **_group(name, _groups(catalogue)[name])}
        case ["api", version]:
            return _resources(catalogue, "", version)
        case ["apis", group, version]:
            return _resources(catalogue, group, version)
        case ["openapi", "v3", *rest]:
            return _open_api(catalogue, rest)
    raise no_such_path()


def _groups(catalogue: Catalogue) -> dict[str, list[str]]:
    """Versions by group, in the order in which they were added, without the core group."""
    groups: dict[str, list[str]] = {}
    for resource in catalogue:
        if resource.group and resource.version not in groups.setdefault(resource.group, []):
            groups[resource.group].append(resource.version)
    return groups


def _group(name: str, versions: list[str]) -> Obj:
    named = [{"groupVersion": f"{name}/{version}", "version": version} for version in versions]
    return {"name": name, "versions": named, "preferredVersion": named[0]}


def _resources(catalogue: Catalogue, group: str, version: str) -> Obj:
    found = [resource for resource in catalogue if (resource.group, resource.version) == (group, version)]
    if not found:
        raise no_such_path()
    return {
        "kind": "APIResourceList",
        "apiVersion": "v1",
        "groupVersion": found[0].api_version,
        "resources": [entry for resource in found for entry in (_entry(resource), *_subs(resource))],
    }


def _entry(resource: Resource) -> Obj:
    entry: Obj = {
        "name": resource.plural,
        "singularName": resource.kind.lower(),
        "namespaced": resource.namespaced,
        "kind": resource.kind,
        "verbs": ["create"] if resource.group in REVIEWS else list(VERBS),
    }
    return {**entry, "shortNames": list(resource.short)} if resource.short else entry


def _subs(resource: Resource) -> list[Obj]:
    entries = []
    for sub in resource.subs:
        group, version, kind = _SUB_KINDS.get(sub, (resource.group, resource.version, resource.kind))
        entries.append(
            {
                "name": f"{resource.plural}/{sub}",
                "singularName": "",
                "namespaced": resource.namespaced,
                "group": group,
                "version": version,
                "kind": kind,
                "verbs": _SUB_VERBS.get(sub, ["get", "patch", "update"]),
            }
        )
    return entries


def _open_api(catalogue: Catalogue, rest: list[str]) -> Obj:
    if not rest:
        places = {_place(resource) for resource in catalogue}
        return {"paths": {place: {"serverRelativeURL": f"/openapi/v3/{place}"} for place in sorted(places)}}
    found = [resource for resource in catalogue if _place(resource) == "/".join(rest)]
    if not found:
        raise no_such_path()
    info = {"title": "hotswitch embedded API", "version": VERSION["gitVersion"]}
    return {"openapi": "3.0.0", "info": info, "paths": {_path(resource): _patchable(resource) for resource in found}}


def _place(resource: Resource) -> str:
    return f"apis/{resource.api_version}" if resource.group else f"api/{resource.version}"


def _path(resource: Resource) -> str:
    inside = "namespaces/{namespace}/" if resource.namespaced else ""
    return f"/{_place(resource)}/{inside}{resource.plural}/{{name}}"


def _patchable(resource: Resource) -> Obj:
    kind = {"group": resource.group, "version": resource.version, "kind": resource.kind}
    parameter = {"name": "fieldValidation", "in": "query", "schema": {"type": "string"}}
    return {
        "patch": {"x-kubernetes-group-version-kind": kind, "x-kubernetes-action": "patch", "parameters": [parameter]}
    }
