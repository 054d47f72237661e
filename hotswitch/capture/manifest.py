"""Reading untrusted manifests: whatever has the wrong shape is a SpecError that names the place (S4.3a).

A manifest comes from the API server, a file or an annotation's JSON; none of them is taken at its word.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from reprlib import Repr
from typing import Any

from hotswitch.capture.fields import SpecError

Object = Mapping[str, Any]
_REPR = Repr()  # cuts at every level


def mapping(where: str, value: object) -> Object:
    """A JSON object; absent counts as empty."""
    if value is None:
        return {}
    if not isinstance(value, Mapping) or not all(isinstance(key, str) for key in value):
        raise SpecError(where, _short(value), "not an object")
    return value


def objects(where: str, value: object) -> tuple[Object, ...]:
    """A list of JSON objects; absent counts as empty."""
    return tuple(mapping(where, item) for item in _items(where, value))


def strings(where: str, value: object) -> tuple[str, ...]:
    return tuple(string(where, item) for item in _items(where, value))


def string(where: str, value: object) -> str:
    if not isinstance(value, str):
        raise SpecError(where, _short(value), "not a string")
    return value


def integer(where: str, value: object, lowest: int, highest: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not lowest <= value <= highest:
        raise SpecError(where, _short(value), f"not a number from {lowest} to {highest}")
    return value


def boolean(where: str, value: object) -> bool:
    if not isinstance(value, bool):
        raise SpecError(where, _short(value), "neither true nor false")
    return value


def named(where: str, values: object, name: str) -> Object | None:
    """The object of that `name` in a list such as `containers`."""
    return next((item for item in objects(where, values) if item.get("name") == name), None)


def pod_template(manifest: object) -> tuple[Object, Object]:
    """(metadata, spec) of the pod that this Pod or workload describes: Deployment, StatefulSet, DaemonSet, ReplicaSet,
    Job, CronJob and anything else that keeps its template in one of the same places. Raises SpecError."""
    top = mapping("manifest", manifest)
    spec = mapping("spec", top.get("spec"))
    job = mapping("spec.jobTemplate", spec.get("jobTemplate"))
    inner = mapping("spec.jobTemplate.spec", job.get("spec"))
    for holder in (top, mapping("spec.template", spec.get("template")), mapping("template", top.get("template"))):
        if "containers" in mapping("spec", holder.get("spec")):
            return mapping("metadata", holder.get("metadata")), mapping("spec", holder.get("spec"))
    template = mapping("spec.jobTemplate.spec.template", inner.get("template"))
    if "containers" in mapping("spec", template.get("spec")):
        return mapping("metadata", template.get("metadata")), mapping("spec", template.get("spec"))
    raise SpecError("manifest", str(top.get("kind", ""))[:80], "holds no pod template")


def environment(where: str, container: Object) -> dict[str, str | None]:
    """The container's variables; None where the value comes from elsewhere (valueFrom)."""
    found: dict[str, str | None] = {}
    for item in objects(f"{where}.env", container.get("env")):
        name = string(f"{where}.env.name", item.get("name"))
        value = item.get("value")
        found[name] = None if "valueFrom" in item else "" if value is None else string(f"{where}.env.{name}", value)
    return found


def _items(where: str, value: object) -> Sequence[object]:
    if value is None:
        return ()
    if not isinstance(value, Sequence) or isinstance(value, str | bytes):
        raise SpecError(where, _short(value), "not a list")
    return value


def _short(value: object) -> str:
    return _REPR.repr(value)[:80]  # a few words of YAML can mean a value whose text would fill the memory
