"""What a Service's annotations say about its endpoints, and a pod's about its part in them (S0, S2.1).

The Service is one without a selector, so that no other controller writes its slices; whom it means stands in an
annotation. A value that cannot be read is an error that names the annotation and the value, and what was valid before
stays in force.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import TypeVar

from hotswitch.api.values import InvalidValue, duration_s, instant_unix_s, words
from hotswitch.backends import (
    USUAL_OUTPUTS,
    ActivityLease,
    Check,
    CheckKind,
    Output,
    Rotation,
    ServiceMode,
    ServiceOptions,
)

PREFIX = "endpoints.hotswitch.io/"
MODE = "endpoints.hotswitch.io/mode"  # all | active-standby | nearest: this annotation makes a Service ours
SELECTOR = "endpoints.hotswitch.io/selector"  # app=db,tier=data
CHECK = "endpoints.hotswitch.io/check"  # kubelet | tcp:5432 | http:8080/path | grpc:9000/service
CHECK_PERIOD = "endpoints.hotswitch.io/check-period"
CHECK_TIMEOUT = "endpoints.hotswitch.io/check-timeout"
CHECK_RISE = "endpoints.hotswitch.io/check-rise"  # answers in a row until available
CHECK_FALL = "endpoints.hotswitch.io/check-fall"  # failures in a row until unavailable
PREEMPT = "endpoints.hotswitch.io/preempt"  # true | false
ACTIVITY_LEASE = "endpoints.hotswitch.io/activity-lease"  # 5s: its pods serve only while they are told so
FENCES = "endpoints.hotswitch.io/fences"  # gone,agent,lease
PAUSED = "endpoints.hotswitch.io/paused"  # true | false
SWITCHOVER = "endpoints.hotswitch.io/switchover"  # POD@INSTANT: an order, carried out once
STALE_AFTER = "endpoints.hotswitch.io/stale-after"  # a cluster not heard of for so long goes last
LOST_AFTER = "endpoints.hotswitch.io/lost-after"  # and then out
ORDER = "endpoints.hotswitch.io/order"  # same-host,same-cluster: who is asked first (decide/endpoints/rules.py)
ROUTES = "endpoints.hotswitch.io/routes"  # other orders for some requests
OUTPUT = "endpoints.hotswitch.io/output"  # slices,xds,istio: how data planes learn of it

# on pods
PRIORITY = "endpoints.hotswitch.io/priority"  # a number; among standbys the highest is promoted first
WEIGHT = "endpoints.hotswitch.io/weight"
CAPACITY = "endpoints.hotswitch.io/capacity"  # requests at once
ROTATION = "endpoints.hotswitch.io/rotation"  # in | draining | out
ROLE_LABEL = "hotswitch.io/role"  # active | standby: written by hotswitch alone
ROLE_NOTE = "hotswitch.io/endpoints"  # on pods: role, generation and Service as JSON, written by hotswitch alone

FENCE_WORDS = ("gone", "agent", "lease")
SERVICE_ANNOTATIONS = (
    MODE, SELECTOR, CHECK, CHECK_PERIOD, CHECK_TIMEOUT, CHECK_RISE, CHECK_FALL, PREEMPT, ACTIVITY_LEASE, FENCES,
    PAUSED, SWITCHOVER, STALE_AFTER, LOST_AFTER, ORDER, ROUTES, OUTPUT,
)  # fmt: skip
POD_ANNOTATIONS = (PRIORITY, WEIGHT, CAPACITY, ROTATION)

_NAME = re.compile(r"^[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?$")
_LABEL = re.compile(r"^([a-z0-9.-]{1,253}/)?[A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?$")
_LABEL_VALUE = re.compile(r"^([A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?)?$")
_CHECK = re.compile(r"^(tcp|http|grpc):([0-9]{1,5})(/[!-~]{0,200})?$")
T = TypeVar("T")
Annotations = Mapping[str, str]


def mode(annotations: Annotations) -> ServiceMode | None:
    """None: the Service is not ours. Raises InvalidValue."""
    return _read(annotations, MODE, _word(ServiceMode), None)


def selector(annotations: Annotations) -> dict[str, str]:
    """Raises InvalidValue, also when it selects everything or nothing is said."""
    if SELECTOR not in annotations:
        raise InvalidValue(SELECTOR, "", f"is missing: a Service with {MODE} says by it which pods it means")
    return _read(annotations, SELECTOR, selector_words, {})


def options(annotations: Annotations) -> ServiceOptions:
    """Raises InvalidValue."""
    unknown = next((key for key in annotations if key.startswith(PREFIX) and key not in SERVICE_ANNOTATIONS), None)
    if unknown is not None:
        raise InvalidValue(unknown, annotations[unknown], "is no annotation of a Service that hotswitch knows")
    stale_s = _read(annotations, STALE_AFTER, _seconds(1.0, 3600.0), 10.0)
    lost_s = _read(annotations, LOST_AFTER, _seconds(1.0, 86400.0), max(60.0, stale_s))
    if lost_s < stale_s:
        raise InvalidValue(LOST_AFTER, annotations.get(LOST_AFTER, ""), f"is less than {STALE_AFTER}")
    return ServiceOptions(
        check=_check(annotations),
        preempt=_read(annotations, PREEMPT, _truth, False),
        lease=_lease(annotations),
        paused=_read(annotations, PAUSED, _truth, False),
        stale_after_s=stale_s,
        lost_after_s=lost_s,
        outputs=_read(annotations, OUTPUT, _outputs, USUAL_OUTPUTS),
    )


def switchover(annotations: Annotations) -> tuple[str, float] | None:
    """The pod's name, and when it was ordered (Unix seconds). Raises InvalidValue."""
    return _read(annotations, SWITCHOVER, _order, None)


def standing(annotations: Annotations) -> tuple[int, int, int | None, Rotation]:
    """Of a pod: priority, weight, capacity, rotation. Raises InvalidValue."""
    return (
        _read(annotations, PRIORITY, _number(-1000, 1000), 0),
        _read(annotations, WEIGHT, _number(1, 1000), 1),
        _read(annotations, CAPACITY, _number(1, 1_000_000), None),
        _read(annotations, ROTATION, _word(Rotation), Rotation.IN),
    )


def _check(annotations: Annotations) -> Check:
    kind, port, path = _read(annotations, CHECK, _kind, (CheckKind.KUBELET, 0, ""))
    period_s = _read(annotations, CHECK_PERIOD, _seconds(0.1, 300.0), 1.0)
    timeout_s = _read(annotations, CHECK_TIMEOUT, _seconds(0.05, 60.0), min(0.5, period_s))
    return Check(
        kind=kind,
        port=port,
        path=path,
        period_s=period_s,
        timeout_s=timeout_s,
        rise=_read(annotations, CHECK_RISE, _number(1, 100), 1),
        fall=_read(annotations, CHECK_FALL, _number(1, 100), 3),
    )


def _lease(annotations: Annotations) -> ActivityLease:
    ttl_s = _read(annotations, ACTIVITY_LEASE, _seconds(2.0, 300.0), None)
    usual = frozenset({"gone", "agent"}) if ttl_s is None else frozenset(FENCE_WORDS)
    fences = _read(annotations, FENCES, _fences, usual)
    if "lease" in fences and ttl_s is None:
        raise InvalidValue(FENCES, annotations[FENCES], f"names lease, which needs {ACTIVITY_LEASE}")
    return ActivityLease(ttl_s, fences)


def _read(annotations: Annotations, name: str, read: Callable[[str], T], otherwise: T) -> T:
    text = annotations.get(name)
    if text is None:
        return otherwise
    try:
        return read(text.strip())
    except ValueError as failure:
        raise InvalidValue(name, text, str(failure)) from failure


W = TypeVar("W", ServiceMode, Rotation)


def _word(kind: type[W]) -> Callable[[str], W]:
    def read(text: str) -> W:
        known = {str(each): each for each in kind}
        if text not in known:
            raise ValueError(f"is none of {', '.join(known)}")
        return known[text]

    return read


def _truth(text: str) -> bool:
    if text not in ("true", "false"):
        raise ValueError("is neither true nor false")
    return text == "true"


def _number(least: int, most: int) -> Callable[[str], int]:
    def read(text: str) -> int:
        if not re.fullmatch(r"-?[0-9]{1,9}", text) or not least <= int(text) <= most:
            raise ValueError(f"is not a number from {least} to {most}")
        return int(text)

    return read


def _seconds(least_s: float, most_s: float) -> Callable[[str], float]:
    def read(text: str) -> float:
        seconds = duration_s(text)
        if not least_s <= seconds <= most_s:
            raise ValueError(f"is not from {least_s:g}s to {most_s:g}s")
        return seconds

    return read


def selector_words(text: str) -> dict[str, str]:
    """`app=db,tier=data`. Raises ValueError."""
    found: dict[str, str] = {}
    for word in words(text):
        key, equals, value = (part.strip() for part in word.partition("="))
        if not equals or not _LABEL.fullmatch(key) or not _LABEL_VALUE.fullmatch(value):
            raise ValueError(f"{word!r} is not label=value")
        if key in found:
            raise ValueError(f"names {key} twice")
        found[key] = value
    if not found:
        raise ValueError("selects every pod; name at least one label")
    return found


def _kind(text: str) -> tuple[CheckKind, int, str]:
    if text == CheckKind.KUBELET:
        return CheckKind.KUBELET, 0, ""
    found = _CHECK.fullmatch(text)
    if found is None or not 0 < int(found[2]) < 65536:
        raise ValueError("is none of kubelet, tcp:PORT, http:PORT/PATH, grpc:PORT or grpc:PORT/SERVICE")
    kind, path = CheckKind(found[1]), found[3] or ""
    if kind is CheckKind.TCP and path:
        raise ValueError("has a path, and tcp asks for none")
    return kind, int(found[2]), (path or "/") if kind is CheckKind.HTTP else path.removeprefix("/")


def _fences(text: str) -> frozenset[str]:
    found = frozenset(words(text))
    if not found or not found <= set(FENCE_WORDS):
        raise ValueError(f"is not a list of {', '.join(FENCE_WORDS)}")
    return found


def _outputs(text: str) -> frozenset[Output]:
    found = frozenset(words(text))
    if not found or not found <= set(Output):
        raise ValueError(f"is not a list of {', '.join(Output)}")
    return frozenset(map(Output, found))


def _order(text: str) -> tuple[str, float]:
    name, at, instant = text.partition("@")
    if not at or not _NAME.fullmatch(name):
        raise ValueError("is not POD@INSTANT, as in db-1@2026-01-31T12:00:00Z")
    return name, instant_unix_s(instant)
