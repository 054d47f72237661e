"""CustomResourceDefinitions: what is created over the API is served from then on, and held to its schema.

A definition is read when it is written: a schema that is not structural, or a rule that cannot be compiled, is refused
then, not at the first object.
"""

from __future__ import annotations

from dataclasses import dataclass

from hotswitch.sandbox.kubeapi.cel import CelError
from hotswitch.sandbox.kubeapi.failure import ApiError, Cause, Obj, invalid
from hotswitch.sandbox.kubeapi.record import at, now
from hotswitch.sandbox.kubeapi.request import Ask
from hotswitch.sandbox.kubeapi.resources import Catalogue, Resource
from hotswitch.sandbox.kubeapi.rules import Rules
from hotswitch.sandbox.kubeapi.schema import defaulted, pruned, stops_rules, unknown, violations
from hotswitch.sandbox.kubeapi.store import Change, Store

TABLE = ("apiextensions.k8s.io", "customresourcedefinitions")
KIND = "CustomResourceDefinition.apiextensions.k8s.io"
UNCHECKED = (
    "Invalid value: null: some validation rules were not checked because the object was invalid; "
    "correct the existing errors to complete validation"
)
SUBRESOURCES = ("status", "scale")


@dataclass(frozen=True, slots=True)
class _Version:
    schema: Obj
    rules: Rules


class Definitions:
    """Keeps the catalogue in step with the definitions that are stored, and shapes their objects."""

    def __init__(self, catalogue: Catalogue, store: Store) -> None:
        self._catalogue, self._store = catalogue, store
        self._versions: dict[tuple[str, str, str], _Version] = {}
        store.listen(TABLE, self._changed)

    def shape(self, ask: Ask, before: Obj | None, after: Obj) -> None:
        """Complete what is about to be stored, in place. Raises ApiError 400 or 422."""
        if ask.resource.table == TABLE and ask.sub == "":
            self._check_definition(after)
            after["status"] = _established(after, before)
        elif ask.resource.custom:
            self._shape_object(ask, before, after)

    def _check_definition(self, definition: Obj) -> None:
        name = definition["metadata"].get("name", "")
        causes = list(_mistakes(definition))
        if not causes:
            for place, version in enumerate(definition["spec"]["versions"]):
                try:
                    Rules(version["schema"]["openAPIV3Schema"])
                except CelError as error:
                    causes.append((f"spec.versions[{place}].schema.openAPIV3Schema", f"Invalid value: {error}"))
        if causes:
            raise invalid(KIND, name, causes)

    def _shape_object(self, ask: Ask, before: Obj | None, after: Obj) -> None:
        resource = ask.resource
        version = self._versions[resource.group, resource.version, resource.plural]
        if ask.query.get("fieldValidation") == "Strict" and not ask.sub:
            _refuse_unknown(resource, version.schema, after)
        shaped = defaulted(version.schema, pruned(version.schema, after, root=True))
        after.clear()
        after.update(shaped)
        causes = list(violations(version.schema, after))
        if not any(stops_rules(why) for _, why in causes):
            causes += version.rules.broken(after, before)
        elif version.rules:
            causes.append(("<nil>", UNCHECKED))
        if causes:
            raise invalid(resource.qualified_kind, after["metadata"].get("name", ""), causes)

    def _changed(self, change: Change) -> None:
        definition = change.record.decode()
        spec = definition["spec"]
        table = spec["group"], spec["names"]["plural"]
        self._catalogue.remove(table)
        if change.type == "DELETED":
            for record in list(self._store.records(table)):
                self._store.remove(table, record.decode())
            return
        for version in spec["versions"]:
            if version.get("served", True):
                self._serve(spec, version)

    def _serve(self, spec: Obj, version: Obj) -> None:
        names = spec["names"]
        schema = version["schema"]["openAPIV3Schema"]
        resource = Resource(
            spec["group"],
            version["name"],
            names["plural"],
            names["kind"],
            spec["scope"] == "Namespaced",
            tuple(names.get("shortNames") or ()),
            tuple(sub for sub in SUBRESOURCES if sub in (version.get("subresources") or {})),
            counts=True,
            custom=True,
            columns=_columns(version),
        )
        self._catalogue.add(resource)
        self._versions[spec["group"], version["name"], names["plural"]] = _Version(schema, Rules(schema))


def _columns(version: Obj) -> tuple[tuple[str, str, str], ...]:
    return tuple(
        (column["name"], column.get("type", "string"), column["jsonPath"])
        for column in version.get("additionalPrinterColumns") or ()
        if not column.get("priority")
    )


def _refuse_unknown(resource: Resource, schema: Obj, obj: Obj) -> None:
    if found := sorted(unknown(schema, obj)):
        said = ", ".join(f'unknown field "{path}"' for path in found)
        what = f'{resource.kind} in version "{resource.version}" cannot be handled as a {resource.kind}'
        raise ApiError(400, f"{what}: strict decoding error: {said}")


def _mistakes(definition: Obj) -> list[Cause]:
    spec, causes = definition.get("spec") or {}, []
    needed = ("group", "names", "scope", "versions")
    causes += [(f"spec.{field}", "Required value") for field in needed if not spec.get(field)]
    if causes:
        return causes
    if definition["metadata"].get("name") != f"{spec['names'].get('plural')}.{spec['group']}":
        causes.append(("metadata.name", f"Invalid value: must be spec.names.plural+{spec['group']!r}"))
    if sum(bool(version.get("storage")) for version in spec["versions"]) != 1:
        causes.append(("spec.versions", "Invalid value: must have exactly one version marked as storage version"))
    for place, version in enumerate(spec["versions"]):
        schema = at(version, "schema", "openAPIV3Schema")
        path = f"spec.versions[{place}].schema.openAPIV3Schema"
        if schema is None:
            causes.append((path, "Required value: schemas are required"))
        elif schema.get("type") != "object":
            causes.append((f"{path}.type", 'Invalid value: must be "object" at the root'))
        else:
            causes += [(where, why) for where, why in _unstructural(schema, path)]
    return causes


def _unstructural(schema: Obj, path: str) -> list[Cause]:
    """Each place has a type: without it, pruning would not know what to keep."""
    free = schema.get("x-kubernetes-preserve-unknown-fields") or schema.get("x-kubernetes-int-or-string")
    causes = [] if schema.get("type") or free else [(f"{path}.type", "Required value: must not be empty")]
    below = [(f"{path}.properties[{name}]", part) for name, part in (schema.get("properties") or {}).items()]
    below += [(f"{path}.{field}", schema[field]) for field in ("items", "additionalProperties") if schema.get(field)]
    for where, part in below:
        if isinstance(part, dict):
            causes += _unstructural(part, where)
    return causes


def _established(definition: Obj, before: Obj | None) -> Obj:
    """What the real one's controllers write a moment later."""
    spec = definition["spec"]
    since = at(before, "metadata", "creationTimestamp") or now()
    conditions = [
        {"type": kind, "status": "True", "reason": reason, "message": message, "lastTransitionTime": since}
        for kind, reason, message in (
            ("NamesAccepted", "NoConflicts", "no conflicts found"),
            ("Established", "InitialNamesAccepted", "the initial names have been accepted"),
        )
    ]
    names = {"listKind": f"{spec['names']['kind']}List", "singular": spec["names"]["kind"].lower(), **spec["names"]}
    stored = [version["name"] for version in spec["versions"] if version.get("storage")]
    kept = at(before, "status", "storedVersions") or []
    return {"conditions": conditions, "acceptedNames": names, "storedVersions": list(dict.fromkeys([*kept, *stored]))}
