"""What all guards of an agent share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from hotswitch.agent.evidence import Keeper
from hotswitch.agent.neighbours import Neighbours
from hotswitch.api.drills import Drilled, Told
from hotswitch.model import Surroundings
from hotswitch.observe.pace import Pace
from hotswitch.report.journal import Journal
from hotswitch.report.metrics import Metrics

if TYPE_CHECKING:
    from hotswitch.agent.guard import Guard
    from hotswitch.api.orders import OrderText


@dataclass(frozen=True, slots=True)
class Means:
    journal: Journal
    metrics: Metrics
    pace: Pace
    evidence: Keeper
    neighbours: Neighbours
    surroundings: Callable[[Guard], Surroundings]
    gone: Callable[[Guard], None]
    drill: Callable[[Guard, Told, Callable[[Drilled], None], OrderText | None], None]
    """Carry a drill out that was ordered, and tell what became of it. Must not wait. The order itself: where a
    controller decides for the pod."""
