"""The leader orders drills: one at a time in the whole mesh, each written into its pod beforehand (S4.4, I3, I6).

A fallback that is never exercised fails. One pod of each workload in turn, the one whose last drill is longest ago; by
hand, whichever pod a person names. An order goes to the pod's agent with its grant, once, to the process that has the
places; that agent judges anew, drills, and tells with the pod's state how it went, until it is told of another one. So
whoever leads by then hears it. What nobody tells has an end, too: decide.drill.unheard.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
import time
from collections.abc import Callable, Iterator

import msgspec

from hotswitch.api.drills import START_WITHIN_S, Drilled, DrillOrder, DrillRecord, Result, Told
from hotswitch.cluster.client import Cluster
from hotswitch.cluster.failure import ApiFailure
from hotswitch.cluster.pods import Pod
from hotswitch.config.merged import Effective
from hotswitch.controller.agents.office import Office
from hotswitch.controller.drills import hearing, judging, record
from hotswitch.controller.drills.by_actuator import ByActuator
from hotswitch.controller.drills.known import Known, Town, age_s
from hotswitch.controller.drills.record import UnderWay
from hotswitch.controller.drills.words import Words
from hotswitch.controller.picture import Picture
from hotswitch.controller.writer import Stale
from hotswitch.decide.drill import Candidate, canary, workload_of
from hotswitch.model import PodRef

LOOK_S = 1.0
RETRY_S = 30.0  # a turn that could not be taken
REWRITE_S = 5.0  # what could not be written into a pod
BY_SCHEDULE = "schedule"
HELPER = "helper"
log = logging.getLogger("hotswitch.controller")


class Drills:
    """`moved` and `gone` come from the watch, whoever leads. `leads()`: by the clock, at this moment."""

    def __init__(
        self,
        cluster: Cluster,
        picture: Picture,
        office: Office,
        by_actuator: ByActuator,
        words: Words,
        leads: Callable[[], bool],
    ) -> None:
        self._cluster, self._picture, self._office, self._words = cluster, picture, office, words
        self._by_actuator, self._leads = by_actuator, leads
        self._town = Town()
        self._under_way: dict[str, UnderWay] = {}
        self._unwritten: dict[str, tuple[PodRef, DrillRecord]] = {}  # ended, and the pod does not say so yet
        self._not_before_s: dict[str, float] = {}  # by workload; for what is unwritten, by uid
        self._began_unix_s = 0.0
        self._term = 0
        self._task: asyncio.Task[None] | None = None

    # ---- news ----

    def moved(self, pod: Pod, found: Effective | None) -> None:
        """`found`: its settings; None: it is not to be looked after."""
        if found is not None:
            self._town.there(pod, found.drill)
        else:
            self.gone(pod.uid)

    def gone(self, uid: str) -> None:
        self._town.gone(uid)
        if (under_way := self._under_way.pop(uid, None)) is not None:
            self._by_actuator.over(under_way.pod, well=True)
        self._unwritten.pop(uid, None)
        self._not_before_s.pop(uid, None)

    def order_of(self, uid: str) -> Told | None:
        """For the pod's grant: only to the process that had the places when it was ordered."""
        under_way, agent = self._under_way.get(uid), self._office.desk.agent_of(uid)
        if under_way is None or agent is None or agent.holder != under_way.holder:
            return None
        return Told(id=under_way.record.id, for_s=under_way.record.for_s, by=under_way.record.by)

    # ---- leading ----

    def lead(self, term: int) -> None:
        self._term, self._began_unix_s = term, time.time()
        self._task = asyncio.get_running_loop().create_task(self._keep())

    def follow(self) -> None:
        """What is under way ends by itself, and is the next leader's to hear."""
        if self._task is not None:
            self._task.cancel()
            self._task = None
        for workload, _ in self._town.in_turn():
            self._words.metrics.forget(workload)
        for under_way in self._under_way.values():
            self._by_actuator.over(under_way.pod, well=True)
        self._under_way.clear()
        self._unwritten.clear()
        self._not_before_s.clear()

    async def _keep(self) -> None:
        while True:
            with self._put_off():
                await self._look()
            await asyncio.sleep(LOOK_S)

    @contextlib.contextmanager
    def _put_off(self) -> Iterator[None]:
        """One pod that is odd, or that cannot be written, keeps no other one from its drill."""
        try:
            yield
        except (ApiFailure, Stale) as failure:
            log.info("drill put off", extra={"why": str(failure)})
        except Exception:
            log.exception("drills")

    async def _look(self) -> None:
        if not self._leads():
            return
        self._adopt()
        for under_way in list(self._under_way.values()):
            with self._put_off():
                await self._hear(under_way)
        for pod, ended in list(self._unwritten.values()):
            if time.time() >= self._not_before_s.get(pod.uid, 0.0):
                with self._put_off():
                    await self._write_end(pod, ended)
        if not self._under_way and not await self._by_hand():
            await self._in_turn()

    def _adopt(self) -> None:
        for uid, known in self._town.said.items():
            written = known.record
            if written is not None and written.under_way and uid not in self._under_way:
                self._under_way[uid] = UnderWay(known.pod, written, None)

    # ---- how it ended ----

    async def _hear(self, under_way: UnderWay) -> None:
        """Raises ApiFailure."""
        by_agent, uid = False, under_way.pod.uid
        if under_way.record.actuator:
            drilled = await hearing.of_actuator(self._by_actuator, under_way, self._term)
        else:
            drilled, by_agent = hearing.of_agent(self._office, under_way)
        if uid not in self._under_way:  # it went meanwhile, and counts no longer
            self._by_actuator.over(under_way.pod, well=True)
        elif drilled is not None:
            self._ended(under_way, drilled, by_agent=by_agent)

    def _ended(self, under_way: UnderWay, drilled: Drilled, *, by_agent: bool) -> None:
        ended = record.ended(under_way.record, drilled)
        self._under_way.pop(under_way.pod.uid, None)
        self._by_actuator.over(under_way.pod, well=drilled.result in (Result.PASSED, Result.REFUSED))
        self._unwritten[under_way.pod.uid] = under_way.pod, ended
        self._town.remember(under_way.pod.uid, ended)
        if ended.result == "refused":
            self._not_before_s[workload_of(under_way.pod)] = time.time() + RETRY_S
        self._words.ended(under_way.pod, ended, by_agent=by_agent)

    async def _write_end(self, pod: PodRef, ended: DrillRecord) -> None:
        """Raises Stale, ApiFailure."""
        try:
            await self._write(pod, ended)
        except ApiFailure:
            self._not_before_s[pod.uid] = time.time() + REWRITE_S
            raise
        self._unwritten.pop(pod.uid, None)
        self._not_before_s.pop(pod.uid, None)
        self._office.granting.changed([pod])

    # ---- whose turn it is ----

    async def _by_hand(self) -> bool:
        """Whether there was an order of a person; one for which this is no moment is answered so at once."""
        for known in list(self._town.said.values()):
            if (order := known.waits) is not None:
                with self._put_off():
                    await self._answer(known, order)
                    return True
        return False

    async def _answer(self, known: Known, order: DrillOrder) -> None:
        """Raises Stale, ApiFailure."""
        why = "nobody heeded the order in its time" if age_s(order) > START_WITHIN_S else ""
        why = why or judging.of_mesh(self._office) or await self._unfit(known.pod)
        said = Told(id=order.id, for_s=order.for_s, by=order.by)
        asked = record.begun(known.pod.uid, known.record, said, self._term, heeded=order.id)
        if why:
            self._refused(known.pod, asked, why)
        else:
            await self._begin(known, asked)

    def _refused(self, pod: PodRef, asked: DrillRecord, why: str) -> None:
        drilled = Drilled(id=asked.id, result=Result.REFUSED, why=why)
        self._ended(UnderWay(pod, asked, None), drilled, by_agent=False)

    async def _in_turn(self) -> None:
        now_s = time.time()
        for workload, mates in list(self._town.in_turn()):
            if now_s < self._not_before_s.get(workload, 0.0):
                continue
            if now_s < self._town.due_unix_s(workload, mates, self._began_unix_s):
                continue
            if judging.of_mesh(self._office):
                return
            with self._put_off():
                if await self._taken(mates):
                    return
            self._not_before_s[workload] = now_s + RETRY_S

    async def _taken(self, mates: list[Known]) -> bool:
        """Raises Stale, ApiFailure."""
        by_uid = {each.pod.uid: each for each in mates}
        asked = [Candidate(each.pod, await self._unfit(each.pod), _or_never(each.ran_unix_s)) for each in mates]
        if (chosen := canary(asked)) is None:
            return False
        known = by_uid[chosen.pod.uid]
        said = Told(id=f"t{secrets.token_hex(8)}", for_s=known.turns.for_s, by=BY_SCHEDULE)
        await self._begin(known, record.begun(known.pod.uid, known.record, said, self._term))
        return True

    async def _unfit(self, pod: PodRef) -> str:
        """Raises ApiFailure."""
        return await judging.of_pod(self._office, self._by_actuator, pod)

    async def _begin(self, known: Known, asked: DrillRecord) -> None:
        """Written first: nobody orders it a second time, whatever becomes of us. Raises Stale, ApiFailure."""
        pod = known.pod
        if (chosen := self._office.desk.agent_of(pod.uid)) is None:
            await self._begin_by_actuator(pod, asked)
            return
        await self._write(pod, asked)
        if pod.uid not in self._town.pods:
            return  # it went meanwhile
        agent = self._office.desk.agent_of(pod.uid)
        if agent is None or agent.holder != chosen.holder:
            self._refused(pod, asked, "its agent went before it could be told")
            return
        self._town.remember(pod.uid, asked)
        self._under_way[pod.uid] = UnderWay(pod, asked, agent.holder)
        self._words.ordered(pod, asked)
        self._office.granting.changed([pod])

    async def _begin_by_actuator(self, pod: PodRef, asked: DrillRecord) -> None:
        """Raises Stale, ApiFailure."""
        asked = msgspec.structs.replace(asked, actuator=HELPER)
        await self._write(pod, asked)
        if pod.uid not in self._town.pods:
            return
        self._town.remember(pod.uid, asked)
        self._under_way[pod.uid] = UnderWay(pod, asked, None)
        self._words.ordered(pod, asked)
        said = Told(id=asked.id, for_s=asked.for_s, by=asked.by)
        try:
            why = await self._by_actuator.begin(pod, said, self._forbidden)
        except ApiFailure as failure:
            why = str(failure)
        if pod.uid not in self._under_way:  # it went meanwhile, and counts no longer
            self._by_actuator.over(pod, well=True)
        elif why:
            self._refused(pod, asked, why)

    def _forbidden(self) -> str:
        """Why nobody may be drilled at this moment: a sentence, or nothing."""
        return judging.of_mesh(self._office) if self._leads() else "another one may lead by now"

    async def _write(self, pod: PodRef, content: DrillRecord) -> None:
        """Raises Stale, ApiFailure."""
        if not self._leads():
            raise Stale(f"{pod}: another one may lead by now")
        whole = self._picture.pods.get(pod.uid)
        if whole is not None:
            await record.write(self._cluster, whole, content)

    # ---- metrics ----

    def refresh_metrics(self) -> None:
        if self._task is None:
            return
        for workload, mates in self._town.in_turn():
            passed_s = max(each.passed_unix_s for each in mates)
            overdue_s = self._town.overdue_unix_s(mates, self._began_unix_s)
            self._words.metrics.knows(workload, _or_never(passed_s), overdue_s)


def _or_never(unix_s: float) -> float | None:
    return unix_s if unix_s > 0 else None
