"""The status of a HotSwitchPolicy: whether what it says is in force, and if not, why (S4.6, I8)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hotswitch.api.values import shown_instant
from hotswitch.config.objects import PolicyObject

VALID = "Valid"
_SHOWN_PROBLEMS = 10
_LONGEST = 4096  # characters


def status(policy: PolicyObject, before: Mapping[str, Any], now_unix_s: float) -> dict[str, Any] | None:
    """What `status` should be, in whole; None when `before`, the status as it is, says the same already."""
    conditions: list[dict[str, Any]] = list(before.get("conditions", []))
    others = [each for each in conditions if each.get("type") != VALID]
    old = next((each for each in conditions if each.get("type") == VALID), dict[str, Any]())
    new = _condition(policy)
    changed_at = old.get("lastTransitionTime") if old.get("status") == new["status"] else None
    new["lastTransitionTime"] = changed_at or shown_instant(now_unix_s)
    wanted = {**before, "observedGeneration": policy.generation, "conditions": [*others, new]}
    return None if wanted == before else wanted


def _condition(policy: PolicyObject) -> dict[str, Any]:
    verdict, reason, message = _verdict(policy)
    return {
        "type": VALID,
        "status": verdict,
        "reason": reason,
        "message": message[:_LONGEST],
        "observedGeneration": policy.generation,
    }


def _verdict(policy: PolicyObject) -> tuple[str, str, str]:
    if not policy.problems:
        return "True", "InForce", "All that the policy says is in force."
    said = "; ".join(f"{each.field}: {each.value}: {each.why}" for each in policy.problems[:_SHOWN_PROBLEMS])
    more = len(policy.problems) - _SHOWN_PROBLEMS
    said += f"; and {more} more" if more > 0 else ""
    if policy.read:
        return "False", "NotAllowed", f"The rest is in force. {said}"
    return "False", "InvalidValue", f"The last valid spec stays in force, observing if there is none. {said}"
