"""Who the desk deals with: an agent that is connected, and what of the mesh its words are held against (S4.2, I3)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Protocol

from hotswitch.controller.agents.plan import Limit
from hotswitch.controller.agents.told import Told
from hotswitch.controller.agents.trust import Speaker
from hotswitch.controller.agents.witness import Wire
from hotswitch.decide.grants import Allotment, Holder
from hotswitch.model import PodRef, PodUid


class Around(Protocol):
    """The mesh, and who else acts in it."""

    def pods_of(self, node: str) -> Iterable[PodRef]:
        """That agents may look after."""
        ...

    def place_of(self, uid: PodUid) -> tuple[PodRef, str] | None:
        """The pod, and its node; None: no such pod."""
        ...

    def limit(self, pod: PodRef) -> Limit: ...

    def opened(self) -> Iterable[PodRef]:
        """By the controller itself."""
        ...

    def frozen(self) -> str:
        """Why nothing new may be opened anywhere; "" when it may."""
        ...


@dataclass(slots=True)
class Agent:
    """One that is connected."""

    speaker: Speaker
    holder: Holder
    link: Wire
    told: dict[PodUid, Told] = field(default_factory=dict)
    allotted: Allotment | None = None
    frozen: str = ""
    dropped: int = 0
    drills: bool = False  # whether it carries out drills on order

    @property
    def name(self) -> str:
        return self.speaker.name
