"""What all workers of a controller share, and how they are told apart from each other: nothing here is per pod."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from hotswitch.act.order import Actuator, Target
from hotswitch.act.tlsmode import Meshed
from hotswitch.controller.agents.told import Told
from hotswitch.controller.seen import SeenPod
from hotswitch.controller.surroundings import Neighbours
from hotswitch.controller.writer import Writer
from hotswitch.decide.preflight import Preflight
from hotswitch.model import (
    Direction,
    Facts,
    Level,
    Override,
    PodRef,
    Policy,
    Surroundings,
)
from hotswitch.report.controller_metrics import ControllerMetrics
from hotswitch.report.journal import Entry
from hotswitch.report.notice import Notice


@dataclass(frozen=True, slots=True, kw_only=True)
class Protection:
    """What may be done for one pod now: its settings, cut by the preflight (I2). `refusals`: which levels the preflight
    took away, and the finding that did."""

    manifest: Mapping[str, Any]
    policy: Policy
    preflight: Preflight
    actuators: tuple[str, ...]
    override: Override | None = None
    refusals: Mapping[tuple[Direction, Level], str] = field(default_factory=dict)
    accepted_by_order: bool = False
    receivers: tuple[str, ...] = ()
    alert_labels: Mapping[str, str] = field(default_factory=dict)

    def target(self, pod: SeenPod) -> Target:
        return Target(
            pod=pod.ref, manifest=self.manifest, policy=self.policy, authorization=self.preflight.authorization
        )


class Picture(Protocol):
    """The mesh as it is known now."""

    def pod(self, uid: str) -> SeenPod | None: ...

    def left_open(self, uid: str) -> SeenPod | None:
        """A pod that is in the mesh no longer, and bears the label of one that nothing but a controller closes."""
        ...

    async def protection(self, pod: SeenPod) -> Protection:
        """Raises ApiFailure when the pod's manifest must be asked for, and cannot be had."""
        ...


class Eyes(Protocol):
    """The central prober, as far as a worker needs it."""

    def facts(self, uid: str) -> Facts | None: ...

    def hurry(self, uid: str) -> None: ...


def nobody_told(_: str) -> None:
    return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Means:
    """`term`: the leader's term while this controller leads by its own clock, else None. `shift_s`: Unix seconds minus
    the loop's clock. `meshed(pod, label before, generation)`: how clients are told to speak plaintext to a pod; None:
    they cannot be told. `told(uid)`: what an agent says that acts for the pod; None: none does. None of the callables
    waits."""

    picture: Picture
    eyes: Eyes
    actuators: Mapping[str, Actuator]
    meshed: Callable[[SeenPod, str | None, int], Meshed] | None
    writer: Writer
    term: Callable[[], int | None]
    neighbours: Neighbours
    surroundings: Callable[[PodRef], Surroundings]
    tell: Callable[[Notice], None]
    journal: Callable[[Entry], None]
    metrics: ControllerMetrics
    shift_s: Callable[[], float]
    identity: str = "controller"
    told: Callable[[str], Told | None] = nobody_told
