"""Ordinary Services that may be taken over for a while: everybody watches their pods, the leader acts (S0.2, S4.4).

They have a register of their own, so that nothing that serves the Services that are always hotswitch's sees them. A
worker looks after each; one that nobody asks for any more, and of which slices of ours still stand, has one too.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial

from hotswitch.api.adopt import ADOPTED
from hotswitch.backends import ServiceId, ServiceRecord
from hotswitch.cluster.client import Cluster
from hotswitch.cluster.failure import ApiFailure
from hotswitch.cluster.kinds import ENDPOINTSLICES
from hotswitch.cluster.lease import clock_s
from hotswitch.cluster.lease_record import MOST_TRANSITIONS
from hotswitch.cluster.watch import Change, ChangeType, Watcher
from hotswitch.config.objects import ObjectRef, Problem
from hotswitch.decide.endpoints.adopt import Phase
from hotswitch.endpoints import objects, ordinary
from hotswitch.endpoints.adopt_means import Means, Tell
from hotswitch.endpoints.adopt_worker import AdoptWorker
from hotswitch.endpoints.adoption_ledger import AdoptionLedger
from hotswitch.endpoints.hands import Hands, Object
from hotswitch.endpoints.ledger import Stale
from hotswitch.endpoints.memory import MemoryUnreadable
from hotswitch.endpoints.registry import Registry
from hotswitch.endpoints.slice_publisher import SlicePublisher
from hotswitch.endpoints.slicing import MANAGED_BY, MANAGER, SERVICE_NAME
from hotswitch.endpoints.source import Judged, Reading, Source

log = logging.getLogger("hotswitch.endpoints.adopt")
LOOKS = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class AdoptParts:
    """`namespace`: hotswitch's own, for Leases. `refusal`: why Services of a namespace may not be taken over, "" when
    they may; asked at each step. `leads`: by the leader's own clock. `written`: counts writes of slices by verb."""

    cluster: Cluster
    namespace: str
    leads: Callable[[], bool]
    refusal: Callable[[str], str]
    tell: Tell
    judged: Judged = lambda ref, problems: None
    trouble: Callable[[str], None] = lambda sentence: None
    written: Callable[[str], None] = lambda verb: None
    clock: Callable[[], float] = field(default=clock_s)


@dataclass(slots=True)
class _Led:
    """What exists while this controller leads."""

    means: Means
    slices: SlicePublisher
    workers: dict[ServiceId, AdoptWorker] = field(default_factory=dict)
    tasks: dict[ServiceId, asyncio.Task[None]] = field(default_factory=dict)
    looking: asyncio.Task[None] | None = None


class Adopter:
    def __init__(self, parts: AdoptParts) -> None:
        self._parts = parts
        self.registry = Registry()
        self._recorded: dict[ServiceId, tuple[str, Mapping[str, str]]] = {}  # uid, and selector by our record
        reading = Reading(self._adoptable, self._careful)
        self.source = Source(parts.cluster, self.registry, reading=reading, judged=self._judged, trouble=parts.trouble)
        self.registry.listen(self._changed)
        self._led: _Led | None = None
        self._ending: set[asyncio.Task[None]] = set()

    @property
    def synced(self) -> asyncio.Event:
        return self.source.synced

    async def run(self) -> None:
        """Watch, until cancelled."""
        await self.source.run()

    async def highest_term(self) -> int:
        """Of those who wrote the records of the Services that there are: one of a lower term could not go on."""
        ledger, found = AdoptionLedger(self._parts.cluster, self._parts.namespace, MOST_TRANSITIONS), 0
        for service in list(self.registry.services):
            with contextlib.suppress(ApiFailure, MemoryUnreadable, Stale):
                found = max(found, (await ledger.read(service)).adoption.term)
        return found

    # ---- leading and not ----

    def lead(self, term: int) -> None:
        parts = self._parts
        slices = SlicePublisher(parts.cluster, foreign=self._of_others, written=parts.written, leads=parts.leads)
        means = Means(
            registry=self.registry,
            hands=Hands(parts.cluster),
            ledger=AdoptionLedger(parts.cluster, parts.namespace, term),
            slices=slices,
            knows=self.source.knows,
            recall=self._recall,
            refusal=parts.refusal,
            tell=parts.tell,
            leads=parts.leads,
            term=term,
            looks=asyncio.Semaphore(LOOKS),
            clock=parts.clock,
        )
        led = self._led = _Led(means, slices)
        led.looking = asyncio.get_running_loop().create_task(self._own_slices(led).run())
        for service in list(self.registry.services):
            self._changed(service)

    def follow(self) -> None:
        """Everything stays as it is: it is written down, and the next leader goes on."""
        led, self._led = self._led, None
        if led is None:
            return
        for task in (*led.tasks.values(), *([led.looking] if led.looking else ())):
            task.cancel()
        ending = asyncio.get_running_loop().create_task(led.slices.stop())
        self._ending.add(ending)
        ending.add_done_callback(self._ending.discard)

    async def stop(self) -> None:
        self.follow()
        await asyncio.gather(*self._ending, return_exceptions=True)

    def _own_slices(self, led: _Led) -> Watcher[Object]:
        """Slices of ours, wherever they stand: of Services that nobody asks us to look after any more, and such as one
        who was deposed had sent, and that come late."""
        selector = f"{MANAGED_BY}={MANAGER},{ADOPTED}"
        found = partial(self._found, led)
        return Watcher(self._parts.cluster, ENDPOINTSLICES, dict, on_event=found, label_selector=selector)

    def _found(self, led: _Led, change: Change[Object]) -> None:
        metadata = change.object["metadata"]
        service = ServiceId(metadata["namespace"], (metadata.get("labels") or {}).get(SERVICE_NAME, ""))
        if change.type is ChangeType.DELETED:
            return
        if service in led.workers:
            led.workers[service].found()
        else:
            self._look_after(led, service)

    # ---- by which selector ----

    def _adoptable(self, content: objects.Service) -> ServiceRecord | None:
        return ordinary.adoptable(content, self._by_record(content))

    def _careful(self, content: objects.Service, last: ServiceRecord | None) -> ServiceRecord | None:
        return ordinary.careful(content, last, self._by_record(content))

    def _by_record(self, content: objects.Service) -> Mapping[str, str] | None:
        """Anybody may write the mark; our record goes before it."""
        service = ServiceId(content.metadata.namespace, content.metadata.name)
        uid, selector = self._recorded.get(service, ("", None))
        return selector if uid == content.metadata.uid else None

    def _recall(self, service: ServiceId, uid: str, selector: Mapping[str, str]) -> bool:
        if self._recorded.get(service, ("", {})) == (uid if selector else "", selector):
            return False
        if selector:
            self._recorded[service] = (uid, selector)
        else:
            del self._recorded[service]
        before = self.registry.service(service)
        self.source.read_again(service)
        after = self.registry.service(service)
        return (before and before.selector) != (after and after.selector)

    # ---- news ----

    def _changed(self, service: ServiceId) -> None:
        if self._led is not None and (service in self._led.workers or self.registry.service(service) is not None):
            self._look_after(self._led, service)

    def _judged(self, ref: ObjectRef, problems: tuple[Problem, ...]) -> None:
        """Each change of a Service is news, also one that changes nothing of its record: its selector is back, say."""
        self._parts.judged(ref, problems)
        worker = self._led.workers.get(ServiceId(ref.namespace, ref.name)) if self._led is not None else None
        if worker is not None and ref.kind == "Service":
            worker.wake()

    def _of_others(self, service: ServiceId, names: tuple[str, ...]) -> None:
        worker = self._led.workers.get(service) if self._led is not None else None
        if worker is not None:
            worker.wake()

    def policies_changed(self) -> None:
        for worker in self._led.workers.values() if self._led is not None else ():
            worker.wake()

    def _look_after(self, led: _Led, service: ServiceId) -> None:
        worker = led.workers.get(service)
        if worker is None:
            worker = led.workers[service] = AdoptWorker(service, led.means)
            task = led.tasks[service] = asyncio.get_running_loop().create_task(worker.run())
            task.add_done_callback(lambda _: self._ended(led, service))
        worker.wake()

    def _ended(self, led: _Led, service: ServiceId) -> None:
        led.workers.pop(service, None)
        led.tasks.pop(service, None)
        if self._led is led:  # it may have been asked for anew meanwhile
            self._changed(service)

    # ---- for those who ask ----

    @property
    def phases(self) -> Mapping[ServiceId, Phase]:
        """Of those that are looked after; nothing is known while this controller does not lead."""
        return {service: worker.phase for service, worker in self._led.workers.items()} if self._led is not None else {}
