"""The decider's memory of a pod, kept in the pod's annotation: another controller goes on from it (I6).

The standing counts in seconds of one process' clock; the annotation in Unix seconds. What lies in the future by more
than a clock can be wrong is brought back to now, so that a skewed clock lengthens no opening.
"""

from __future__ import annotations

import math
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from hotswitch.api.status import PodStatus
from hotswitch.decide.damping import REMEMBERED_FAULTS, changed
from hotswitch.model import Direction, Fault, Generation, Level, Opening, Policy, Standing

FARTHEST_S = 30 * 86400.0  # from now, of an instant that is believed: no setting is longer than a week
LONG_AGO_S = 50 * 365 * 86400.0
MOST_GENERATIONS = 2**53  # an act each microsecond for two centuries
_INSTANTS = ("opened_s", "expires_s", "fault_since_s", "well_since_s", "closing_since_s", "hold_down_until_s")


def dump(standing: Standing, shift_s: float) -> dict[str, Any]:
    """`shift_s`: Unix seconds minus the clock of the standing. Only what differs from a standing that knows nothing."""
    told: dict[str, Any] = {"generation": int(standing.generation)}
    told["fault"] = "" if standing.fault is Fault.WELL else str(standing.fault)
    told["levels"] = {str(way): str(level) for way, level in standing.levels.items() if level is not Level.CAPTURE}
    told["openings"] = {str(way): _opening(each) for way, each in standing.openings.items()}
    told["recent_faults_s"] = [round(each + shift_s, 3) for each in standing.recent_faults_s]
    told |= {"hold_down_s": standing.hold_down_s, "induced": standing.induced, "ever_ready": standing.ever_ready}
    told |= {"ordered": sorted(map(str, standing.ordered)), "said": sorted(standing.said)}
    told = {name: value for name, value in told.items() if value not in ({}, [], 0, False, "")}
    for name in _INSTANTS:
        value = getattr(standing, name)
        if value is not None and value != getattr(Standing(), name):
            told[name] = round(value + shift_s, 3)
    return told


def _opening(opening: Opening) -> dict[str, Any]:
    return {"level": str(opening.level), "ports": {str(port): str(level) for port, level in opening.ports.items()}}


def load(told: dict[str, Any], shift_s: float, now_s: float, *, skew_s: float = 5.0) -> Standing:
    """Raises ValueError for what `dump` never wrote: who may write the pod may have written this."""
    try:
        return _load(told, shift_s, now_s, skew_s) if told else Standing()
    except (TypeError, KeyError, AttributeError, ArithmeticError) as failure:
        raise ValueError(f"standing: {type(failure).__name__}: {failure}") from failure


def _load(told: dict[str, Any], shift_s: float, now_s: float, skew_s: float) -> Standing:
    instants: dict[str, Any] = {}
    for name in _INSTANTS:
        if name in told:
            instants[name] = _instant(name, told[name], shift_s, now_s)
    for name in ("opened_s", "fault_since_s", "well_since_s", "closing_since_s"):
        if name in instants and instants[name] > now_s + skew_s:
            instants[name] = now_s
    levels = {Direction(way): Level(level) for way, level in told.get("levels", {}).items()}
    return Standing(
        generation=generation("standing.generation", told.get("generation", 0)),
        levels=Standing().levels if not levels else {**Standing().levels, **levels},
        fault=Fault(told.get("fault", Fault.WELL)),
        openings={Direction(way): _read_opening(each) for way, each in told.get("openings", {}).items()},
        recent_faults_s=tuple(
            _instant("recent_faults_s", each, shift_s, now_s) for each in told.get("recent_faults_s", ())
        ),
        hold_down_s=_seconds("hold_down_s", told.get("hold_down_s", 0.0)),
        induced=bool(told.get("induced", False)),
        ever_ready=bool(told.get("ever_ready", False)),
        ordered=frozenset(Direction(way) for way in told.get("ordered", ())),
        said=frozenset(map(str, told.get("said", ()))),
        **instants,
    )


def generation(name: str, told: Any) -> Generation:
    """Raises ValueError."""
    if not isinstance(told, int) or not 0 <= told <= MOST_GENERATIONS:
        raise ValueError(f"{name}: {str(told)[:40]!r} is no generation")
    return Generation(told)


def _instant(name: str, told: Any, shift_s: float, now_s: float) -> float:
    at_s = float(told) - shift_s
    if not -LONG_AGO_S <= at_s - now_s <= FARTHEST_S:
        raise ValueError(f"standing.{name}: {str(told)[:40]!r} is no instant of ours")
    return at_s


def _seconds(name: str, told: Any) -> float:
    value = float(told)
    if not 0 <= value <= FARTHEST_S or not math.isfinite(value):
        raise ValueError(f"standing.{name}: {str(told)[:40]!r} is no number of seconds")
    return value


def _read_opening(told: dict[str, Any]) -> Opening:
    return Opening(Level(told["level"]), {int(port): Level(level) for port, level in told.get("ports", {}).items()})


# ---- what is believed of it ----


def remembered(status: PodStatus, shift_s: float, now_s: float) -> Standing:
    """What the annotation says of before. Raises ValueError for what no controller wrote."""
    for told in (status.expires, status.at, *status.alerts.values()):
        if told:
            unix_s(told)
    standing = load(status.standing, shift_s, now_s)
    load(status.after, shift_s, now_s)
    newest = max(standing.generation, generation("generation", status.generation))
    return replace(standing, generation=newest)  # an act that was only written down may have been sent (I6)


def bounded(standing: Standing, policy: Policy, now_s: float) -> Standing:
    """What the policy could ever have led to. Who may write the pod may write its annotation, and a clock may be set
    back: no opening lasts for longer than the policy's expiry (I4), and no hold-down keeps a pod unprotected for longer
    than the longest. What is forged to be shorter than it was gains no more than the policy gives anybody (I2)."""
    return changed(
        standing,
        expires_s=None if standing.expires_s is None else min(standing.expires_s, now_s + policy.expiry_s),
        hold_down_s=min(standing.hold_down_s, policy.hold_down_max_s),
        hold_down_until_s=min(standing.hold_down_until_s, now_s + policy.hold_down_max_s),
        recent_faults_s=tuple(at_s for at_s in standing.recent_faults_s if at_s <= now_s)[-REMEMBERED_FAULTS:],
    )


# ---- instants, as people read them ----


def instant(clock_s: float | None, shift_s: float) -> str:
    """RFC 3339 of an instant of the loop's clock; "" for none."""
    if clock_s is None:
        return ""
    return datetime.fromtimestamp(clock_s + shift_s, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def unix_s(told: str) -> float:
    """The instant that `instant` wrote. Raises ValueError."""
    try:
        return datetime.fromisoformat(told).timestamp()
    except OverflowError as failure:
        raise ValueError(f"{told[:40]!r} is no instant of ours") from failure
