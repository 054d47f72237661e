"""What hotswitch has done for a pod so far, and what a person ordered."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from hotswitch.model.diagnosis import Fault
from hotswitch.model.level import OPEN_LEVELS, Direction, Level, Opening
from hotswitch.model.pod import Generation

NONE_YET = Generation(0)


@dataclass(frozen=True, slots=True)
class Override:
    """A person's order, always with an end and a reason (I4)."""

    levels: Mapping[Direction, Level]
    until_s: float
    reason: str
    by: str


@dataclass(frozen=True, slots=True)
class Standing:
    """What hotswitch has done for a pod so far. A new one is made at every step; the old one stays true of its time."""

    generation: Generation = NONE_YET
    levels: Mapping[Direction, Level] = field(
        default_factory=lambda: {Direction.INBOUND: Level.CAPTURE, Direction.OUTBOUND: Level.CAPTURE}
    )
    opened_s: float | None = None  # first opening of the present episode
    expires_s: float | None = None  # kernel expiry of what is open
    fault: Fault = Fault.WELL
    fault_since_s: float | None = None
    well_since_s: float | None = None
    hold_down_s: float = 0.0  # present length
    hold_down_until_s: float = 0.0
    recent_faults_s: tuple[float, ...] = ()  # instants at which confirmed faults began
    override: Override | None = None
    openings: Mapping[Direction, Opening] = field(default_factory=dict)  # what the gate was last told, ports included
    ordered: frozenset[Direction] = frozenset()  # directions that are open by a person's order, not by evidence
    induced: bool = False  # this episode hit the induced-bypass rule: no `direct` until it ends (I3)
    ever_ready: bool = False  # remembered for good: facts say it only as far back as this agent saw (I2)
    closing_since_s: float | None = None  # the proxy was seen to close down; a death after that is no fault (I2)
    said: frozenset[str] = frozenset()  # what people were told already: nothing is said at every step
    rebuilt: bool = False  # read back from the kernel's gate after the agent lost its own; the next step clears it

    @property
    def is_open(self) -> bool:
        return any(level in OPEN_LEVELS for level in self.levels.values())
