"""What all who take Services over share: where they look, what they act with, and whom they tell (S0.2, S4.4)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from hotswitch.backends import ServiceId
from hotswitch.decide.endpoints.adopt import Verdict
from hotswitch.endpoints.adoption_ledger import AdoptionLedger
from hotswitch.endpoints.hands import Hands
from hotswitch.endpoints.registry import Registry
from hotswitch.endpoints.slice_publisher import SlicePublisher


class Tell(Protocol):
    """How people hear of it; none of it waits. `is_new`: something was done, or begins to be so."""

    def __call__(self, service: ServiceId, uid: str, verdict: Verdict, *, is_new: bool) -> None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Means:
    """What all workers share. `knows`: the pods of a Service were read. `recall`: told of a Service, its uid and its
    selector by our record; whether its pods are others than were read by then. `refusal`: why a namespace's Services
    may not be taken over, "" when they may. `leads`: by the leader's own clock, `term`: of this leadership. `slices`:
    the publisher of ours. `looks`: how many may look for the first time at once."""

    registry: Registry
    hands: Hands
    ledger: AdoptionLedger
    slices: SlicePublisher
    knows: Callable[[ServiceId], bool]
    recall: Callable[[ServiceId, str, Mapping[str, str]], bool]
    refusal: Callable[[str], str]
    tell: Tell
    leads: Callable[[], bool]
    term: int
    looks: asyncio.Semaphore
    clock: Callable[[], float]
