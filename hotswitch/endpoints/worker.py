"""One active/standby Service in the hands of the leader: look, decide one step, write it down, let it take effect.

Invariant (I7): nobody is told that it is active but by a record that was written and read back; and whoever is about to
be withdrawn is told so no more before that is written. A write whose answer is lost is followed by a look, and until
then nobody is told anything. So a controller that is killed between any two lines here leaves a state to go on from.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Protocol

from hotswitch.api.service import switchover
from hotswitch.api.values import InvalidValue
from hotswitch.backends import Backend, BackendId, Published, ServiceId, ServiceRecord
from hotswitch.cluster.backoff import Backoff
from hotswitch.cluster.failure import ApiFailure
from hotswitch.decide.endpoints.active_standby import Election, Order, Situation, Verdict, Word, published, step
from hotswitch.decide.endpoints.bounds import OPEN_S
from hotswitch.endpoints.fences import Fence, Suspect, due_s, proof
from hotswitch.endpoints.ledger import Ledger, Record, Stale, unwritten
from hotswitch.endpoints.memory import MemoryUnreadable
from hotswitch.endpoints.registry import Registry
from hotswitch.endpoints.roles import RoleBook

log = logging.getLogger("hotswitch.endpoints")
LOOK_S = 1.0  # so often at least, for what depends on time alone
STEPS = 8  # in one turn; more would be a circle


class Tell(Protocol):
    """Says what has happened to a Service; `alarm`: it lasts, and a person should know."""

    def __call__(self, service: ServiceRecord, verdict: Verdict, *, is_new: bool) -> None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Means:
    """What all workers share. `term`: of this leadership; `leads`: whether it lasts, by its own clock. `seen`: what
    pods' notes say of an election whose Lease is gone. `knows`: whether that cluster's pods of a Service were read, and
    the first answers of its pods have come.
    None of the callables waits."""

    registry: Registry
    ledger: Ledger
    roles: RoleBook
    fences: tuple[Fence, ...]
    publish: Callable[[Published], None]
    tell: Tell
    seen: Callable[[ServiceId], Election]
    knows: Callable[[ServiceId, str], bool]
    term: int
    leads: Callable[[], bool]
    clock: Callable[[], float]


class Worker:
    def __init__(self, service: ServiceId, means: Means) -> None:
        self._id, self._means = service, means
        self._wake = asyncio.Event()
        self._backoff = Backoff(first_s=0.05, longest_s=2.0)
        self._record: Record | None = None
        self._since_s = means.clock()
        self._unread_s: float | None = None  # since when the pods of who serves are not known
        self._verdict: Verdict | None = None
        self._shown: BackendId | None = None  # who data planes were told of last

    @property
    def election(self) -> Election | None:
        """As it is written; None: not known now."""
        return self._record.election if self._record is not None else None

    @property
    def verdict(self) -> Verdict | None:
        return self._verdict

    def wake(self) -> None:
        self._wake.set()

    async def run(self) -> None:
        """Until cancelled; from then on nobody is told anything by us."""
        self._means.roles.open(self._id)
        try:
            while True:
                self._wake.clear()
                await self._attempt()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(self._pause_s()):
                        await self._wake.wait()
        finally:
            self._means.roles.dismiss(self._id)

    async def _attempt(self) -> None:
        """One turn; what fails is looked at anew, a little later."""
        try:
            await self._turn()
            self._backoff.reset()
        except MemoryUnreadable as failure:
            self._say_unreadable(str(failure))
            await self._begin_anew()
        except (Stale, ApiFailure) as failure:
            log.warning("election of %s: %s", self._id, failure)
            await self._begin_anew()
        except Exception:  # a full disk under the journal, say: an election that has ended would only seem to be held
            log.exception("election of %s", self._id)
            await self._begin_anew()

    def _say_unreadable(self, why: str) -> None:
        """Nobody is promoted or told anything until a person has looked at the Lease."""
        log.error("election of %s: %s", self._id, why)
        service = self._means.registry.service(self._id)
        if service is None:
            return
        verdict = Verdict(word=Word.UNREADABLE, sentence=f"its Lease: {why}", election=Election(), alarm=True)
        before, self._verdict = self._verdict, verdict
        self._means.tell(service, verdict, is_new=before != verdict)

    async def _begin_anew(self) -> None:
        self._record = None
        self._means.roles.silence(self._id)
        self._wake.set()
        await asyncio.sleep(self._backoff.next_s())

    async def _turn(self) -> None:
        for _ in range(STEPS):
            service = self._means.registry.service(self._id)
            if service is None or not self._means.leads():
                return
            record = self._record or await self._look()
            if self._is_too_early(service, record.election):
                return
            situation = self._situation(service, record.election)
            verdict = step(situation)
            if verdict.election == record.election:
                self._stand(service, situation.backends, verdict)
                return
            await self._move(service, situation, record, verdict)
        log.error("election of %s: no end after %d steps", self._id, STEPS)

    def _is_too_early(self, service: ServiceRecord, election: Election) -> bool:
        """Whoever serves, or is to be fenced, is in a cluster that was not read yet, or is read anew by another
        selector: it is not gone for that. A cluster that cannot be reached is waited for as long as it takes to count
        as lost."""
        held = election.active or election.fencing
        if held is None or self._means.knows(self._id, held.cluster):
            self._unread_s = None
            return False
        now_s = self._means.clock()
        self._unread_s = now_s if self._unread_s is None else self._unread_s
        return now_s - self._unread_s < service.options.lost_after_s

    async def _look(self) -> Record:
        found = await self._means.ledger.read(self._id, self._means.term)
        if found is None:  # new; or somebody has deleted it, and then the pods' notes tell of it
            found = unwritten(self._recalled())
        self._record = found
        return found

    def _recalled(self) -> Election:
        """An order that stands on the Service was given to an election that is gone: it is not carried out again."""
        service, election = self._means.registry.service(self._id), self._means.seen(self._id)
        order = None if service is None else _order(service)
        return election if order is None else replace(election, handled_unix_s=order[1])

    def _situation(self, service: ServiceRecord, election: Election) -> Situation:
        backends = self._means.registry.backends(self._id)
        now = Situation(
            service=service,
            backends=backends,
            election=election,
            order=_order(service),
            since_s=self._means.clock() - self._since_s,
        )
        ttl_s = election.ttl_s
        if ttl_s is not None:
            now = replace(now, silent=self._means.roles.quiet(self._id, ttl_s))
        suspect = _suspect(now)
        return now if suspect is None else replace(now, fenced=proof(self._means.fences, suspect))

    async def _move(self, service: ServiceRecord, now: Situation, record: Record, verdict: Verdict) -> None:
        """From one record to the next. Told to data planes at once is what takes something away."""
        if verdict.election.active is None:
            self._means.roles.silence(self._id)
            self._show(service, now.backends, verdict)
        names = {each.id: each.pod.name for each in now.backends}
        self._record = None  # whether the write was done is not known until it has returned
        self._record = await self._means.ledger.write(self._id, record, verdict, names, self._means.term)
        self._since_s = self._means.clock()
        self._means.tell(service, verdict, is_new=True)

    def _stand(self, service: ServiceRecord, backends: tuple[Backend, ...], verdict: Verdict) -> None:
        """What is written holds: tell it."""
        election = verdict.election
        members = frozenset(each.id for each in backends)
        self._means.roles.appoint(self._id, election.active, election.generation, election.ttl_s, members)
        if self._opens_s <= 0:
            self._show(service, backends, verdict)
        before, self._verdict = self._verdict, verdict
        if before is None or (before.word, before.sentence) != (verdict.word, verdict.sentence):
            self._means.tell(service, verdict, is_new=False)

    def _show(self, service: ServiceRecord, backends: tuple[Backend, ...], verdict: Verdict) -> None:
        self._shown = verdict.election.active
        self._means.publish(published(service, backends, verdict.election, verdict.sentence))

    @property
    def _opens_s(self) -> float:
        """How much longer it is waited for that the active one can be reached; 0.0: not at all."""
        election = self.election
        if election is None or election.active in (None, self._shown):
            return 0.0
        if not self._means.roles.is_shut(self._id, election.active, election.generation):
            return 0.0
        return max(0.0, self._since_s + OPEN_S - self._means.clock())

    def _pause_s(self) -> float:
        service, election = self._means.registry.service(self._id), self.election
        if service is None or election is None:
            return LOOK_S
        if (opens_s := self._opens_s) > 0:
            return opens_s
        due, now_s = self._due_s(service, election), self._means.clock()
        return LOOK_S if due is None else min(LOOK_S, max(0.001, due - now_s))

    def _due_s(self, service: ServiceRecord, election: Election) -> float | None:
        """When something may follow from time alone; None, or one that has passed unused: at the next look."""
        suspect = _suspect(Situation(service=service, backends=(), election=election))
        if suspect is not None:
            return due_s(self._means.fences, suspect)
        if election.ttl_s is None or election.active is None:
            return None
        due = self._means.roles.quiet_s(self._id, election.ttl_s)
        return due if due is not None and due > self._means.clock() else None


def _suspect(now: Situation) -> Suspect | None:
    fencing = now.election.fencing
    if fencing is None:
        return None
    return Suspect(
        service=now.service,
        id=fencing,
        backend=now.find(fencing),
        generation=now.election.generation,
        ttl_s=now.election.ttl_s,
    )


def _order(service: ServiceRecord) -> Order | None:
    """One that cannot be read was said when the Service was read."""
    try:
        return switchover(service.annotations)
    except InvalidValue:
        return None
