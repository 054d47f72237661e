"""x-kubernetes-validations of a CRD's schema: CEL rules beside the fields that they are about.

A rule sees its own value as `self`; one that names `oldSelf` is about changes, and is not asked when there was nothing
before. Items of lists have no `oldSelf` here, except of lists that are maps by key.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from hotswitch.sandbox.kubeapi.cel import CelError, Expression, cel
from hotswitch.sandbox.kubeapi.failure import Cause, Obj
from hotswitch.sandbox.kubeapi.schema import named_type

RULES = "x-kubernetes-validations"


@dataclass(frozen=True, slots=True)
class _Rule:
    expression: Expression
    message: str
    message_expression: Expression | None
    of_changes: bool
    below: str

    @classmethod
    def of(cls, said: Obj) -> _Rule:
        text = said["rule"]
        message = said.get("message") or f"failed rule: {text.strip()}"
        told = said.get("messageExpression")
        return cls(
            Expression(text), message, Expression(told) if told else None, "oldSelf" in text, said.get("fieldPath", "")
        )

    def broken(self, names: dict[str, Any]) -> str:
        """What is wrong, or nothing."""
        try:
            if self.expression.holds(names):
                return ""
            return str(self.message_expression.value(names)) if self.message_expression else self.message
        except CelError as error:
            return f"{error} evaluating rule: {self.message}"


class Rules:
    """All rules of one schema, compiled. Raises CelError (no cel-python, or a rule that cannot be read)."""

    def __init__(self, schema: Obj) -> None:
        self._schema = schema
        self._rules: dict[int, tuple[_Rule, ...]] = {}
        self._compile(schema)

    def __bool__(self) -> bool:
        return bool(self._rules)

    def _compile(self, schema: Obj) -> bool:
        """Is there any rule in it or below?"""
        below = [*(schema.get("properties") or {}).values(), schema.get("items"), schema.get("additionalProperties")]
        found = [self._compile(part) for part in below if isinstance(part, dict)]
        rules = tuple(_Rule.of(said) for said in schema.get(RULES) or ())
        if rules or any(found):
            self._rules[id(schema)] = rules
        return id(schema) in self._rules

    def broken(self, value: Any, old: Any) -> Iterator[Cause]:
        """`old`: the value before the change, None when there was none."""
        yield from self._broken(self._schema, value, old, "")

    def _broken(self, schema: Obj, value: Any, old: Any, path: str) -> Iterator[Cause]:
        if id(schema) not in self._rules or value is None:
            return
        names = {"self": cel(value, schema), "oldSelf": cel(old, schema)}
        for rule in self._rules[id(schema)]:
            if rule.of_changes and old is None:
                continue
            if why := rule.broken(names):
                yield f"{path}{rule.below}".lstrip(".") or "<nil>", f'Invalid value: "{named_type(value)}": {why}'
        yield from self._below(schema, value, old, path)

    def _below(self, schema: Obj, value: Any, old: Any, path: str) -> Iterator[Cause]:
        if isinstance(value, dict):
            known, rest = schema.get("properties") or {}, schema.get("additionalProperties")
            for name, part in value.items():
                inner = known.get(name, rest)
                if isinstance(inner, dict):
                    before = old.get(name) if isinstance(old, dict) else None
                    yield from self._broken(inner, part, before, f"{path}.{name}".lstrip("."))
        elif isinstance(value, list) and isinstance(schema.get("items"), dict):
            for place, item in enumerate(value):
                yield from self._broken(schema["items"], item, _same(schema, item, old), f"{path}[{place}]")


def _same(schema: Obj, item: Any, old: Any) -> Any:
    """The item with the same keys in the list before."""
    keys = schema.get("x-kubernetes-list-map-keys")
    if not keys or not isinstance(old, list):
        return None
    return next((each for each in old if all(each.get(key) == item.get(key) for key in keys)), None)
