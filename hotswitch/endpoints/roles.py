"""What a pod is told of its own role, for how long, and what its keeper has confirmed (S0.3, S0.6, I7).

The active one is told a time to live only while this controller leads, the election says so, and nothing is about to be
withdrawn; each such word is remembered (`told_s`), because a successor may be published only when the last one has run
out, or the pod is fenced otherwise. It counts from when the question came, however late it was answered: who asked
counts from before that. Who is asked by a pod it does not know, or does not lead, says nothing at all.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

from hotswitch.backends import NO_GENERATION, BackendId, Role, ServiceId
from hotswitch.decide.endpoints.activity import STANDS_S, over_s
from hotswitch.model import Generation

REMEMBERED_S = 600.0  # when one that has left was heard: it may be back soon


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """`ttl_s`: for how long it may be believed, from before it was asked for; None: until further notice. `withdrawn`:
    of this generation and all before nothing may be served any more."""

    service: ServiceId
    role: Role
    generation: Generation
    ttl_s: float | None = None
    withdrawn: Generation = NO_GENERATION


@dataclass(slots=True)
class _Office:
    """One Service's: who holds it now. `active` None: nobody may be told that it is."""

    active: BackendId | None = None
    generation: Generation = NO_GENERATION
    ttl_s: float | None = None
    members: frozenset[BackendId] = frozenset()
    told_s: float = 0.0
    opened_s: float = 0.0
    appointed_s: float = 0.0  # the active one, in its generation
    heard_s: dict[BackendId, float] = field(default_factory=dict)  # when each asked last
    silent: bool = False
    confirmed: dict[BackendId, Generation] = field(default_factory=dict)
    permitted: dict[BackendId, Generation] = field(default_factory=dict)  # by keepers, in the kernel
    kept_s: dict[BackendId, float] = field(default_factory=dict)  # when the keeper of each asked last, if it has one
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    def may_be_silent_until_s(self, backend: BackendId, ttl_s: float) -> float:
        """The active one for its whole time to live, since it asked or was appointed; a standby for that and as long as
        a question may stand."""
        heard_s = self.heard_s.get(backend, self.opened_s)
        if backend == self.active:
            return over_s(max(heard_s, self.appointed_s), ttl_s)
        return over_s(heard_s, ttl_s) + STANDS_S

    def forget(self, now_s: float) -> None:
        """Pods come and go for as long as a leader leads. What one confirmed that has left counts in its generation."""
        late_s = now_s - REMEMBERED_S
        self.heard_s = {each: at_s for each, at_s in self.heard_s.items() if each in self.members or at_s > late_s}
        self.confirmed = {
            each: upto for each, upto in self.confirmed.items() if each in self.members or upto >= self.generation
        }
        self.permitted = {each: upto for each, upto in self.permitted.items() if each in self.members}
        self.kept_s = {each: at_s for each, at_s in self.kept_s.items() if each in self.members}

    def hear(self, backend: BackendId, came_s: float, *, by_keeper: bool) -> float:
        """From when on what it is told now counts. A pod with a keeper serves for as long as that is told: its app's
        own questions prolong nothing, or one whose keeper has stopped would be thought well."""
        if by_keeper:
            self.kept_s[backend] = max(came_s, self.kept_s.get(backend, came_s))
        since_s = min(came_s, self.kept_s.get(backend, came_s))
        self.heard_s[backend] = max(since_s, self.heard_s.get(backend, since_s))
        return since_s


class RoleBook:
    """`leads`: whether this controller may say anything now. `clock`: the one that leases are counted by."""

    def __init__(self, leads: Callable[[], bool], clock: Callable[[], float]) -> None:
        self._leads, self._clock = leads, clock
        self._offices: dict[ServiceId, _Office] = {}
        self._heard: list[Callable[[ServiceId], None]] = []

    def on_word(self, callback: Callable[[ServiceId], None]) -> None:
        """A keeper has confirmed a fence, or has opened its port."""
        self._heard.append(callback)

    # ---- by the election ----

    def open(self, service: ServiceId) -> None:
        """Begin, silently: until now our predecessor may have told anybody anything."""
        now_s = self._clock()
        self._offices[service] = _Office(told_s=now_s, opened_s=now_s, silent=True)

    def appoint(
        self, service: ServiceId, active: BackendId | None, generation: Generation, ttl_s: float | None,
        members: frozenset[BackendId],
    ) -> None:  # fmt: skip
        """From now on. `active` None: nobody is told that it is active."""
        office = self._offices[service]
        before = office.active, office.generation, office.members
        if before[:2] != (active, generation):
            office.appointed_s = self._clock()
        office.active, office.generation, office.ttl_s, office.members = active, generation, ttl_s, members
        office.silent = False
        if before[2] != members:
            office.forget(self._clock())
        if before != (active, generation, members):
            office.changed.set()
            office.changed = asyncio.Event()

    def silence(self, service: ServiceId) -> None:
        """What is written is about to change, or not known: nobody is told anything until somebody is appointed."""
        office = self._offices.get(service)
        if office is not None:
            office.silent = True

    def dismiss(self, service: ServiceId) -> None:
        """Nobody is told anything of it any more."""
        office = self._offices.pop(service, None)
        if office is not None:
            office.changed.set()

    def told_s(self, service: ServiceId) -> float:
        """The last moment in which somebody may have been told that it is active."""
        return self._offices[service].told_s

    def quiet(self, service: ServiceId, ttl_s: float) -> frozenset[BackendId]:
        """Those of its pods that did not ask for longer than they may."""
        office, now_s = self._offices[service], self._clock()
        return frozenset(each for each in office.members if now_s >= office.may_be_silent_until_s(each, ttl_s))

    def quiet_s(self, service: ServiceId, ttl_s: float) -> float | None:
        """When the active one will have been silent for too long, if nothing is heard; None: nobody is."""
        office = self._offices[service]
        return None if office.active is None else office.may_be_silent_until_s(office.active, ttl_s)

    def is_confirmed(self, service: ServiceId, backend: BackendId, generation: Generation) -> bool:
        office = self._offices.get(service)
        return office is not None and office.confirmed.get(backend, 0) >= generation

    def is_shut(self, service: ServiceId, backend: BackendId, generation: Generation) -> bool:
        """It has a keeper, which has not opened its port for this generation yet."""
        office = self._offices[service]
        return office.permitted.get(backend, generation) < generation

    # ---- by pods and their keepers ----

    @property
    def now_s(self) -> float:
        """By the clock that words are counted by."""
        return self._clock()

    def ask(self, backend: BackendId, came_s: float, *, by_keeper: bool = False) -> Answer | None:
        """None: this controller cannot say. `came_s`: when the question came; it may have stood since. Everything is
        looked at and remembered in one turn of the loop."""
        if not self._leads():
            return None
        found = self._of(backend)
        if found is None:
            return None
        service, office = found
        since_s = office.hear(backend, came_s, by_keeper=by_keeper)
        if office.silent:
            return None
        if office.active != backend:
            return Answer(service=service, role=Role.STANDBY, generation=office.generation, withdrawn=office.generation)
        ttl_s = None if office.ttl_s is None else office.ttl_s - (came_s - since_s)
        if ttl_s is not None and ttl_s <= 0:
            return None
        office.told_s = max(office.told_s, since_s)
        withdrawn = Generation(office.generation - 1)
        return Answer(service=service, role=Role.ACTIVE, generation=office.generation, ttl_s=ttl_s, withdrawn=withdrawn)

    async def changed(self, backend: BackendId, wait_s: float) -> None:
        """Until something about its Service has changed, or the time is over."""
        found = self._of(backend)
        if found is None:
            await asyncio.sleep(min(wait_s, 0.2))
            return
        try:
            async with asyncio.timeout(wait_s):
                await found[1].changed.wait()
        except TimeoutError:
            return

    def confirm(self, backend: BackendId, generation: Generation) -> bool:
        """Its keeper says that it serves nothing of this generation, or of one before, any more. False: whose keeper
        it is, is not known; or nobody was told of that generation yet, and it would count as fenced beforehand."""
        found = self._of(backend)
        if found is None or generation > found[1].generation:
            return False
        service, office = found
        if generation > office.confirmed.get(backend, 0):
            office.confirmed[backend] = generation
            self._tell(service)
        return True

    def permits(self, backend: BackendId, generation: Generation) -> None:
        """Its keeper says up to which generation it has opened the port. What is not true of it only costs time."""
        found = self._of(backend)
        if found is not None and generation != found[1].permitted.get(backend):
            found[1].permitted[backend] = generation
            self._tell(found[0])

    def _tell(self, service: ServiceId) -> None:
        for callback in self._heard:
            callback(service)

    def _of(self, backend: BackendId) -> tuple[ServiceId, _Office] | None:
        """None also for a pod of several Services with roles: by the word of one it would serve for the other, in which
        it was withdrawn (I7)."""
        found = [(name, each) for name, each in self._offices.items() if backend in each.members]
        return found[0] if len(found) == 1 else None
