"""Who gets a caller's requests, in which order, and why: what `hotswitch route explain` tells (S2.5, S2.8). Pure."""

from __future__ import annotations

from typing import Any

from hotswitch.backends import ServiceId
from hotswitch.decide.endpoints.place import Caller
from hotswitch.endpoints.xds.publisher import EdsPublisher


class Unexplained(LookupError):
    """The Service is not ours, nothing is known of it yet, or it has no such rule; the message says which."""


def explained(publisher: EdsPublisher, service: ServiceId, caller: Caller, rule: str = "") -> dict[str, Any]:
    """As JSON has it. Raises Unexplained."""
    told = publisher.services.get(service)
    if told is None:
        raise Unexplained(f"{service}: no Service of ours")
    if not told.is_told:
        raise Unexplained(f"{service}: nothing is decided yet")
    order = told.orders.of(rule)
    if order is None:
        names = ", ".join(each.name for each in told.orders.rules) or "none"
        raise Unexplained(f"{service}: no rule {rule!r}; it has {names}")
    placed = publisher.placed(caller)
    found = told.ladder(placed, rule)
    priority = {each.distance: number for number, tier in enumerate(found.tiers) for each in tier}
    return {
        "service": str(service),
        "rule": rule,
        "caller": {"pod": placed.pod, "node": placed.locality.node, "zone": placed.locality.zone},
        "cluster": placed.locality.cluster,
        "order": ",".join(order.all),
        "problem": told.problem,
        "levels": [
            {
                "level": str(each.distance),
                "priority": priority.get(each.distance),
                "share": each.share,
                "why": each.sentence,
                "backends": [f"{one.pod.name} {one.addresses[0]}" for one in told.members(each)],
            }
            for each in found.rungs
        ],
    }
