"""The ways by which a withdrawn pod may be known to serve no more; any one of them is enough (I7, S0.7).

Each is a fact, never a guess: the pod has ended; its keeper has confirmed that the kernel refuses its port; or the time
for which it was last told that it is active has run out. A node that is silent is no fact.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from hotswitch.backends import HOME, Backend, BackendId, ServiceRecord
from hotswitch.decide.endpoints.activity import over_s
from hotswitch.endpoints.roles import RoleBook
from hotswitch.model import Generation


@dataclass(frozen=True, slots=True, kw_only=True)
class Suspect:
    """Who is to be fenced. `backend` None: there is no such pod any more."""

    service: ServiceRecord
    id: BackendId
    backend: Backend | None
    generation: Generation
    ttl_s: float | None = None  # for which it was told that it is active

    @property
    def is_leased(self) -> bool:
        """It stops by itself, and that it has counts."""
        return self.ttl_s is not None and RunOut.name in self.service.options.lease.fences


class Departures(Protocol):
    """How pods went that are no more."""

    def was_forced(self, backend: BackendId) -> bool:
        """It was seen to go while its containers ran."""
        ...

    def was_seen(self, backend: BackendId) -> bool:
        """It was seen to go, and its containers had ended."""
        ...


class Fence(Protocol):
    name: str

    def proof(self, suspect: Suspect) -> str:
        """A sentence; "": not known. Never waits."""
        ...

    def due_s(self, suspect: Suspect) -> float | None:
        """When to look again, if nothing else is heard; None: news will come."""
        ...


class Gone:
    """The pod has ended, or its object is gone from a cluster that is heard of. One that was deleted by force while it
    ran is no proof: its node may not even know.

    One that went while nobody looked may have been deleted so. Where a lease bounds how long it can serve, that is
    waited for; where none does, it counts as gone, or a Service whose node died with its controller would wait for
    ever."""

    name = "gone"

    def __init__(self, is_heard: Callable[[str], bool], departures: Departures) -> None:
        self._is_heard, self._departures = is_heard, departures

    def proof(self, suspect: Suspect) -> str:
        if suspect.backend is not None:
            return "all its containers have ended" if suspect.backend.ended else ""
        cluster = suspect.id.cluster
        if not self._is_heard(cluster) or self._departures.was_forced(suspect.id):
            return ""
        if suspect.is_leased and not self._departures.was_seen(suspect.id):
            return ""
        return "the pod is gone" if cluster == HOME else f"the pod is gone from cluster {cluster}"

    def due_s(self, suspect: Suspect) -> float | None:
        return None


class Confirmed:
    """Its keeper, inside its namespace, says that the kernel refuses the Service's ports."""

    name = "agent"

    def __init__(self, roles: RoleBook) -> None:
        self._roles = roles

    def proof(self, suspect: Suspect) -> str:
        confirmed = self._roles.is_confirmed(suspect.service.id, suspect.id, suspect.generation)
        return "its keeper confirmed that the port is refused" if confirmed else ""

    def due_s(self, suspect: Suspect) -> float | None:
        return None


class RunOut:
    """The time for which it was last told that it is active is over, by any clock that is not off by more than a
    twentieth."""

    name = "lease"

    def __init__(self, roles: RoleBook, clock: Callable[[], float]) -> None:
        self._roles, self._clock = roles, clock

    def proof(self, suspect: Suspect) -> str:
        due_s = self.due_s(suspect)
        return "its activity lease has run out" if due_s is not None and self._clock() >= due_s else ""

    def due_s(self, suspect: Suspect) -> float | None:
        if suspect.ttl_s is None:
            return None
        return over_s(self._roles.told_s(suspect.service.id), suspect.ttl_s)


def proof(fences: tuple[Fence, ...], suspect: Suspect) -> str:
    """By those that the Service names; "": none of them knows."""
    named = [each for each in fences if each.name in suspect.service.options.lease.fences]
    return next((found for each in named if (found := each.proof(suspect))), "")


def due_s(fences: tuple[Fence, ...], suspect: Suspect) -> float | None:
    named = [each for each in fences if each.name in suspect.service.options.lease.fences]
    return min((due for each in named if (due := each.due_s(suspect)) is not None), default=None)
