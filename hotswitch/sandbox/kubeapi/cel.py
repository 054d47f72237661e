"""CEL as Kubernetes uses it in CRDs and admission policies, evaluated by cel-python.

That package is only needed where somebody loads CEL (it belongs to the development packages): without it, what carries
an expression is refused with a sentence that says so. Nothing is ever treated as true because it could not be read.
"""

from __future__ import annotations

import datetime
import re
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any

from hotswitch.sandbox.kubeapi import authorizer
from hotswitch.sandbox.kubeapi.failure import Obj

MISSING = "CEL cannot be evaluated here: the Python package cel-python is missing (hotswitch's extra `dev` has it)"
_DURATION_PART = re.compile(r"(\d+(?:\.\d+)?)(ns|us|µs|ms|s|m|h)")
_SECONDS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}


class CelError(Exception):
    """An expression that cannot be read, or that fails when it is evaluated."""


class Expression:
    """One expression, compiled. Raises CelError when it cannot be."""

    def __init__(self, text: str) -> None:
        self.text = text
        try:
            from celpy import Environment
        except ImportError:
            raise CelError(MISSING) from None
        self._run = _program(Environment, text)

    def value(self, names: Mapping[str, Any]) -> Any:
        """With these variables (already CEL values: `cel`). Raises CelError for any failure in it."""
        import celpy.evaluation

        try:
            return self._run.evaluate(dict(names))
        except celpy.evaluation.CELEvalError as error:
            why = str(error.args[0]).partition(" (in activation")[0]
            raise CelError(f"expression '{self.text}' resulted in error: {why}") from None

    def holds(self, names: Mapping[str, Any]) -> bool:
        """Raises CelError also when the value is no boolean."""
        import celpy.celtypes

        value = self.value(names)
        if not isinstance(value, (bool, celpy.celtypes.BoolType)):
            raise CelError(f"expression '{self.text}' is not a boolean")
        return bool(value)


@lru_cache(maxsize=1024)
def _program(environment_of: Callable[[], Any], text: str) -> Any:
    """It keeps nothing between evaluations. To read an expression takes longer than to evaluate it, and whoever writes
    a policy again has changed one expression at the most. Raises CelError."""
    from celpy.celparser import CELParseError

    environment = environment_of()
    try:
        tree = environment.compile(text)
    except CELParseError as error:
        raise CelError(f"compilation failed: {error}") from None
    return environment.program(tree, functions=dict(_functions()))


def cel(value: Any, schema: Obj | None = None) -> Any:
    """JSON as CEL sees it; with a schema, strings of format `duration` and `date-time` are durations and instants."""
    import celpy.adapter
    import celpy.celtypes as types

    schema = schema or {}
    if isinstance(value, dict):
        known, rest = schema.get("properties") or {}, schema.get("additionalProperties")
        inner = rest if isinstance(rest, dict) else None
        return types.MapType(
            {types.StringType(name): cel(part, known.get(name, inner)) for name, part in value.items()}
        )
    if isinstance(value, list):
        return types.ListType([cel(item, schema.get("items")) for item in value])
    if isinstance(value, str) and schema.get("format") == "duration":
        return types.DurationType(datetime.timedelta(seconds=duration_s(value)))
    if isinstance(value, str) and schema.get("format") == "date-time":
        return types.TimestampType(value)
    return celpy.adapter.json_to_cel(value)


def cel_map(values: Mapping[str, Any]) -> Any:
    """CEL values by name."""
    import celpy.celtypes as types

    return types.MapType({types.StringType(name): value for name, value in values.items()})


def duration_s(text: str) -> float:
    """Go's notation, as 1h30m or 0.5s. Raises CelError."""
    parts = _DURATION_PART.findall(text)
    if not parts or "".join(number + unit for number, unit in parts) != text.lstrip("-+"):
        raise CelError(f"{text!r} is no duration")
    seconds = sum(float(number) * _SECONDS[unit] for number, unit in parts)
    return -seconds if text.startswith("-") else seconds


def _functions() -> dict[str, Callable[..., Any]]:
    """What Kubernetes adds to CEL and cel-python lacks, as far as hotswitch's own expressions need it.

    And `!=` of null, which cel-python 0.5 has for no type.
    """
    import celpy.celtypes as types
    import celpy.evaluation as evaluation

    def differs(left: Any, right: Any) -> Any:
        for side in (left, right):
            if isinstance(side, evaluation.CELEvalError):
                return side
        if left is None or right is None:
            return types.BoolType(left is not right)
        return evaluation.bool_ne(left, right)

    def split(text: str, separator: str) -> Any:
        return types.ListType([types.StringType(part) for part in text.split(separator)])

    return {
        "_!=_": differs,
        "split": split,
        "join": lambda parts, separator="": types.StringType(separator.join(parts)),
        "lowerAscii": lambda text: types.StringType(text.lower()),
        "upperAscii": lambda text: types.StringType(text.upper()),
        "trim": lambda text: types.StringType(text.strip()),
        "replace": lambda text, old, new: types.StringType(text.replace(old, new)),
        "substring": lambda text, start, end=None: types.StringType(text[int(start) : end and int(end)]),
        "indexOf": lambda text, part: types.IntType(text.find(part)),
        "isSorted": lambda items: types.BoolType(list(items) == sorted(items)),
        "sum": lambda items: sum(items[1:], items[0]) if items else types.IntType(0),
        "min": lambda items: min(items),
        "max": lambda items: max(items),
        **authorizer.functions(),
    }
