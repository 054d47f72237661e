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
from hotswitch.config import adoption
from hotswitch.controller import actuators
from hotswitch.controller.agents.office import Office
from hotswitch.controller.alarms import KEY
from hotswitch.controller.drills.by_actuator import ByActuator
from hotswitch.controller.drills.drills import Drills
from hotswitch.controller.drills.words import Words
from hotswitch.controller.figures import refresh
from hotswitch.controller.fleet import Fleet
from hotswitch.controller.invalid import InvalidObjects
from hotswitch.controller.means import Means
from hotswitch.controller.news import News
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
        self._shift_s = time.time() - asyncio.get_running_loop().time()
        self.cluster = await self._stack.enter_async_context(connect(self.settings.kubeconfig, self.settings.context))
        self.speaker = Speaker(self.cluster, self.settings, self.metrics)
        self._make_picture()
        self._make_hands()
        self._make_watches()
        self.serving: Serving | None = None
        if self.settings.endpoints:
            self.serving = await self._open_serving()
        return self

    def _leads(self) -> bool:
        return self.elector.leading

    def _make_picture(self) -> None:
        """What is known of pods, and who looks at those that are ill."""
        settings = self.settings
        self.picture = Picture(
            self.cluster,
            settings.root_namespace,
            self.shift_s,
            self.speaker.invalid,
            tells_clients=bool(settings.istiod),
        )
        self.fleet = Fleet(
            self.picture.known, lambda uid: self.news.ill(uid), self.picture.forget, self.picture.node_of
        )
        pace = CentralPace(idle_s=settings.probe_idle_s, fast_s=settings.probe_fast_s)
        self.eyes = CentralProber(self.fleet.news, pace)

    def _make_hands(self) -> None:
        """Whatever acts, or lets others act."""
        self.actuators: Mapping[str, Actuator] = actuators.offered(self.cluster, self.settings, self._leads)
        self.office = Office(
            self.cluster, self.settings, self.picture, self.fleet, self.metrics, self._leads, self.eyes.look
        )
        words = Words(self.speaker.journal, self.speaker.tell, self._about, self.metrics.drills)
        drilling = ByActuator(
            self.picture, self.fleet, self.actuators, self._surroundings, self.eyes.facts, self.shift_s
        )
        self.drills = Drills(self.cluster, self.picture, self.office, drilling, words, self._leads)
        self.office.ordered = self.drills.order_of
        self.preparing = Preparing(self.picture, self.actuators, self.speaker.trouble)
        self.news = News(self.picture, self.eyes, self.fleet, self.office, self.drills, self.preparing)

    def _make_watches(self) -> None:
        """Whatever the API server tells, and who leads."""
        settings = self.settings
        self.watching = Watching(
            self.cluster,
            self.picture,
            settings.root_namespace,
            news=self.news.heard,
            moved=self.news.moved,
            gone=self.news.gone,
            problem=self.speaker.trouble,
            policies_changed=self._policies_changed,
        )
        self.reports = Reports(self.cluster, self.watching.policies, self.picture.policies.get, self.speaker.trouble)
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

    async def _open_serving(self) -> Serving:
        from hotswitch.controller.serving import Serving  # heavy, and not everybody's

        outputs = self.picture.settings.outputs
        opened = Serving.open(
            self.cluster, self.settings, self.speaker, self.metrics, self._leads, self._no_adopting, outputs
        )
        return await self._stack.enter_async_context(opened)

    async def __aexit__(self, *_: object) -> None:
        self._let_go()
        await self.speaker.stop()
        await self._stack.aclose()

    def _let_go(self) -> None:
        """Of all that only a leader may do."""
        self.preparing.stop()
        self.drills.follow()
        self.office.follow()
        self.fleet.follow()
        if self.serving is not None:
            self.serving.follow()

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
        self._let_go()
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

    def _policies_changed(self) -> None:
        self.reports.news()
        self.speaker.policies_changed()
        if self.serving is not None:
            self.serving.adopting.adopter.policies_changed()
            self.serving.istio.policies_changed()
        for uid in list(self.fleet.workers):
            self.fleet.news(uid)
        self._reviewing = asyncio.get_running_loop().create_task(self.news.review())

    # ---- words ----

    def _about(self, regarding: Regarding, code: str, sentence: str) -> None:
        self.speaker.about(regarding, code, sentence, warning=False)

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
