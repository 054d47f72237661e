"""Structural schemas of CRDs: what is unknown is pruned, what is missing gets its default, what is wrong is said.

The subset of OpenAPI v3 that Kubernetes allows in a CRD, with the messages of a real API server, since people and tests
read them. CEL rules are another file's (`rules`).
"""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Iterator
from typing import Any

from hotswitch.sandbox.kubeapi.failure import Cause, Obj

PRESERVE, INT_OR_STRING, EMBEDDED = (
    "x-kubernetes-preserve-unknown-fields",
    "x-kubernetes-int-or-string",
    "x-kubernetes-embedded-resource",
)
_ROOT_OWN = ("apiVersion", "kind", "metadata")
_DATE_TIME = re.compile(r"\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(\.\d+)?([Zz]|[+-]\d\d:\d\d)")


def pruned(schema: Obj, value: Any, *, root: bool = False) -> Any:
    """`value` without fields that the schema does not know, or that may not be null and are. `root`: a whole object."""
    if isinstance(value, list):
        return [pruned(schema.get("items") or {}, item) for item in value]
    if not isinstance(value, dict):
        return value
    known, rest = schema.get("properties") or {}, schema.get("additionalProperties")
    kept: Obj = {}
    for name, part in value.items():
        if (root or schema.get(EMBEDDED)) and name in _ROOT_OWN:
            kept[name] = part
        elif name in known:
            if part is not None or known[name].get("nullable"):
                kept[name] = pruned(known[name], part)
        elif isinstance(rest, dict):
            kept[name] = pruned(rest, part)
        elif rest is True or schema.get(PRESERVE):
            kept[name] = part
    return kept


def unknown(schema: Obj, value: Any, path: str = "") -> Iterator[str]:
    """The paths that `pruned` takes away below the root's own fields."""
    if isinstance(value, list):
        for place, item in enumerate(value):
            yield from unknown(schema.get("items") or {}, item, f"{path}[{place}]")
    if not isinstance(value, dict):
        return
    known, rest = schema.get("properties") or {}, schema.get("additionalProperties")
    for name, part in value.items():
        here = f"{path}.{name}" if path else name
        if name in known:
            yield from unknown(known[name], part, here)
        elif isinstance(rest, dict):
            yield from unknown(rest, part, here)
        elif not (rest is True or schema.get(PRESERVE) or (not path and name in _ROOT_OWN)):
            yield here


def defaulted(schema: Obj, value: Any) -> Any:
    """`value` with the defaults of what it leaves out; a default is not put into an object that is left out itself."""
    if isinstance(value, list):
        return [defaulted(schema.get("items") or {}, item) for item in value]
    if not isinstance(value, dict):
        return value
    known, rest = schema.get("properties") or {}, schema.get("additionalProperties")
    filled = dict(value)
    for name, part in known.items():
        if name not in filled and "default" in part:
            filled[name] = copy.deepcopy(part["default"])
    for name, part in filled.items():
        inner = known.get(name, rest if isinstance(rest, dict) else None)
        if inner is not None:
            filled[name] = defaulted(inner, part)
    return filled


def violations(schema: Obj, value: Any, path: str = "") -> Iterator[Cause]:
    """Everything that is wrong with `value`. Paths as in Kubernetes: `spec.items[0].name`."""
    if value is None and schema.get("nullable"):
        return
    wrong_type = _type(schema, value)
    if wrong_type:
        shown = json.dumps(named_type(value))
        yield path or "<nil>", f"Invalid value: {shown}: {_body(path)} must be of type {wrong_type}: {shown}"
        yield from ((path or "<nil>", why) for why in _enum(schema, value))
        return
    for why in (*_value(schema, value, path), *_combined(schema, value, path)):
        yield path or "<nil>", why
    if isinstance(value, dict):
        yield from _object(schema, value, path)
    elif isinstance(value, list):
        for place, item in enumerate(value):
            yield from violations(schema.get("items") or {}, item, f"{path}[{place}]")
        yield from _doubles(schema, value, path)


def stops_rules(why: str) -> bool:
    """CEL rules are not asked about an object with such a mistake: it may not have the types that they rely on."""
    return not why.startswith(("Invalid value", "Duplicate value")) or " must be of type " in why


def _body(path: str) -> str:
    return f"{path} in body" if path else "in body"


def named_type(value: Any) -> str:
    """As JSON Schema and messages name it."""
    names: dict[type, str] = {bool: "boolean", int: "integer", float: "number", str: "string", list: "array"}
    return names.get(type(value), "object" if value is not None else "null")


def _type(schema: Obj, value: Any) -> str:
    """The type that it should have had."""
    found = named_type(value)
    if schema.get(INT_OR_STRING):
        return "" if found in ("integer", "string") else "integer,string"
    wanted = schema.get("type")
    if wanted in (None, found) or (wanted == "number" and found == "integer"):
        return ""
    return "" if wanted == "integer" and isinstance(value, float) and value.is_integer() else str(wanted)


def _value(schema: Obj, value: Any, path: str) -> Iterator[str]:
    yield from _enum(schema, value)
    if isinstance(value, str):
        yield from _string(schema, value, path)
    elif isinstance(value, (int, float)) and not isinstance(value, bool):
        yield from _number(schema, value, path)
    elif isinstance(value, (list, dict)):
        yield from _count(schema, value, path)


def _enum(schema: Obj, value: Any) -> Iterator[str]:
    if "enum" in schema and value not in schema["enum"]:
        supported = ", ".join(json.dumps(each) for each in schema["enum"])
        yield f"Unsupported value: {json.dumps(value)}: supported values: {supported}"


def _string(schema: Obj, value: str, path: str) -> Iterator[str]:
    start = f"Invalid value: {json.dumps(value)}: {_body(path)}"
    if len(value) > schema.get("maxLength", len(value)):
        yield f"Too long: may not be more than {schema['maxLength']} bytes"
    elif len(value) < schema.get("minLength", 0):
        yield f"{start} should be at least {schema['minLength']} chars long"
    elif "pattern" in schema and not re.search(schema["pattern"], value):
        yield f"{start} should match '{schema['pattern']}'"
    if schema.get("format") == "date-time" and not _DATE_TIME.fullmatch(value):
        yield f"{start} must be of type date-time: {json.dumps(value)}"


def _number(schema: Obj, value: float, path: str) -> Iterator[str]:
    start = f"Invalid value: {json.dumps(value)}: {_body(path)}"
    low, high = schema.get("minimum"), schema.get("maximum")
    if low is not None and (value < low or (schema.get("exclusiveMinimum") and value == low)):
        yield f"{start} should be greater than {'' if schema.get('exclusiveMinimum') else 'or equal to '}{low}"
    if high is not None and (value > high or (schema.get("exclusiveMaximum") and value == high)):
        yield f"{start} should be less than {'' if schema.get('exclusiveMaximum') else 'or equal to '}{high}"
    if (step := schema.get("multipleOf")) and value % step:
        yield f"{start} should be a multiple of {step}"


def _count(schema: Obj, value: list[Any] | Obj, path: str) -> Iterator[str]:
    count, noun = len(value), "Items" if isinstance(value, list) else "Properties"
    said = "items" if noun == "Items" else "properties"
    if count < schema.get(f"min{noun}", 0):
        yield f"Invalid value: {count}: {_body(path)} should have at least {schema[f'min{noun}']} {said}"
    if count > schema.get(f"max{noun}", count):
        yield f"Too many: {count}: must have at most {schema[f'max{noun}']} {said}"


def _doubles(schema: Obj, items: list[Any], path: str) -> Iterator[Cause]:
    """Of lists that are sets, or maps by some of their fields."""
    kind, keys = schema.get("x-kubernetes-list-type"), schema.get("x-kubernetes-list-map-keys") or ()
    if kind == "map":
        items = [{key: item.get(key) for key in keys} for item in items if isinstance(item, dict)]
    elif kind != "set":
        return
    for place, item in enumerate(items):
        if items[:place].count(item) == 1:
            yield f"{path}[{place}]", f"Duplicate value: {json.dumps(item)}"


def _combined(schema: Obj, value: Any, path: str) -> Iterator[str]:
    start = f"Invalid value: {json.dumps(named_type(value))}: {_body(path)}"

    def fits(part: Obj) -> bool:
        return next(violations(part, value, path), None) is None

    for part in schema.get("allOf") or ():
        yield from (f"{why} ({where})" for where, why in violations(part, value, path))
    if schema.get("anyOf") and not any(map(fits, schema["anyOf"])):
        yield f"{start} must validate at least one schema (anyOf)"
    if schema.get("oneOf") and sum(map(fits, schema["oneOf"])) != 1:
        yield f"{start} must validate one and only one schema (oneOf)"
    if schema.get("not") and fits(schema["not"]):
        yield f"{start} must not validate the schema (not)"


def _object(schema: Obj, value: Obj, path: str) -> Iterator[Cause]:
    known, rest = schema.get("properties") or {}, schema.get("additionalProperties")
    for name in schema.get("required") or ():
        if name not in value:
            yield (f"{path}.{name}" if path else name), "Required value"
    for name, part in value.items():
        inner = known.get(name, rest if isinstance(rest, dict) else None)
        if inner is not None:
            yield from violations(inner, part, f"{path}.{name}" if path else name)
