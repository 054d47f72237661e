"""Endpoints, put together: sources fill the registry, policies decide, publishers write (S0, S2).

Everyone watches; only the leader probes, elects and publishes. Nothing is published of a Service whose pods were not
read, or not asked, yet: half a picture would take endpoints away that are there. Who leads no more stops telling roles
in the same turn of the loop, and leaves what is published as it is.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Coroutine
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from hotswitch.api.service import MODE
from hotswitch.backends import (
    BackendId,
    Output,
    Published,
    ServiceId,
    ServiceMode,
)
from hotswitch.cluster.backoff import Backoff
from hotswitch.cluster.failure import ApiFailure
from hotswitch.cluster.lease_record import MOST_TRANSITIONS
from hotswitch.decide.endpoints import everyone
from hotswitch.decide.endpoints.active_standby import Election, Verdict
from hotswitch.endpoints.fences import Confirmed, Fence, Gone, RunOut
from hotswitch.endpoints.labels import RoleLabels, recalled
from hotswitch.endpoints.ledger import Ledger, Stale
from hotswitch.endpoints.memory import MemoryUnreadable
from hotswitch.endpoints.parts import Parts
from hotswitch.endpoints.probing import Prober
from hotswitch.endpoints.publisher import Asked, Publisher
from hotswitch.endpoints.roles import RoleBook
from hotswitch.endpoints.settled import Settled
from hotswitch.endpoints.slice_publisher import SlicePublisher
from hotswitch.endpoints.source import Source
from hotswitch.endpoints.worker import Means, Worker
from hotswitch.model import PodUid

log = logging.getLogger("hotswitch.endpoints")


@dataclass(slots=True)
class _Led:
    """What exists while this controller leads."""

    means: Means
    slices: SlicePublisher
    labels: RoleLabels
    settled: Settled
    workers: dict[ServiceId, Worker] = field(default_factory=dict)
    tasks: dict[ServiceId, asyncio.Task[None]] = field(default_factory=dict)
    leaving: set[ServiceId] = field(default_factory=set)  # whose election is being ended
    tidying: asyncio.Task[None] | None = None


class Endpoints:
    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self.registry = parts.registry
        self.home = next(each for each in parts.sources if each.is_home)
        self.prober = Prober(self.registry, parts.ask)
        self.roles = RoleBook(lambda: self._led is not None and parts.leads(), parts.clock)
        self.roles.on_word(self._word)
        self._led: _Led | None = None
        self._due: set[ServiceId] = set()
        self._ending: set[asyncio.Task[None]] = set()
        self.registry.listen(self._changed)

    @property
    def synced(self) -> asyncio.Event:
        return self.home.synced

    async def run(self) -> None:
        """Watch, until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            for source in self._parts.sources:
                tasks.create_task(source.run())

    async def highest_term(self) -> int:
        """Of those who wrote the elections of the Services that there are. When the controllers' own Lease was lost and
        terms are counted anew, a lower one could not go on with any of them."""
        ledger, found = Ledger(self._parts.cluster, self._parts.namespace), 0
        for service, record in list(self.registry.services.items()):
            if record.mode is ServiceMode.ACTIVE_STANDBY:
                with contextlib.suppress(ApiFailure, MemoryUnreadable, Stale):
                    known = await ledger.read(service, MOST_TRANSITIONS)
                    found = max(found, known.memory.term if known is not None else 0)
        return found

    # ---- leading and not ----

    def lead(self, term: int) -> None:
        parts = self._parts
        slices = SlicePublisher(parts.cluster, foreign=parts.foreign, written=parts.written, leads=parts.leads)
        labels = RoleLabels(parts.cluster, self.home.pod, slices.written_out, self.home.place.cluster)
        settled = Settled(self.registry, parts.sources, parts.clock, self._changed)
        led = self._led = _Led(self._means(term), slices, labels, settled)
        led.tidying = asyncio.get_running_loop().create_task(self._tidy(led))
        self.prober.start()
        for service in list(self.registry.services):
            self._changed(service)

    def follow(self) -> None:
        led, self._led = self._led, None
        if led is None:
            return
        self.prober.stop()
        if led.tidying is not None:
            led.tidying.cancel()
        for task in led.tasks.values():
            task.cancel()
        self._end(led.slices.stop())
        self._end(led.labels.stop())

    def _end(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._ending.add(task)
        task.add_done_callback(self._ending.discard)

    async def _tidy(self, led: _Led) -> None:
        backoff = Backoff(first_s=1.0, longest_s=30.0)
        while True:
            try:
                return await led.slices.tidy(partial(self.is_left, Output.SLICES))
            except ApiFailure as failure:
                log.warning("slices of Services that are no longer ours: %s", failure)
                await asyncio.sleep(backoff.next_s())

    def is_left(self, output: Output, service: ServiceId) -> bool:
        """It is there, and does not ask hotswitch for this output any more. With one that is gone what was written goes
        by itself; one that asks in words that cannot be read keeps what it has."""
        content, record = (
            self.home.services.store.get((service.namespace, service.name)),
            self.registry.service(service),
        )
        if content is None or MODE not in (content.metadata.annotations or {}):
            return content is not None
        return record is not None and output not in record.options.outputs

    async def stop(self) -> None:
        self.follow()
        await asyncio.gather(*self._ending, return_exceptions=True)

    def _means(self, term: int) -> Means:
        parts = self._parts
        return Means(
            registry=self.registry,
            ledger=Ledger(parts.cluster, parts.namespace),
            roles=self.roles,
            fences=self._fences(),
            publish=self._publish,
            tell=parts.tell,
            seen=self._recalled,
            knows=self._knows,
            term=term,
            leads=parts.leads,
            clock=parts.clock,
        )

    def _fences(self) -> tuple[Fence, ...]:
        gone = Gone(self._is_heard, self)
        return gone, Confirmed(self.roles), RunOut(self.roles, self._parts.clock)

    def was_forced(self, backend: BackendId) -> bool:
        """A pod that is no more was seen to go while its containers ran."""
        return any(each.departed.was_forced(backend) for each in self._parts.sources)

    def was_seen(self, backend: BackendId) -> bool:
        """It was seen to go, and had ended."""
        return any(each.departed.was_seen(backend) for each in self._parts.sources)

    def _source(self, cluster: str) -> Source | None:
        return next((each for each in self._parts.sources if each.place.cluster == cluster), None)

    def _is_heard(self, cluster: str) -> bool:
        source = self._source(cluster)
        return source is not None and source.is_followed

    def _knows(self, service: ServiceId, cluster: str) -> bool:
        source, led = self._source(cluster), self._led
        return source is not None and source.knows(service) and led is not None and service in led.settled

    def _recalled(self, service: ServiceId) -> Election:
        record = self.registry.service(service)
        ttl_s = record.options.lease.ttl_s if record is not None else None
        return recalled(service, self.home.pods(service), ttl_s, self.home.place.cluster)

    # ---- news ----

    def _changed(self, service: ServiceId) -> None:
        if self._led is not None and service not in self._due:
            self._due.add(service)
            asyncio.get_running_loop().call_soon(self._look, service)

    def _word(self, service: ServiceId) -> None:
        worker = self._led.workers.get(service) if self._led is not None else None
        if worker is not None:
            worker.wake()

    def _look(self, service: ServiceId) -> None:
        self._due.discard(service)
        if self._led is None:
            return
        record = self.registry.service(service)
        if record is None:
            self._drop(service)
        elif not self.home.knows(service):
            self._led.settled.unsettle(service)  # by another selector
        elif not self._led.settled.settle(record):
            return
        elif record.mode is ServiceMode.ACTIVE_STANDBY:
            self._elect(service)
        else:
            self._end_election(service)
            self._publish(everyone.published(record, self.registry.backends(service)))

    def _elect(self, service: ServiceId) -> None:
        led = self._led
        assert led is not None
        if service in led.leaving:  # one after the other: the Lease of the new one must not be deleted with the old one
            return
        worker = led.workers.get(service)
        if worker is None:
            worker = led.workers[service] = Worker(service, led.means)
            led.tasks[service] = asyncio.get_running_loop().create_task(worker.run())
        worker.wake()

    def _end_election(self, service: ServiceId) -> None:
        led = self._led
        assert led is not None
        task = led.tasks.pop(service, None)
        led.workers.pop(service, None)
        if task is not None:
            task.cancel()
            led.leaving.add(service)
            self._end(self._forget(led, service, task))

    async def _forget(self, led: _Led, service: ServiceId, task: asyncio.Task[None]) -> None:
        """Its Lease goes too: nobody is active in a Service that knows no roles. What cannot be deleted is harmless."""
        try:
            await asyncio.gather(task, return_exceptions=True)
            await led.means.ledger.forget(service, led.means.term)
        except (ApiFailure, Stale, MemoryUnreadable) as failure:
            log.warning("the election of %s stays: %s", service, failure)
        finally:
            led.leaving.discard(service)
            self._changed(service)

    def _drop(self, service: ServiceId) -> None:
        led = self._led
        assert led is not None
        self._end_election(service)
        led.settled.forget(service)
        for each in self._publishers(led):
            each.withdraw(service)

    def _publish(self, published: Published) -> None:
        """Into every door. After the leadership has ended nothing goes out."""
        led = self._led
        if led is not None and self._parts.leads():
            for each in self._publishers(led):
                each.publish(published)

    def _publishers(self, led: _Led) -> tuple[Publisher, ...]:
        return Asked(Output.SLICES, led.slices), led.labels, *self._parts.more

    # ---- for those who ask ----

    def find(self, namespace: str, pod: str, uid: str) -> BackendId | None:
        """A pod of a Service with roles, by its uid; its name and namespace must be right, too."""
        for source in self._parts.sources:
            identity = BackendId(source.place.cluster, PodUid(uid))
            for service, record in self.registry.services.items():
                if record.mode is ServiceMode.ACTIVE_STANDBY and service.namespace == namespace:
                    found = self.registry.backend(service, identity)
                    if found is not None and found.pod.name == pod:
                        return identity
        return None

    def election(self, service: ServiceId) -> Election | None:
        """None: not known, or none of ours."""
        worker = self._led.workers.get(service) if self._led is not None else None
        return worker.election if worker is not None else None

    def verdict(self, service: ServiceId) -> Verdict | None:
        worker = self._led.workers.get(service) if self._led is not None else None
        return worker.verdict if worker is not None else None
