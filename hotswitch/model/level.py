"""Where new flows go, per direction."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from hotswitch.model.ports import Port


class Direction(StrEnum):
    INBOUND = "inbound"
    OUTBOUND = "outbound"


class Level(StrEnum):
    """Where new flows of one direction go."""

    CAPTURE = "capture"  # through the proxy: nothing of ours is active
    RESCUE = "rescue"  # to the spare Envoy: identity and L4 policy kept
    DIRECT = "direct"  # straight to the app, or straight out (S4.3)
    HOLD = "hold"  # a fault is known, capture is left alone, people are told


OPEN_LEVELS: frozenset[Level] = frozenset({Level.RESCUE, Level.DIRECT})


@dataclass(frozen=True, slots=True)
class Opening:
    """What the gate is to do in one direction; `ports` are exceptions to `level`, e.g. {9000: HOLD}."""

    level: Level
    ports: Mapping[Port, Level] = field(default_factory=dict)
