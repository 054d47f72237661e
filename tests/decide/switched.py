"""One pod through time, as the engine switches it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

from hotswitch.decide import step
from hotswitch.model import (
    Capabilities,
    Decision,
    Direction,
    Facts,
    Level,
    Override,
    Policy,
    Standing,
    Surroundings,
)
from tests.decide.scenes import (
    AUTO,
    NOW,
    RESCUE_READY,
    codes,
    dead,
    view,
    well,
)

RESCUE, DIRECT, HOLD, CAPTURE = Level.RESCUE, Level.DIRECT, Level.HOLD, Level.CAPTURE
NO_RESCUE = Capabilities(rescue=False)
Scene = Callable[[float], Facts]


@dataclass
class Pod:
    """One pod through time: each step is taken twice, and the second must do nothing (I6)."""

    policy: Policy = AUTO
    capabilities: Capabilities = RESCUE_READY
    surroundings: Surroundings = field(default_factory=Surroundings)
    standing: Standing = field(default_factory=Standing)
    now_s: float = NOW

    def see(self, scene: Scene, after_s: float = 0.0) -> list[str]:
        return codes(self.decide(scene, after_s))

    def decide(self, scene: Scene, after_s: float = 0.0) -> tuple[Decision, ...]:
        self.now_s += after_s
        now = view(
            scene(self.now_s),
            self.standing,
            policy=self.policy,
            capabilities=self.capabilities,
            surroundings=self.surroundings,
        )
        self.standing, decisions = step(now)
        assert step(replace(now, standing=self.standing)) == (self.standing, ())
        return decisions

    def recovers(self, after_s: float = 0.0) -> list[str]:
        return [*self.see(well, after_s), *self.see(well, 1.1)]


def dead_for_sure(at_s: float) -> Facts:
    return dead(at_s, container_running=False)


def order(levels: dict[Direction, Level], for_s: float = 60.0, at_s: float = NOW) -> Override:
    return Override(levels, at_s + for_s, "maintenance", "ada")
