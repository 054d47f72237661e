"""The pieces of the CRD's structural schema, and the rules that the API server checks in CEL (S4.6).

The same rules as in api.policy, so that a mistake is refused with a sentence when it is written, and not found later in
a condition. Every string, list and map has a bound: CEL rules are only admitted when their cost is.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from hotswitch.api.values import DNS_LABEL_PATTERN, DURATION_CHARACTERS, DURATION_PATTERN, PERCENT_PATTERN

Schema = dict[str, Any]
LONGEST_DURATION = "168h"


def rule(expression: str, message: str) -> dict[str, str]:
    return {"rule": expression, "message": message}


def checked(schema: Schema, *rules: Mapping[str, str]) -> Schema:
    return {**schema, "x-kubernetes-validations": [*schema.get("x-kubernetes-validations", []), *map(dict, rules)]}


def described(text: str, schema: Schema) -> Schema:
    return {"description": text, **schema}


def an_object(required: Iterable[str] = (), /, **properties: Schema) -> Schema:
    """Fields that YAML has and Python has not (`allOf`) are no problem: none is a keyword."""
    must = list(required)
    return {"type": "object", "properties": properties} | ({"required": must} if must else {})


def string(*, most: int, pattern: str = "", least: int = 0) -> Schema:
    schema: Schema = {"type": "string", "maxLength": most}
    schema |= {"minLength": least} if least else {}
    return schema | ({"pattern": pattern} if pattern else {})


def one_of(*values: str) -> Schema:
    return {"type": "string", "enum": list(values)}


def a_set(items: Schema, *, most: int) -> Schema:
    return {"type": "array", "items": items, "maxItems": most, "x-kubernetes-list-type": "set"}


def a_list(items: Schema, *, most: int) -> Schema:
    return {"type": "array", "items": items, "maxItems": most, "x-kubernetes-list-type": "atomic"}


def a_list_by(key: str, items: Schema, *, most: int) -> Schema:
    keyed = {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": [key]}
    return {"type": "array", "items": items, "maxItems": most, **keyed}


def text_map(*, most: int, longest: int) -> Schema:
    return {"type": "object", "maxProperties": most, "additionalProperties": {"type": "string", "maxLength": longest}}


def whole(*, least: int, most: int) -> Schema:
    return {"type": "integer", "format": "int32", "minimum": least, "maximum": most}


def dns_label() -> Schema:
    return string(most=63, pattern=DNS_LABEL_PATTERN)


def duration(*, least: str = "1ms", most: str = LONGEST_DURATION) -> Schema:
    """A pattern alone would let 0s and a thousand hours through."""
    within = rule(
        f"!self.matches('{DURATION_PATTERN}') || duration(self) >= duration('{least}')"
        f" && duration(self) <= duration('{most}')",
        f"must be at least {least} and at most {most}",
    )
    return checked(string(most=DURATION_CHARACTERS, pattern=DURATION_PATTERN), within)


def allowance() -> Schema:
    """A count or a share."""
    return {
        "x-kubernetes-int-or-string": True,
        "anyOf": [{"type": "integer"}, {"type": "string"}],
        "minimum": 0,
        "maximum": 1_000_000,
        "pattern": PERCENT_PATTERN,
        "maxLength": 4,
    }


def no_longer(shorter: str, longer: str) -> dict[str, str]:
    """Two durations of one object, either of which may be left out."""
    both = f"!has(self.{shorter}) || !has(self.{longer})"
    return rule(f"{both} || duration(self.{shorter}) <= duration(self.{longer})", f"{shorter} is longer than {longer}")
