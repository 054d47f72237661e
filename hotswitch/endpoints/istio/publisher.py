"""ServiceEntries and DestinationRules as they are to be, by server-side apply under our own name (S0.5, S2.5).

Only objects that carry our label are written, and each write is of the very object and version that was seen; one that
somebody else has made under the name is left alone and named to people. What policy does not allow, or no longer
allows, or cannot be said any more, or nobody asks for any more, is taken away: what is left would lead to pods that are
gone, or are active no more (I7). Requests go only where something differs.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from hotswitch.backends import Published, ServiceId
from hotswitch.cluster.backoff import Backoff
from hotswitch.cluster.client import Cluster
from hotswitch.cluster.failure import ApiFailure
from hotswitch.cluster.kinds import DESTINATION_RULES, SERVICE_ENTRIES, Kind
from hotswitch.cluster.objects import version_number
from hotswitch.cluster.watch import Change, ChangeType, Watcher
from hotswitch.endpoints.istio import config
from hotswitch.endpoints.istio.refusal import No, Refusal, Refused
from hotswitch.endpoints.slicing import MANAGER

log = logging.getLogger("hotswitch.endpoints.istio")
KINDS = (SERVICE_ENTRIES, DESTINATION_RULES)
LASTS_S = 2.0  # failing for longer is told: others write at the same moment, API servers begin anew
LOOK_S = 60.0  # so often it is looked whether what was in the way has gone
Object = dict[str, Any]


@dataclass(slots=True)
class _Desk:
    """One Service's. `known`: what the API has, by kind; a kind that is missing was not looked at. `applied`: what was
    written last, and the version that came of it: where a webhook changes what is written, writing it again is in vain.
    """

    wanted: Published
    known: dict[Kind, Object | None] = field(default_factory=dict)
    applied: dict[Kind, tuple[Object, str]] = field(default_factory=dict)
    wake: asyncio.Event = field(default_factory=asyncio.Event)
    task: asyncio.Task[None] | None = None


class IstioPublisher:
    """`allowed`: whether policy lets this Service's namespace have it. `leads`: asked before each write. `written`:
    counts writes by verb."""

    def __init__(
        self,
        cluster: Cluster,
        *,
        allowed: Callable[[str], bool],
        refused: Refused = lambda service, refusal, sentence: None,
        written: Callable[[str], None] = lambda verb: None,
        leads: Callable[[], bool] = lambda: True,
    ) -> None:
        self._cluster, self._allowed, self._refused = cluster, allowed, refused
        self._written, self._leads = written, leads
        self._desks: dict[ServiceId, _Desk] = {}
        self._leaving: dict[ServiceId, asyncio.Task[None]] = {}
        self._watching: list[asyncio.Task[None]] = []

    def publish(self, published: Published) -> None:
        service = published.service.id
        desk = self._desks.get(service)
        if desk is None:
            self._watch()
            leaving = self._leaving.pop(service, None)
            if leaving is not None:
                leaving.cancel()
            desk = self._desks[service] = _Desk(published)
            desk.wake.set()
            desk.task = asyncio.get_running_loop().create_task(self._keep(desk))
        elif desk.wanted != published:
            desk.wanted = published
            desk.wake.set()

    def withdraw(self, service: ServiceId) -> None:
        desk = self._desks.pop(service, None)
        if desk is not None:
            if desk.task is not None:
                desk.task.cancel()  # now: it says nothing more of this Service, whatever becomes of the removal
            task = self._leaving[service] = asyncio.get_running_loop().create_task(self._remove(desk))
            task.add_done_callback(lambda done: self._left(service, done))

    def _left(self, service: ServiceId, done: asyncio.Task[None]) -> None:
        if self._leaving.get(service) is done:
            del self._leaving[service]

    def look_again(self) -> None:
        """What policy allows may be something else now."""
        for desk in self._desks.values():
            desk.wake.set()

    async def stop(self) -> None:
        """Leave everything as it is: somebody else leads, or nobody."""
        tasks = [*(desk.task for desk in self._desks.values() if desk.task is not None), *self._leaving.values()]
        tasks += self._watching
        self._watching = []
        self._desks.clear()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def tidy(self, is_left: Callable[[ServiceId], bool]) -> None:
        """Take away what stands of Services that ceased to ask for it while nobody led. Raises ApiFailure."""
        for kind in KINDS:
            for content in await self._listed(kind):
                service = config.service_of(content)
                if service is not None and is_left(service):
                    await self._delete(kind, content)

    async def _listed(self, kind: Kind) -> list[Object]:
        try:
            return await self._cluster.list(kind, label_selector=f"{config.MANAGED_BY}={MANAGER}")
        except ApiFailure as failure:
            if failure.is_missing:  # no Istio
                return []
            raise

    # ---- what others do to it ----

    def _watch(self) -> None:
        """From the first Service on that asks: a cluster without Istio is not asked for its kinds."""
        if self._watching:
            return
        loop = asyncio.get_running_loop()
        for kind in KINDS:
            watcher: Watcher[Object] = Watcher(
                self._cluster,
                kind,
                dict,
                on_event=partial(self._heard, kind),
                label_selector=f"{config.MANAGED_BY}={MANAGER}",
            )
            self._watching.append(loop.create_task(watcher.run()))

    def _heard(self, kind: Kind, change: Change[Object]) -> None:
        service = config.service_of(change.object)
        desk = self._desks.get(service) if service is not None else None
        if desk is None or kind not in desk.known:
            return
        known = desk.known[kind]
        if change.type is ChangeType.DELETED:
            if known is not None and known["metadata"]["uid"] == change.object["metadata"]["uid"]:
                desk.known[kind] = None
                desk.wake.set()
        elif known is None or version_number(known) < version_number(change.object):
            desk.known[kind] = change.object
            desk.wake.set()

    # ---- one Service ----

    async def _keep(self, desk: _Desk) -> None:
        backoff = Backoff(first_s=0.02, longest_s=5.0)
        failing_s: float | None = None
        while True:
            try:
                async with asyncio.timeout(LOOK_S):
                    await desk.wake.wait()
            except TimeoutError:
                desk.known.clear()
            desk.wake.clear()
            service = desk.wanted.service
            try:
                await self._write(desk)
                self._refused(service, None, "")
                failing_s = None
                backoff.reset()
            except No as no:
                self._refused(service, no.refusal, str(no))
                failing_s = None
            except Exception as failure:  # a Service whose objects nobody keeps any more would only seem to be kept
                log.warning(
                    "Istio's objects of %s: %s", service.id, failure, exc_info=not isinstance(failure, ApiFailure)
                )
                desk.known.clear()
                now_s = asyncio.get_running_loop().time()
                failing_s = now_s if failing_s is None else failing_s
                if now_s - failing_s >= LASTS_S:
                    self._refused(service, Refusal.NOT_WRITTEN, str(failure))
                await asyncio.sleep(backoff.next_s())
                desk.wake.set()

    async def _write(self, desk: _Desk) -> None:
        published = desk.wanted
        namespace = published.service.id.namespace
        if not self._allowed(namespace):
            await self._take_away(desk)
            raise No(Refusal.NOT_ALLOWED, f"no policy of the root namespace gives {namespace} the output istio")
        try:
            wanted = {
                SERVICE_ENTRIES: config.service_entry(published),
                DESTINATION_RULES: config.destination_rule(published),
            }
        except ValueError as unsaid:
            await self._take_away(desk)
            raise No(Refusal.UNSAID, str(unsaid)) from unsaid
        for kind, content in wanted.items():
            await self._have(desk, kind, content)
        if left_out := config.left_out(published):
            sentence = (
                f"one ServiceEntry bears {config.AT_MOST} endpoints: {left_out} more get nothing from Istio's clients"
            )
            raise No(Refusal.TOO_MANY, sentence)

    async def _have(self, desk: _Desk, kind: Kind, wanted: Object | None) -> None:
        service = desk.wanted.service
        known = await self._look(desk, kind)
        if known is not None and not config.is_ours(known):
            del desk.known[kind]  # it is not watched: look again next time
            if wanted is not None:
                raise No(
                    Refusal.NOT_OURS, f"{kind.kind} {config.name(service)} was made by somebody else and stays as it is"
                )
            return
        if known is not None and (wanted is None or not config.belongs(known, service)):
            await self._delete(kind, known)
            known = desk.known[kind] = None
        if wanted is None or (known is not None and not config.differs(wanted, known)):
            return
        if known is not None and desk.applied.get(kind) == (wanted, known["metadata"]["resourceVersion"]):
            return
        found = desk.known[kind] = await self._apply(kind, wanted, known)
        if found is not None:
            desk.applied[kind] = (wanted, found["metadata"]["resourceVersion"])

    async def _look(self, desk: _Desk, kind: Kind) -> Object | None:
        if kind not in desk.known:
            service = desk.wanted.service
            try:
                desk.known[kind] = await self._cluster.get(kind, service.id.namespace, config.name(service))
            except ApiFailure as failure:
                if not failure.is_missing:
                    raise
                desk.known[kind] = None
        return desk.known[kind]

    async def _apply(self, kind: Kind, wanted: Object, known: Object | None) -> Object | None:
        """Over what is ours by force: whoever edits it by hand edits in vain. What is not there yet is made without:
        what somebody else makes in the same moment is a conflict."""
        if not self._leads():
            return known
        metadata = wanted["metadata"]
        own = {} if known is None else {key: known["metadata"][key] for key in ("uid", "resourceVersion")}
        whole = {**wanted, "metadata": {**metadata, **own}}
        try:
            found = await self._cluster.apply(
                kind, metadata["namespace"], metadata["name"], whole, force=known is not None
            )
        except ApiFailure as failure:
            if failure.is_missing:
                raise No(Refusal.NOT_SERVED, f"this cluster has no {kind}: Istio 1.22 or newer is needed") from failure
            raise
        self._written("create" if known is None else "update")
        return found

    async def _delete(self, kind: Kind, known: Object) -> None:
        if not self._leads():
            return
        metadata = known["metadata"]
        try:
            await self._cluster.delete(
                kind, metadata["namespace"], metadata["name"], uid=metadata["uid"], version=metadata["resourceVersion"]
            )
            self._written("delete")
        except ApiFailure as failure:
            if not failure.is_missing:
                raise

    async def _take_away(self, desk: _Desk) -> None:
        for kind in reversed(KINDS):
            known = await self._look(desk, kind)
            if known is not None and config.is_ours(known):
                await self._delete(kind, known)
                desk.known[kind] = None

    async def _remove(self, desk: _Desk) -> None:
        """Until none is left, be it one whose making was under way."""
        if desk.task is not None:
            await asyncio.gather(desk.task, return_exceptions=True)
        backoff = Backoff(first_s=0.05, longest_s=5.0)
        while True:
            desk.known.clear()
            try:
                return await self._take_away(desk)
            except ApiFailure as failure:
                log.warning("Istio's objects of %s, which asks for them no more: %s", desk.wanted.service.id, failure)
                await asyncio.sleep(backoff.next_s())
