"""What a pod or a namespace says by its label and annotations, as the same spec that a policy has (S4.6, I2).

A value that cannot be read changes nothing: the last valid one of that knob stays in force. Where none is known (the
controller has just started), what was meant can only have been more careful, so the most careful meaning is taken.
A misspelt knob would be a restriction that silently does not hold; it is a problem as well.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from functools import lru_cache
from typing import Any

from hotswitch.api import names
from hotswitch.api.fields import InvalidValues
from hotswitch.api.policy import PolicySpec, parse
from hotswitch.api.values import InvalidValue, words

LONGEST = 1024  # characters of one value
_NOBODY = PolicySpec()


class Bearer(StrEnum):
    """What carries the annotations; some knobs mean something only on one of them."""

    POD = "pod"
    NAMESPACE = "namespace"


@dataclass(frozen=True, slots=True)
class Knob:
    """`path`: of the field in a spec. `careful`: what stands for a value that cannot be read and never could."""

    path: tuple[str, ...]
    read: Callable[[str], Any] = str
    careful: str | None = None  # None: nothing is said


def _number(text: str) -> Any:
    return int(text) if text.isascii() and text.isdigit() and len(text) <= 6 else text


def _labels(text: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for word in words(text):
        name, equals, value = (part.strip() for part in word.partition("="))
        if not equals:
            raise ValueError(f"{word!r} is not name=value")
        if name in found:
            raise ValueError(f"names {name} twice")
        found[name] = value
    return found


_EVERYWHERE: Mapping[str, Knob] = {
    names.LEVELS_INBOUND: Knob(("levels", "inbound"), words, "hold"),
    names.LEVELS_OUTBOUND: Knob(("levels", "outbound"), words, "hold"),
    names.DIRECTIONS: Knob(("directions",), words, ""),
    names.PROFILE: Knob(("profile",), careful="default"),
    names.EXPIRY: Knob(("timings", "expiry")),
    names.OPEN_AT_MOST: Knob(("timings", "openAtMost")),
    names.HOLD_DOWN: Knob(("timings", "holdDown")),
    names.HOLD_DOWN_MAX: Knob(("timings", "holdDownMax")),
    names.RECOVER_AFTER: Knob(("timings", "recoverAfter")),
    names.RECOVER_PROBES: Knob(("timings", "recoverProbes"), _number),
    names.STALE_AFTER: Knob(("timings", "staleAfter")),
    names.CERTIFICATE_ENDS: Knob(("timings", "certificateEnds")),
    names.ACTUATORS: Knob(("actuators",), words, ""),
    names.DRILL_EVERY: Knob(("drill", "every")),
    names.ALERT_LABELS: Knob(("alerts", "labels"), _labels),
    names.ALERT_REPEAT: Knob(("alerts", "repeat")),
}
KNOBS: Mapping[Bearer, Mapping[str, Knob]] = {
    Bearer.POD: {**_EVERYWHERE, names.BUDGET: Knob(("budgets", "workload"), _number, "0")},
    Bearer.NAMESPACE: {**_EVERYWHERE, names.BUDGET: Knob(("budgets", "namespace"), _number, "0")},
}
_MODE = {names.MODE_LABEL: Knob(("mode",), careful="observe")}
_KNOWN: Mapping[Bearer, Mapping[str, Knob]] = {
    Bearer.POD: {
        **_MODE,
        **KNOBS[Bearer.POD],
        names.TRUSTS_PROXY_HEADERS: Knob((), careful="true"),
        names.DRILL: Knob((), careful="off"),
    },
    Bearer.NAMESPACE: {**_MODE, **KNOBS[Bearer.NAMESPACE]},
}
"""With the label, and with what is no part of a spec."""
_EITHER: Mapping[str, tuple[str, str]] = {names.TRUSTS_PROXY_HEADERS: ("true", "false"), names.DRILL: ("on", "off")}
NO_KNOBS: frozenset[str] = frozenset(
    {
        names.STATUS,
        names.TOUCHED,
        names.OVERRIDE,
        names.OVERRIDE_UNTIL,
        names.OVERRIDE_DIRECTION,
        names.OVERRIDE_REASON,
        names.OVERRIDE_BY,
        names.OVERRIDE_ACCEPT,
        names.DRILL_ORDER,
        names.DRILLED,
    }
)
"""Annotations of ours that are read elsewhere."""


@dataclass(frozen=True, slots=True)
class Knobs:
    """`texts`: the values in force, as given; what a later, unreadable value falls back to. `trusts_proxy_headers`:
    None when nothing is said, which `direct` inbound takes for yes (review of the forged client certificate)."""

    spec: PolicySpec = _NOBODY
    texts: Mapping[str, str] = field(default_factory=dict)
    trusts_proxy_headers: bool | None = None
    problems: tuple[InvalidValue, ...] = ()


_SILENT = Knobs()
_LABELS = frozenset[str]().union(*_KNOWN.values())  # what means something as a label, or was meant as an annotation


def read(
    bearer: Bearer, labels: Mapping[str, str], annotations: Mapping[str, str], before: Knobs | None = None
) -> Knobs:
    """`before`: what the same object (by uid) said last; None: it is seen for the first time. Never raises."""
    if not annotations and _LABELS.isdisjoint(labels):
        return _SILENT  # of ten thousand pods, nearly all
    known = _KNOWN[bearer]
    said = {name: annotations[name] for name in known if name in annotations and name != names.MODE_LABEL}
    said |= {names.MODE_LABEL: labels[names.MODE_LABEL]} if names.MODE_LABEL in labels else {}
    problems = _strangers(bearer, labels, annotations)
    texts: dict[str, str] = {}
    for name, text in said.items():
        wrong = _wrong(bearer, name, text)
        problems += wrong
        kept = text if not wrong else _instead(known[name], name, before)
        texts |= {} if kept is None else {name: kept}
    return _together(bearer, texts, tuple(problems), before)


def said_by_us(annotations: Mapping[str, str]) -> dict[str, str]:
    """Those that `read` looks at; the rest of an object's annotations may change without any effect."""
    return {name: text for name, text in annotations.items() if name.startswith(names.PREFIX) and name not in NO_KNOBS}


def _instead(knob: Knob, name: str, before: Knobs | None) -> str | None:
    return knob.careful if before is None else before.texts.get(name)


def _strangers(bearer: Bearer, labels: Mapping[str, str], annotations: Mapping[str, str]) -> list[InvalidValue]:
    known, found = _KNOWN[bearer], []
    for name, text in said_by_us(annotations).items():
        if name == names.MODE_LABEL:
            found.append(InvalidValue(name, text, "is read as a label, not as an annotation"))
        elif name not in known:
            found.append(InvalidValue(name, text, f"is no annotation that hotswitch reads on a {bearer}"))
    for name in labels.keys() & KNOBS[bearer].keys():
        found.append(InvalidValue(name, labels[name], "is read as an annotation, not as a label"))
    return sorted(found, key=lambda problem: problem.field)


@lru_cache(maxsize=4096)  # pods of one workload all say the same
def _wrong(bearer: Bearer, name: str, text: str) -> tuple[InvalidValue, ...]:
    if len(text) > LONGEST:
        return (InvalidValue(name, text, f"is longer than {LONGEST} characters"),)
    if name in _EITHER:
        words = _EITHER[name]
        return () if text in words else (InvalidValue(name, text, f"is neither {words[0]} nor {words[1]}"),)
    try:
        parse(_placed(_KNOWN[bearer][name], text))
    except InvalidValues as failure:
        return (InvalidValue(name, text, failure.found[0].why),)
    except ValueError as failure:
        return (InvalidValue(name, text, str(failure)),)
    return ()


def _placed(knob: Knob, text: str) -> dict[str, Any]:
    value: Any = knob.read(text)
    for step in reversed(knob.path):
        value = {step: value}
    return dict(value)


def _together(bearer: Bearer, texts: dict[str, str], problems: tuple[InvalidValue, ...], before: Knobs | None) -> Knobs:
    """Values that are right one by one may still contradict each other; then the timings stay as they were."""
    try:
        spec = _spec(bearer, tuple(sorted(texts.items())))
    except InvalidValues as failure:
        timings = {name for name, knob in KNOBS[bearer].items() if knob.path[0] == "timings"}
        old = {name: text for name, text in (before.texts if before else {}).items() if name in timings}
        texts = {name: text for name, text in texts.items() if name not in timings} | old
        contradiction = InvalidValue("annotations", failure.found[0].value, failure.found[0].why)
        problems = (*problems, contradiction)
        spec = _spec(bearer, tuple(sorted(texts.items())))
    trusts = texts.get(names.TRUSTS_PROXY_HEADERS)
    return Knobs(spec, texts, None if trusts is None else trusts == "true", problems)


@lru_cache(maxsize=4096)
def _spec(bearer: Bearer, texts: tuple[tuple[str, str], ...]) -> PolicySpec:
    known = _KNOWN[bearer]
    content: dict[str, Any] = {}
    for name, text in texts:
        if known[name].path:
            _merge(content, _placed(known[name], text))
    return parse(content)


def _merge(into: dict[str, Any], more: dict[str, Any]) -> None:
    for key, value in more.items():
        if isinstance(value, dict) and isinstance(into.get(key), dict):
            _merge(into[key], value)
        else:
            into[key] = value
