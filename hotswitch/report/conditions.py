"""The pod's condition `hotswitch.io/Capture`: what `kubectl get pod -o yaml` and a readiness gate can read (S4.6).

"True" while the pod's traffic passes its proxy, as Istio means it to; "False" while some of it does not; "Unknown" when
an act's outcome is not known. Other conditions of the pod are never touched: the fragment names one type alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from hotswitch.api.names import CONDITION
from hotswitch.api.status import shown
from hotswitch.model import OPEN_LEVELS, Direction, Level
from hotswitch.report.scrub import plain

MESSAGE = 512  # characters
_WORST = (Level.DIRECT, Level.RESCUE, Level.HOLD, Level.CAPTURE)


def condition(
    levels: Mapping[Direction, Level],
    *,
    code: str,
    sentence: str,
    at_unix_s: float,
    known: bool = True,
    before: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Of `levels` now; `known` False: they may be others. `before`: this condition as the pod has it, for the instant
    of its last change."""
    status = "Unknown" if not known else "False" if OPEN_LEVELS & set(levels.values()) else "True"
    changed = before is None or before.get("status") != status
    moment = datetime.fromtimestamp(at_unix_s, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return {
        "type": CONDITION,
        "status": status,
        "reason": shown(worst(levels)).title(),
        "message": plain(f"{_ways(levels)}; {code}: {sentence}" if code else _ways(levels), MESSAGE),
        "lastTransitionTime": moment if changed or before is None else before.get("lastTransitionTime") or moment,
    }


def fragment(condition_: Mapping[str, Any]) -> dict[str, Any]:
    """For a strategic-merge patch of pods/status: lists of conditions are merged by their type."""
    return {"status": {"conditions": [dict(condition_)]}}


def find(pod: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """This condition of a pod as the API has it."""
    conditions = (pod.get("status") or {}).get("conditions") or []
    return next((each for each in conditions if each.get("type") == CONDITION), None)


def worst(levels: Mapping[Direction, Level]) -> Level:
    """The one that gives most away; capture when nothing is said."""
    return next(level for level in _WORST if level in {*levels.values(), Level.CAPTURE})


def _ways(levels: Mapping[Direction, Level]) -> str:
    return ", ".join(f"{way} {shown(levels.get(way, Level.CAPTURE))}" for way in Direction)
