"""All that the controller says: Events, alerts, the journal. Nobody waits for any of it (S4.6, I8).

Only the leader speaks; Events of what it did are written also when it leads no longer, for nobody else knows of them.
What receivers were told outlives it in a ConfigMap, so the next leader tells the end of it.
"""

from __future__ import annotations

import asyncio
import logging
import sys
import time
from collections.abc import Callable, Coroutine, Iterable
from dataclasses import replace
from typing import Any

import msgspec

from hotswitch.cluster.client import Cluster
from hotswitch.cluster.kinds import NAMESPACES, PODS, POLICIES, SERVICES, Kind
from hotswitch.config.objects import ObjectRef, PolicyObject, Problem
from hotswitch.controller.ledgers import ConfigMapStore
from hotswitch.controller.receivers import Secrets, served
from hotswitch.controller.settings import ControllerSettings
from hotswitch.report.alerts.dispatcher import Dispatcher
from hotswitch.report.alerts.payload import About
from hotswitch.report.alerts.worker import Surroundings
from hotswitch.report.controller_metrics import ControllerMetrics
from hotswitch.report.events import EventWriter, Regarding
from hotswitch.report.journal import Entry, Journal
from hotswitch.report.notice import Notice, Severity

log = logging.getLogger("hotswitch.controller")
INVALID = "HSC010"
_KINDS: dict[str, Kind] = {"Pod": PODS, "Namespace": NAMESPACES, "Service": SERVICES, POLICIES.kind: POLICIES}


class Speaker:
    def __init__(self, cluster: Cluster, settings: ControllerSettings, metrics: ControllerMetrics) -> None:
        self._cluster, self._settings, self._metrics = cluster, settings, metrics
        self._journal = Journal(settings.journal) if settings.journal is not None else None
        self._policies: Callable[[], tuple[PolicyObject, ...]] = tuple
        self._events: EventWriter | None = None
        self._writer: EventWriter | None = None
        self._writing: asyncio.Task[None] | None = None
        self._alerts: Dispatcher | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._about = About(cluster=settings.cluster, docs_url=settings.docs_url)
        self._stopping: asyncio.Task[None] | None = None

    # ---- leading and not ----

    def start(self, policies: Callable[[], tuple[PolicyObject, ...]], invalid: Iterable[Problem] = ()) -> None:
        """`invalid`: what stands by now, and nobody has said while nobody led."""
        self._policies = policies
        self._events = self._event_writer()
        store = ConfigMapStore(self._cluster, self._settings.namespace)
        self._alerts = Dispatcher(
            Secrets(self._cluster), Surroundings(store=store, counts=self._metrics, about=self._about)
        )
        self.policies_changed()
        for problem in invalid:
            self.invalid(problem)

    def _event_writer(self) -> EventWriter:
        """One for the life of the process: an API server that is away takes the lease away, too."""
        if self._writer is None:
            self._writer = EventWriter(self._cluster, self._settings.identity, count=self._metrics.event)
            self._writing = asyncio.get_running_loop().create_task(self._writer.run())
        return self._writer

    def pause(self) -> None:
        """Somebody else leads, or nobody: be silent. Nothing is kept: the state is the next leader's by now."""
        self._stopping = asyncio.get_running_loop().create_task(_stopped(self._silence(), save=False))

    async def finish(self) -> None:
        """Still the leader, and about to end: what is unsaid is kept for the next one before that one can lead."""
        await _stopped(self._silence(), save=True)

    async def say_the_rest(self) -> None:
        """Events of what was done, before the process ends."""
        if self._writer is not None:
            await self._writer.try_all()

    def _silence(self) -> Dispatcher | None:
        """From now on; who spoke until now."""
        alerts, self._alerts, self._events = self._alerts, None, None
        for task in self._tasks:
            task.cancel()
        return alerts

    async def stop(self) -> None:
        """At the end of the process."""
        if self._writing is not None:
            self._writing.cancel()
        if self._stopping is not None:
            await self._stopping
        if self._journal is not None:
            self._journal.close()

    def policies_changed(self) -> None:
        if self._alerts is not None:
            self._do(self._alerts.configure(served(self._policies(), self._settings.root_namespace)))

    def _do(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # ---- saying ----

    def tell(self, notice: Notice) -> None:
        if self._events is not None:
            self._events.tell(notice)
        if self._alerts is not None and (notice.resolved or notice.severity is not Severity.INFO):
            self._alerts.tell(notice)  # what is only good to know has no end that somebody could wait for

    def about(self, regarding: Regarding, code: str, sentence: str, *, warning: bool) -> None:
        """An Event on an object that is no pod."""
        if self._events is not None:
            self._events.say(regarding, code, sentence, warning=warning)

    def trouble(self, sentence: str) -> None:
        log.warning("cluster", extra={"problem": sentence})

    def end_what_is_over(self, goes_on: Callable[[str], bool]) -> None:
        """Receivers may have been told of matters that ended while nobody led, or that end without a word: a pod that
        is gone, an act that failed once. `goes_on`: of a notice's key."""
        if self._alerts is None:
            return
        for key, notice in self._alerts.standing().items():
            if not goes_on(key):
                self._alerts.tell(replace(notice, ends_unix_s=time.time()))

    def journal(self, line: Entry) -> None:
        if self._journal is not None:
            self._journal.write(line)
        else:
            sys.stdout.write(msgspec.json.encode(line).decode() + "\n")
            sys.stdout.flush()

    def invalid(self, problem: Problem) -> None:
        """Something a user wrote cannot be used: said on the object that has it."""
        log.warning("invalid value", extra={"problem": str(problem)})
        regarding = _regarding(problem.object_ref)
        if self._events is not None and regarding is not None:
            sentence = f"{problem.field}: {problem.value!r} {problem.why}; what was valid before stays"
            self._events.say(regarding, INVALID, sentence, warning=True)


async def _stopped(alerts: Dispatcher | None, *, save: bool) -> None:
    if alerts is not None:
        await alerts.stop(save=save)


def _regarding(ref: ObjectRef) -> Regarding | None:
    kind = _KINDS.get(ref.kind)
    return None if kind is None else Regarding(kind=kind, namespace=ref.namespace, name=ref.name, uid=ref.uid)
