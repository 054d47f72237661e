"""Does a gate need the rescue, and can it be had? Of guards that act on orders (I1, I2). Pure."""

from __future__ import annotations

from collections.abc import Mapping

from hotswitch.decide.levels import RESCUE_DEATHS_AT_MOST
from hotswitch.model import Direction, Level, Opening, View


def no_rescue(view: View) -> str:
    """Why the rescue cannot be used now; what kills the proxy may be killing it, too."""
    able, left_s = view.capabilities, view.facts.identity_expires_in_s
    if not able.rescue:
        return able.rescue_refusal
    if left_s is None or left_s <= 0:
        return "no identity of this pod that has not expired is held"
    if able.rescue_deaths > RESCUE_DEATHS_AT_MOST:
        return f"it died {able.rescue_deaths} times within {view.policy.hold_down_s:g} s"
    return ""


def needs_rescue(openings: Mapping[Direction, Opening]) -> bool:
    return any(Level.RESCUE in (each.level, *each.ports.values()) for each in openings.values())
