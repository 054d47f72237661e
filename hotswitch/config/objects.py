"""The objects that settings come from, each with the last spec of it that was valid (I2).

An object is its uid: a policy that was deleted and made anew under its name starts without a past. A spec that cannot
be read is a problem of its object, and the last valid one stays; where there is none, as at the first sight of it, the
policy counts as one that asks for no more than observing, because what it was to restrict is not known.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from hotswitch.api.fields import InvalidValues
from hotswitch.api.names import KIND
from hotswitch.api.policy import Acceptance, PolicySpec, parse
from hotswitch.api.values import InvalidValue, instant_unix_s
from hotswitch.model import Mode

_FOREVER_S = float("inf")


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectRef:
    """Enough to write an Event about it."""

    kind: str
    name: str
    namespace: str = ""
    uid: str = ""

    def __str__(self) -> str:
        place = f"{self.namespace}/{self.name}" if self.namespace else self.name
        return f"{self.kind} {place}"


@dataclass(frozen=True, slots=True)
class Problem:
    """Something a user wrote that is not as it should be. `value` is shortened to what can be shown."""

    object_ref: ObjectRef
    field: str
    value: str
    why: str

    def __str__(self) -> str:
        return f"{self.object_ref}: {self.field}: {self.value}: {self.why}"


def problem(ref: ObjectRef, invalid: InvalidValue) -> Problem:
    return Problem(ref, invalid.field, invalid.value, invalid.why)


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyObject:
    """`spec`: what is in force. `generation` is that of the object as seen last, whether its spec could be `read` or an
    older one stays."""

    ref: ObjectRef
    spec: PolicySpec
    generation: int = 0
    created_unix_s: float = _FOREVER_S
    read: bool = True
    problems: tuple[Problem, ...] = ()

    @property
    def selects_some(self) -> bool:
        """By labels; a selection of namespaces is none of workloads."""
        return bool(self.spec.selector.match_labels)

    @property
    def by_labels_alone(self) -> bool:
        """Labels are the workload's own word: whoever may set them could choose to be selected."""
        return self.selects_some and not self.spec.selector.namespaces

    def may_accept(self, entry: Acceptance) -> bool:
        """Whether it is given to pods that others than their owners have named."""
        named = bool(entry.namespaces or self.spec.selector.namespaces)
        return named or not (self.selects_some or entry.selector.match_labels)

    def label_keys(self) -> set[str]:
        """Labels by which it tells pods apart."""
        keys = set(self.spec.selector.match_labels)
        return keys.union(*(entry.selector.match_labels for entry in self.spec.accept))

    def selects(self, namespace: str, labels: Mapping[str, str]) -> bool:
        """Among the pods that it may speak of at all."""
        selector = self.spec.selector
        return (not selector.namespaces or namespace in selector.namespaces) and selector.selects(labels)


_UNREADABLE = PolicySpec(mode=Mode.OBSERVE, adopt="never")
"""Without a selector: which pods it was meant for is not known either."""


def policy_object(manifest: Mapping[str, Any], old: PolicyObject | None = None) -> PolicyObject:
    """`old`: the same name's object as it was; of another uid, it counts for nothing. Raises nothing for what users
    can write; KeyError for what is no API object."""
    metadata = manifest["metadata"]
    ref = ObjectRef(kind=KIND, name=metadata["name"], namespace=metadata["namespace"], uid=metadata.get("uid", ""))
    seen = PolicyObject(
        ref=ref,
        spec=PolicySpec(),
        generation=int(metadata.get("generation", 0)),
        created_unix_s=_created(metadata),
    )
    old = old if old is not None and old.ref.uid == ref.uid else None
    try:
        return replace(seen, spec=parse(manifest.get("spec")))
    except InvalidValues as failure:
        problems = tuple(problem(ref, each) for each in failure.found)
        return replace(seen, spec=old.spec if old is not None else _UNREADABLE, read=False, problems=problems)


def _created(metadata: Mapping[str, Any]) -> float:
    try:
        return instant_unix_s(str(metadata.get("creationTimestamp", "")))
    except ValueError:
        return _FOREVER_S
