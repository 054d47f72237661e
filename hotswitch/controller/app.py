"""The controller, put together: watches fill the picture, the leader's fleet acts, words go out (S4.1).

Everyone watches, one acts. Who does not lead is warm: it has the same picture and begins to act at once. A controller
that has lost its lease, or cannot know, ends every worker first and asks afterwards (I6).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Mapping
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

from hotswitch.act.order import Actuator
from hotswitch.api import names
from hotswitch.cluster.client import connect
from hotswitch.cluster.lease import Elector
from hotswitch.cluster.pods import Pod
from hotswitch.config import adoption
from hotswitch.controller import actuators
from hotswitch.controller.agents.office import Office
from hotswitch.controller.alarms import KEY
from hotswitch.controller.drills.drills import Drills
from hotswitch.controller.drills.words import Words
from hotswitch.controller.figures import refresh
from hotswitch.controller.fleet import Fleet
from hotswitch.controller.invalid import InvalidObjects
from hotswitch.controller.means import Means
from hotswitch.controller.picture import Picture
from hotswitch.controller.policies import Reports
from hotswitch.controller.preparing import Preparing
from hotswitch.controller.settings import LEASE, ControllerSettings
from hotswitch.controller.speaking import Speaker
from hotswitch.controller.watching import Watching
from hotswitch.controller.writer import StatusWriter
from hotswitch.model import PodRef, Surroundings
from hotswitch.observe.central import CentralPace, CentralProber
from hotswitch.report.controller_metrics import ControllerMetrics
from hotswitch.report.events import Regarding

SWEEP_S = 20.0
LAST_WORDS_S = 2.0
CLOCK_SET_S = 2.0  # more than clocks drift apart, less than an opening lasts
log = logging.getLogger("hotswitch.controller")

if TYPE_CHECKING:
    from hotswitch.controller.serving import Serving


class Controller:
    """`async with Controller(settings) as controller: await controller.run()`. Raises ConnectError at the start."""

    def __init__(self, settings: ControllerSettings) -> None:
        self.settings = settings
        self.metrics = ControllerMetrics()
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Controller:
        settings = self.settings
        loop = asyncio.get_running_loop()
        self._shift_s = time.time() - loop.time()
        self.cluster = await self._stack.enter_async_context(connect(settings.kubeconfig, settings.context))
        self.speaker = Speaker(self.cluster, settings, self.metrics)
        self.picture = Picture(
            self.cluster,
            settings.root_namespace,
            self.shift_s,
            self.speaker.invalid,
            tells_clients=bool(settings.istiod),
        )
        self.fleet = Fleet(self.picture.known, self._ill, self.picture.forget, self.picture.node_of)
        pace = CentralPace(idle_s=settings.probe_idle_s, fast_s=settings.probe_fast_s)
        self.eyes = CentralProber(self.fleet.news, pace)
        self.actuators: Mapping[str, Actuator] = actuators.offered(self.cluster, settings, lambda: self.elector.leading)
        self.office = Office(
            self.cluster,
            settings,
            self.picture,
            self.fleet,
            self.metrics,
            lambda: self.elector.leading,
            lambda uid, timeout_s, done: self.eyes.look(uid, timeout_s, done),
        )
        words = Words(self.speaker.journal, self.speaker.tell, self._about, self.metrics.drills)
        self.drills = Drills(self.cluster, self.picture, self.office, words, lambda: self.elector.leading)
        self.office.ordered = self.drills.order_of
        self.preparing = Preparing(self.picture, self.actuators, self._say_problem)
        self.watching = Watching(
            self.cluster,
            self.picture,
            settings.root_namespace,
            news=self._news,
            moved=self._moved,
            gone=self._gone,
            problem=self._say_problem,
            policies_changed=self._policies_changed,
        )
        self.reports = Reports(
            self.cluster, self.watching.policies, lambda key: self.picture.policies.get(key), self._say_problem
        )
        self.elector = Elector(
            self.cluster,
            settings.namespace,
            LEASE,
            settings.identity,
            lease_s=settings.lease_s,
            renew_s=settings.renew_s,
            retry_s=settings.retry_s,
            least_term=self._least_term,
        )
        self.serving: Serving | None = None
        if settings.endpoints:
            from hotswitch.controller.serving import Serving  # heavy, and not everybody's

            opened = Serving.open(
                self.cluster,
                settings,
                self.speaker,
                self.metrics,
                lambda: self.elector.leading,
                self._no_adopting,
                self.picture.settings.outputs,
            )
            self.serving = await self._stack.enter_async_context(opened)
        return self

    async def __aexit__(self, *_: object) -> None:
        self.preparing.stop()
        self.drills.follow()
        self.office.follow()
        self.fleet.follow()
        if self.serving is not None:
            self.serving.follow()
        await self.speaker.stop()
        await self._stack.aclose()

    def _least_term(self) -> int:
        elected = 0 if self.serving is None else self.serving.highest_term
        return max(self.picture.highest_term, self.office.highest_term, elected)

    def _no_adopting(self, namespace: str) -> str:
        """Why Services of a namespace may not be taken over; "" when they may."""
        return adoption.refusal(self.picture.settings.policies, self.settings.root_namespace, namespace)

    def shift_s(self) -> float:
        """The same for long, so that an instant that is written stays the same; another after the wall clock was set,
        or the machine slept."""
        now_s = time.time() - asyncio.get_running_loop().time()
        if abs(now_s - self._shift_s) > CLOCK_SET_S:
            log.warning("the wall clock was set", extra={"by_s": round(now_s - self._shift_s, 3)})
            self._shift_s = now_s
        return self._shift_s

    # ---- life ----

    async def run(self) -> None:
        """Until cancelled. Leads only once everything was read: half a picture allows too much."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self.watching.run())
            tasks.create_task(self.eyes.run())
            tasks.create_task(self.office.run())
            await self.watching.synced.wait()
            if self.serving is not None:
                tasks.create_task(self.serving.run())
                await self.serving.synced()
            await self.office.remember()
            await self.elector.run(self._lead, self._follow)

    async def finish(self) -> None:
        """Before `run` is cancelled: end what only a leader may do, while nobody else can lead."""
        self.preparing.stop()
        self.drills.follow()
        self.fleet.follow()
        if self.elector.leading:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self.elector.remaining_s):
                    await self.speaker.finish()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LAST_WORDS_S):
                await self.speaker.say_the_rest()

    def _lead(self, term: int) -> None:
        log.info("leading", extra={"term": term})
        self.metrics.leads(True)
        standing = [each for invalid in self._invalid for each in invalid.problems]
        self.speaker.start(lambda: self.picture.settings.policies, standing)
        self.office.lead(term)
        self.fleet.lead(self._means(), [*self.picture.pods, *self.picture.left])
        self.preparing.start()
        self.drills.lead(term)
        if self.serving is not None:
            self.serving.lead(term)
        self.reports.lead()
        self._sweeping = asyncio.get_running_loop().create_task(self._sweep())

    async def _sweep(self) -> None:
        """While this controller leads: matters that nobody will tell the end of."""
        while True:
            await asyncio.sleep(SWEEP_S)
            self.speaker.end_what_is_over(self._goes_on)

    def _goes_on(self, key: str) -> bool:
        if key.startswith(KEY):
            return self.serving is not None and self.serving.alarms.goes_on(key)
        uid, _, code = key.partition(":")
        worker, pod = self.fleet.workers.get(uid), self.picture.pods.get(uid)
        if worker is not None and worker.loaded:
            return code in worker.matters
        return pod is not None and f'"{code}":' in pod.annotations.get(names.STATUS, "")

    def _follow(self) -> None:
        log.info("following")
        self.metrics.leads(False)
        self._sweeping.cancel()
        self.reports.follow()
        self.preparing.stop()
        self.drills.follow()
        self.office.follow()
        self.fleet.follow()
        if self.serving is not None:
            self.serving.follow()
        self.speaker.pause()

    def _means(self) -> Means:
        return Means(
            picture=self.picture,
            eyes=self.eyes,
            actuators=self.actuators,
            meshed=actuators.meshed(self.cluster, self.settings),
            writer=StatusWriter(self.cluster, self._lasting),
            term=lambda: self.elector.term if self.elector.leading else None,
            neighbours=self.fleet.neighbours,
            surroundings=self._surroundings,
            tell=self.speaker.tell,
            journal=self.speaker.journal,
            metrics=self.metrics,
            shift_s=self.shift_s,
            identity=self.settings.identity,
            told=self.office.told,
        )

    @property
    def _lasting(self) -> frozenset[str]:
        return frozenset(name for name, each in self.actuators.items() if not each.ends_by_itself)

    def _surroundings(self, pod: PodRef) -> Surroundings:
        now_s, pods, limits = asyncio.get_running_loop().time(), self.picture.census.living, self.picture.limits(pod)
        around = self.fleet.neighbours.around(pod, limits, pods=pods, now_s=now_s)
        return self.office.beside_agents(around, pod, limits)

    # ---- news ----

    def _news(self, uid: str, ill: bool) -> None:
        """`ill`: by its status."""
        if ill:
            self.eyes.hurry(uid)
        self.fleet.news(uid, ill=ill or self._doubted(uid))

    def _ill(self, uid: str) -> bool:
        return self.picture.ill(uid) or self._doubted(uid)

    def _doubted(self, uid: str) -> bool:
        """15021 does not answer as it should, or an agent has something to tell."""
        return self.eyes.doubts(uid) or self.office.restless(uid)

    def _moved(self, pod: Pod) -> None:
        found = self.picture.watched(pod)
        found = None if pod.is_completed else found
        self.drills.moved(pod, found)
        self.office.pod_moved(pod, watched=found is not None)
        if found is not None and pod.addresses:
            self.eyes.watch(pod.uid, pod.addresses[0])
            self.preparing.consider(pod.uid)
        else:
            self.eyes.forget(pod.uid)

    def _gone(self, uid: str) -> None:
        self.drills.gone(uid)
        self.office.pod_gone(uid)
        self.eyes.forget(uid)
        self.fleet.news(uid)

    def _policies_changed(self) -> None:
        self.reports.news()
        self.speaker.policies_changed()
        if self.serving is not None:
            self.serving.adopting.adopter.policies_changed()
            self.serving.istio.policies_changed()
        for uid in list(self.fleet.workers):
            self.fleet.news(uid)
        self._reviewing = asyncio.get_running_loop().create_task(self._review())

    async def _review(self) -> None:
        """A policy may switch pods on or off. Not in one go: there may be thousands."""
        for done, pod in enumerate(list(self.picture.pods.values())):
            self._moved(pod)
            if done % 100 == 99:
                await asyncio.sleep(0)

    # ---- words ----

    def _about(self, regarding: Regarding, code: str, sentence: str) -> None:
        self.speaker.about(regarding, code, sentence, warning=False)

    def _say_problem(self, sentence: str) -> None:
        log.warning("cluster", extra={"problem": sentence})

    @property
    def _invalid(self) -> list[InvalidObjects]:
        return [self.picture.invalid, *(self.serving.invalid if self.serving is not None else ())]

    # ---- health ----

    def refresh_metrics(self) -> None:
        refresh(self.metrics, self.picture, list(self.fleet.workers.values()), self._invalid)
        if self.serving is not None:
            self.serving.refresh_metrics()
        self.office.refresh_metrics()
        self.drills.refresh_metrics()

    @property
    def alive(self) -> bool:
        """False when a watch only seems to live: the kubelet is to start us anew."""
        return not self.watching.synced.is_set() or self.watching.age_s < self.settings.stale_after_s

    @property
    def ready(self) -> bool:
        served = self.serving is None or self.serving.endpoints.synced.is_set()
        return self.watching.synced.is_set() and served and self.alive
