"""Pods as an API server fills them in and holds them to what they were made with.

Of a container's fields those are looked at that hotswitch sets in its helper or that a test is likely to get wrong.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from hotswitch.sandbox.kubeapi.failure import Cause, Obj, invalid
from hotswitch.sandbox.kubeapi.record import at

_DEFAULTS = {
    "restartPolicy": "Always",
    "terminationGracePeriodSeconds": 30,
    "dnsPolicy": "ClusterFirst",
    "schedulerName": "default-scheduler",
    "securityContext": {},
    "enableServiceLinks": True,
    "priority": 0,
    "preemptionPolicy": "PreemptLowerPriority",
}
_CONTAINER_DEFAULTS = {
    "resources": {},
    "terminationMessagePath": "/dev/termination-log",
    "terminationMessagePolicy": "File",
}
_CONTAINER_LISTS = ("initContainers", "containers", "ephemeralContainers")
_MAY_CHANGE = ("activeDeadlineSeconds", "terminationGracePeriodSeconds", "tolerations", "schedulingGates")
_NOT_EPHEMERAL = ("ports", "livenessProbe", "readinessProbe", "startupProbe", "lifecycle", "resources")
_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
_POLICIES = ("Always", "IfNotPresent", "Never")


def completed(spec: Obj) -> Obj:
    """`spec` with the defaults of what it leaves out."""
    lists: Obj = {
        field: [_container(each) for each in spec[field] or []] for field in _CONTAINER_LISTS if field in spec
    }
    return {**_DEFAULTS, **spec, **lists}


def _container(container: Obj) -> Obj:
    name, _, tag = container.get("image", "").rpartition(":")
    newest = not name or "/" in tag or tag == "latest"
    return {**_CONTAINER_DEFAULTS, "imagePullPolicy": "Always" if newest else "IfNotPresent", **container}


def mistakes(spec: Obj, *, created: bool) -> Iterator[Cause]:
    if not spec.get("containers"):
        yield "spec.containers", "Required value"
    seen: set[str] = set()
    for field in ("initContainers", "containers"):
        for place, container in enumerate(spec.get(field) or []):
            yield from _container_mistakes(f"spec.{field}[{place}]", container, seen, spec)
    if created and spec.get("ephemeralContainers"):
        yield "spec.ephemeralContainers", "Forbidden: cannot be set on create"


def _container_mistakes(path: str, container: Obj, seen: set[str], spec: Obj) -> Iterator[Cause]:
    """`seen`: names that are taken; the container's own is added."""
    name = container.get("name") or ""
    yield from ((f"{path}.{field}", "Required value") for field in ("name", "image") if not container.get(field))
    if name and not _LABEL.fullmatch(name):
        yield (
            f"{path}.name",
            f"Invalid value: \"{name}\": a lowercase RFC 1123 label must consist of lower case \
alphanumeric characters or '-', and must start and end with an alphanumeric character",
        )
    if name in seen:
        yield f"{path}.name", f'Duplicate value: "{name}"'
    seen.add(name)
    policy = container.get("imagePullPolicy", "Always")
    if policy not in _POLICIES:
        supported = ", ".join(f'"{each}"' for each in _POLICIES)
        yield f"{path}.imagePullPolicy", f'Unsupported value: "{policy}": supported values: {supported}'
    volumes = {volume.get("name") for volume in spec.get("volumes") or ()}
    for place, mount in enumerate(container.get("volumeMounts") or ()):
        if mount.get("name") not in volumes:
            yield f"{path}.volumeMounts[{place}].name", f'Not found: "{mount.get("name")}"'
    yield from _security_mistakes(f"{path}.securityContext", container.get("securityContext") or {})


def _security_mistakes(path: str, context: Obj) -> Iterator[Cause]:
    if context.get("privileged") and context.get("allowPrivilegeEscalation") is False:
        yield path, "Invalid value: cannot set `allowPrivilegeEscalation` to false and `privileged` to true"
    for field in ("runAsUser", "runAsGroup"):
        if not 0 <= context.get(field, 0) <= 2**31 - 1:
            yield f"{path}.{field}", f"Invalid value: {context[field]}: must be between 0 and 2147483647, inclusive"


def unchanged(old: Obj, new: Obj) -> None:
    """Raises ApiError 422 when a pod's update changes what stays as it was made."""
    if _fixed(old) != _fixed(new):
        why = (
            "Forbidden: pod updates may not change fields other than `spec.containers[*].image`, "
            "`spec.initContainers[*].image`, `spec.activeDeadlineSeconds`, `spec.tolerations` (only additions to "
            "existing tolerations), `spec.terminationGracePeriodSeconds`"
        )
        raise invalid("Pod", old["metadata"]["name"], [("spec", why)])


def _fixed(pod: Obj) -> Obj:
    spec = {field: value for field, value in (pod.get("spec") or {}).items() if field not in _MAY_CHANGE}
    for field in ("containers", "initContainers"):
        spec[field] = [{**container, "image": ""} for container in spec.get(field) or []]
    return spec


def with_ephemeral(old: Obj, new: Obj) -> Obj:
    """`old` with the ephemeral containers of `new`. Raises ApiError 422: they are only ever added."""
    before = at(old, "spec", "ephemeralContainers") or []
    after = [_container(each) for each in at(new, "spec", "ephemeralContainers") or []]
    causes = [*_ephemeral_mistakes(old["spec"], after), *_lost(before, after)]
    if causes:
        raise invalid("Pod", old["metadata"]["name"], causes)
    return {**old, "metadata": dict(old["metadata"]), "spec": {**old["spec"], "ephemeralContainers": after}}


def _lost(before: list[Obj], after: list[Obj]) -> Iterator[Cause]:
    names = {container.get("name"): container for container in after}
    for container in before:
        if container["name"] not in names:
            yield (
                "spec.ephemeralContainers",
                f'Forbidden: existing ephemeral containers "{container["name"]}" may \
not be removed',
            )
        elif names[container["name"]] != container:
            yield (
                "spec.ephemeralContainers",
                f'Forbidden: existing ephemeral containers "{container["name"]}" may \
not be changed',
            )


def _ephemeral_mistakes(spec: Obj, containers: list[Obj]) -> Iterator[Cause]:
    own = {each["name"] for field in ("containers", "initContainers") for each in spec.get(field) or []}
    seen = set(own)
    for place, container in enumerate(containers):
        path = f"spec.ephemeralContainers[{place}]"
        yield from _container_mistakes(path, container, seen, spec)
        for field in _NOT_EPHEMERAL:
            if container.get(field):
                yield f"{path}.{field}", "Forbidden: cannot be set for an Ephemeral Container"
        target = container.get("targetContainerName")
        if target and target not in own:
            yield f"{path}.targetContainerName", f'Not found: "{target}"'
