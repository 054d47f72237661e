"""EndpointSlices as they are to be: kube-proxy, istiod and every other reader of them follow (S0.5, S0.7, S2.1).

Only slices that carry our managed-by label are written. Each write is of the version that was seen; what somebody else
has changed or deleted is made right again. Slices of a Service of ours that others wrote (left behind by its selector,
or mirrored from an Endpoints object) would be merged with ours by every reader, so they are named to people. So is one
of ours that a GitOps tool applies: two would write over each other for ever, so it is the tool's, and its endpoints are
told of in another one.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass, field

from hotswitch.api.adopt import ADOPTED
from hotswitch.backends import Published, ServiceId
from hotswitch.cluster.backoff import Backoff
from hotswitch.cluster.client import Cluster
from hotswitch.cluster.failure import ApiFailure
from hotswitch.cluster.kinds import ENDPOINTSLICES
from hotswitch.cluster.objects import version_number
from hotswitch.cluster.watch import Change, ChangeType, Watcher
from hotswitch.endpoints import slicing
from hotswitch.endpoints.slicing import MANAGED_BY, MANAGER, SERVICE_NAME, Object

log = logging.getLogger("hotswitch.endpoints.slices")
Foreign = Callable[[ServiceId, tuple[str, ...]], None]
"""Told the names of slices of this Service that others wrote, each time they have changed; () when there are none."""


@dataclass(slots=True)
class _Desk:
    """One Service's. `known`: our slices, newest version that was seen or written; `foreign`: names of others'."""

    wanted: Published
    known: dict[str, Object] = field(default_factory=dict)
    foreign: set[str] = field(default_factory=set)
    wake: asyncio.Event = field(default_factory=asyncio.Event)
    written: asyncio.Event = field(default_factory=asyncio.Event)
    tasks: list[asyncio.Task[None]] = field(default_factory=list)


class SlicePublisher:
    """`written`: counts writes by verb. `leads`: asked before each write, for a process may have stood still since."""

    def __init__(
        self,
        cluster: Cluster,
        *,
        foreign: Foreign = lambda service, names: None,
        written: Callable[[str], None] = lambda verb: None,
        leads: Callable[[], bool] = lambda: True,
    ) -> None:
        self._cluster, self._foreign, self._written, self._leads = cluster, foreign, written, leads
        self._desks: dict[ServiceId, _Desk] = {}
        self._leaving: dict[ServiceId, asyncio.Task[None]] = {}

    def publish(self, published: Published) -> None:
        desk = self._desks.get(published.service.id)
        if desk is None:
            self._stay(published.service.id)
            desk = self._desks[published.service.id] = _Desk(published)
            self._open(published.service.id, desk)
        elif desk.wanted != published:
            desk.wanted = published
            desk.written.clear()
            desk.wake.set()

    async def written_out(self, service: ServiceId) -> None:
        """Until the API server has taken what is wanted of it; at once when nothing is."""
        desk = self._desks.get(service)
        if desk is not None:
            await desk.written.wait()

    def withdraw(self, service: ServiceId) -> None:
        """Its slices go: with the Service by their owner, else by us."""
        desk = self._desks.pop(service, None)
        if desk is None:
            return
        self._close(desk)
        task = self._leaving[service] = asyncio.get_running_loop().create_task(self._remove(service, desk))
        task.add_done_callback(lambda done: self._left(service, done))

    def leave(self, service: ServiceId) -> None:
        """Its slices stay as they are: somebody else may keep them."""
        desk = self._desks.pop(service, None)
        if desk is None:
            return
        self._close(desk)
        task = self._leaving[service] = asyncio.get_running_loop().create_task(self._closed(desk))
        task.add_done_callback(lambda done: self._left(service, done))

    async def _closed(self, desk: _Desk) -> None:
        await asyncio.gather(*desk.tasks, return_exceptions=True)

    def _stay(self, service: ServiceId) -> None:
        """It is ours again: what is there is taken over."""
        leaving = self._leaving.pop(service, None)
        if leaving is not None:
            leaving.cancel()

    def _left(self, service: ServiceId, done: asyncio.Task[None]) -> None:
        if self._leaving.get(service) is done:
            del self._leaving[service]

    async def stop(self) -> None:
        """Leave everything as it is: somebody else leads, or nobody."""
        desks, leaving = list(self._desks.values()), list(self._leaving.values())
        self._desks.clear()
        for desk in desks:
            self._close(desk)
        for task in leaving:
            task.cancel()
        await asyncio.gather(*(task for desk in desks for task in desk.tasks), *leaving, return_exceptions=True)

    def _open(self, service: ServiceId, desk: _Desk) -> None:
        watcher: Watcher[Object] = Watcher(
            self._cluster,
            ENDPOINTSLICES,
            dict,
            on_event=lambda change: self._heard(service, desk, change),
            namespace=service.namespace,
            label_selector=f"{SERVICE_NAME}={service.name}",
        )
        loop = asyncio.get_running_loop()
        desk.tasks = [loop.create_task(watcher.run()), loop.create_task(self._keep(service, desk, watcher))]

    def _close(self, desk: _Desk) -> None:
        for task in desk.tasks:
            task.cancel()

    # ---- what is there ----

    def _heard(self, service: ServiceId, desk: _Desk, change: Change[Object]) -> None:
        metadata = change.object["metadata"]
        name = metadata["name"]
        is_gone = change.type is ChangeType.DELETED
        if not slicing.is_ours(change.object) and not is_gone:
            if desk.known.pop(name, None) is not None:  # it was, before
                desk.wake.set()
            self._heard_of_others(service, desk, name, False)
            return
        self._heard_of_others(service, desk, name, True)
        if change.type is ChangeType.DELETED:
            desk.known.pop(name, None)
        elif version_number(desk.known.get(name)) < version_number(change.object):
            desk.known[name] = change.object
        desk.wake.set()

    def _heard_of_others(self, service: ServiceId, desk: _Desk, name: str, gone: bool) -> None:
        before = set(desk.foreign)
        (desk.foreign.discard if gone else desk.foreign.add)(name)
        if before != desk.foreign:
            self._foreign(service, tuple(sorted(desk.foreign)))

    # ---- what is done about it ----

    async def _keep(self, service: ServiceId, desk: _Desk, watcher: Watcher[Object]) -> None:
        await watcher.synced.wait()
        backoff = Backoff(first_s=0.02, longest_s=5.0)
        desk.wake.set()
        while True:
            await desk.wake.wait()
            desk.wake.clear()
            try:
                published = desk.wanted
                await self._write(service, desk)
                backoff.reset()
                if desk.wanted == published:
                    desk.written.set()
            except Exception as failure:  # a Service whose slices nobody keeps any more would only seem to be kept
                log.warning("slices of %s: %s", service, failure, exc_info=not isinstance(failure, ApiFailure))
                await asyncio.sleep(backoff.next_s())
                desk.wake.set()

    async def _write(self, service: ServiceId, desk: _Desk) -> None:
        """What takes something away is in the same write as what comes in its place, where one slice holds both; else
        it goes first."""
        published = desk.wanted
        known = dict(desk.known)
        wanted = slicing.parts(published, map(slicing.part_of, known.values()), desk.foreign)
        objects = {part.name: slicing.manifest(published, part) for part in wanted}
        for name in known.keys() - objects.keys():
            if self._leads():
                await self._delete(service, desk, name)
        for name, content in sorted(objects.items(), key=lambda each: len(each[1]["endpoints"])):
            before = known.get(name)
            if not self._leads():
                return
            if before is None:
                await self._create(service, desk, name, content)
            elif slicing.differs(content, before):
                await self._replace(service, desk, name, before, content)

    async def _create(self, service: ServiceId, desk: _Desk, name: str, content: Object) -> None:
        try:
            self._note(desk, await self._cluster.create(ENDPOINTSLICES, service.namespace, content))
        except ApiFailure as failure:
            if failure.is_taken:  # by ourselves, when the answer was lost
                await self._look(service, desk, name)
            raise
        self._written("create")

    async def _replace(self, service: ServiceId, desk: _Desk, name: str, before: Object, content: Object) -> None:
        own = {"resourceVersion": before["metadata"]["resourceVersion"], "uid": before["metadata"]["uid"]}
        whole = {**content, "metadata": {**content["metadata"], **own}}
        try:
            self._note(desk, await self._cluster.replace(ENDPOINTSLICES, service.namespace, name, whole))
        except ApiFailure as failure:
            if failure.is_missing or failure.is_conflict:
                await self._look(service, desk, name)
            raise
        self._written("update")

    async def _look(self, service: ServiceId, desk: _Desk, name: str) -> None:
        """Sooner than the watch tells."""
        try:
            found = await self._cluster.get(ENDPOINTSLICES, service.namespace, name)
        except ApiFailure as failure:
            if not failure.is_missing:
                raise
            desk.known.pop(name, None)
            return
        if slicing.is_ours(found):
            self._note(desk, found)
        else:
            desk.known.pop(name, None)
            self._heard_of_others(service, desk, name, False)

    async def _delete(self, service: ServiceId, desk: _Desk, name: str) -> None:
        """Only in the version that was seen: a later leader's is the same object, written anew."""
        metadata = desk.known[name]["metadata"]
        uid, version = metadata["uid"], metadata["resourceVersion"]
        try:
            await self._cluster.delete(ENDPOINTSLICES, service.namespace, name, uid=uid, version=version)
            self._written("delete")
        except ApiFailure as failure:
            if failure.is_conflict:
                desk.known.pop(name, None)
                await self._look(service, desk, name)
            if not failure.is_missing:
                raise
        desk.known.pop(name, None)

    async def _remove(self, service: ServiceId, desk: _Desk) -> None:
        """Until none is left, be it one whose making was under way: readers would go on sending to what they tell."""
        await self._closed(desk)
        backoff = Backoff(first_s=0.05, longest_s=5.0)
        while True:
            try:
                if await self._is_removed(service, desk):
                    return
            except ApiFailure as failure:
                log.warning("slices of %s, which is no longer ours: %s", service, failure)
            await asyncio.sleep(backoff.next_s())

    async def _is_removed(self, service: ServiceId, desk: _Desk) -> bool:
        """False: this controller does not lead at the moment. It may again, or is told to stop."""
        if not self._leads():
            return False
        for content in await self._own(service):
            if not self._leads():
                return False
            self._note(desk, content)
            await self._delete(service, desk, content["metadata"]["name"])
        return True

    async def tidy(self, is_left: Callable[[ServiceId], bool]) -> None:
        """Take away what stands of Services that ceased to be ours while nobody led; of one that is taken over for a
        while its own worker knows. Raises ApiFailure."""
        for content in await self._cluster.list(ENDPOINTSLICES, label_selector=f"{MANAGED_BY}={MANAGER}"):
            metadata = content["metadata"]
            labels = metadata.get("labels") or {}
            service = ServiceId(metadata["namespace"], labels.get(SERVICE_NAME, ""))
            if ADOPTED not in labels and slicing.is_ours(content) and is_left(service):
                uid, version = metadata["uid"], metadata["resourceVersion"]
                try:
                    await self._cluster.delete(
                        ENDPOINTSLICES, service.namespace, metadata["name"], uid=uid, version=version
                    )
                    self._written("delete")
                except ApiFailure as failure:
                    if not (failure.is_missing or failure.is_conflict):
                        raise

    async def _own(self, service: ServiceId) -> list[Object]:
        selector = f"{SERVICE_NAME}={service.name},{MANAGED_BY}={MANAGER}"
        found = await self._cluster.list(ENDPOINTSLICES, service.namespace, label_selector=selector)
        return list(filter(slicing.is_ours, found))

    def _note(self, desk: _Desk, written: Object) -> None:
        name = written["metadata"]["name"]
        if version_number(desk.known.get(name)) < version_number(written):
            desk.known[name] = written
