"""What an actuator is told, and what it answers (I4, I6). An order states the whole gate; carrying it out twice is
carrying it out once, and one of an older generation than what the kernel shows is refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Protocol

from hotswitch.api.drills import Drilled, Told
from hotswitch.model import Diagnosis, Direction, Generation, Level, Opening, PodRef, Policy

NEVER = Generation(0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """The pod to act on. `manifest`: the pod object as read, whence capture settings and probes come; it must be of
    `pod.uid`. `policy`: what the pod's settings and the preflight leave (I2). `authorization`: specs of the L4
    AuthorizationPolicies that select it."""

    pod: PodRef
    manifest: Mapping[str, Any]
    policy: Policy
    authorization: tuple[Mapping[str, Any], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """`openings` empty: close. `expiry_s`: how long the kernel keeps it open without a further order."""

    generation: Generation
    openings: Mapping[Direction, Opening] = field(default_factory=dict)
    expiry_s: float = 0.0
    code: str = ""
    reason: str = ""
    who: str = "controller"
    cut: bool = False  # also end flows that are stuck in the proxy
    drill: Told | None = None  # no gate, but a drill: it takes this generation and the next


class Outcome(StrEnum):
    DONE = "done"
    REFUSED = "refused"  # it said no, and changed nothing
    FAILED = "failed"  # it could not, and nothing was changed
    UNKNOWN = "unknown"  # the connection was lost on the way: the truth must be read back, never assumed


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    outcome: Outcome
    sentence: str = ""
    truth: Truth | None = None
    durations_ms: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Truth:
    """What the pod's namespace shows, read and not remembered."""

    levels: Mapping[Direction, Level]
    generation: Generation = NEVER
    expires_in_s: float | None = None
    istio_rules: str = ""  # digest of Istio's own rules
    istio_complete: bool = True  # as its settings say they must be
    diagnosis: Diagnosis | None = None  # what an observer beside the proxy says; None: there is none
    identity_expires_in_s: float | None = None
    path_passes: int | None = None  # end-to-end passes through the proxy in a row; None: no path to test
    drilled: Drilled | None = None  # what became of the drill that was ordered last, once it has ended


@dataclass(frozen=True, slots=True, kw_only=True)
class Ability:
    """What this actuator could do for the pod now. `levels` empty: nothing, and `refusal` says why. `rescue_refusal`:
    why not that level, while others can."""

    actuator: str
    levels: Mapping[Direction, frozenset[Level]] = field(default_factory=dict)
    refusal: str = ""
    rescue_refusal: str = ""
    rescue_deaths: int = 0  # inside the hold-down
    truth: Truth | None = None

    def can(self, direction: Direction, level: Level) -> bool:
        return level in self.levels.get(direction, frozenset())


class Actuator(Protocol):
    """Never raises for what happens at the pod or on the way there: that is an Outcome, or an Ability's refusal."""

    name: str
    ends_by_itself: bool
    """Whether the kernel closes an opening at its expiry, whoever is dead (I1)."""
    all_or_nothing: bool
    """Whether it opens both directions with all ports, or none; such a one ends no flows either."""

    async def ability(self, target: Target) -> Ability:
        """Look, change nothing."""
        ...

    async def prepare(self, target: Target) -> str:
        """What must be in place before a fault (a helper in the pod). A sentence on what is missing; "" when ready."""
        ...

    async def carry_out(self, target: Target, order: Order) -> Answer: ...

    def plan(self, target: Target, order: Order) -> list[str]:
        """The commands it would run, as a person could type them."""
        ...
