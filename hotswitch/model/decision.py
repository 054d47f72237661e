"""What was decided (decide/) and is done (act/)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from hotswitch.model.level import Direction, Opening
from hotswitch.model.pod import Generation, PodRef


class Act(StrEnum):
    OPEN = "open"  # write the gate: `openings` is its whole new state
    RENEW = "renew"  # same state, new expiry
    CLOSE = "close"  # restore capture
    CUT = "cut"  # end flows that are stuck in a hung proxy
    HOLD = "hold"  # nothing in the kernel; say so
    PAGE = "page"  # a person is needed


@dataclass(frozen=True, slots=True)
class Decision:
    """One thing to do. `code` is stable (HSD...), `sentence` is for a human, `evidence` is why (I8)."""

    act: Act
    pod: PodRef
    generation: Generation
    code: str
    sentence: str
    openings: Mapping[Direction, Opening] = field(default_factory=dict)
    expiry_s: float = 0.0
    evidence: Mapping[str, str] = field(default_factory=dict)
