"""One worker for one pod: sees, decides, acts, in sequence; the controller's twin of agent.guard (S4.1, S4.5, I6).

A turn reads everything anew and decides with the same engine as an agent. What it remembers between turns is also in
the pod's annotation, so a controller that dies here is taken up by the next at the step that was begun (I1).
"""

from __future__ import annotations

import asyncio
from dataclasses import replace

from hotswitch.act.order import Actuator
from hotswitch.api import names
from hotswitch.api import status as statuses
from hotswitch.api.status import PodStatus
from hotswitch.cluster.failure import ApiFailure
from hotswitch.controller import memory
from hotswitch.controller.agents.told import Told
from hotswitch.controller.lasting import Lasting
from hotswitch.controller.looking import Look
from hotswitch.controller.means import Means, Protection
from hotswitch.controller.pen import Pen
from hotswitch.controller.reconcile import closing, overdue, reconciled
from hotswitch.controller.seen import SeenPod
from hotswitch.controller.shown import Sight, judge, view
from hotswitch.controller.switch import Switch, Turn
from hotswitch.controller.telling import Teller, decision_of
from hotswitch.controller.writer import Stale
from hotswitch.decide.damping import WORKLOAD_WINDOW_S
from hotswitch.decide.engine import step
from hotswitch.decide.track import assess
from hotswitch.model import (
    OPEN_LEVELS,
    Diagnosis,
    Fault,
    Grade,
    Mode,
    PodRef,
    PodUid,
    Standing,
)

LOOK_ILL_S = 0.25  # how often the actuator is asked for the truth while something is wrong
LOOK_OPEN_S = 1.0  # while a gate is open: recovery is looked for, renewals are due
LOOK_HELD_S = 4.0  # a fault that was dealt with as far as it can be, by and by
LOOK_WELL_S = 30.0
_NOT_SICK = frozenset({Fault.WELL, Fault.UNKNOWN, Fault.STARTING, Fault.TERMINATING, Fault.DRAINED, Fault.APP_SICK})
_NOTHING_TO_SEE = frozenset({Fault.WELL, Fault.STARTING, Fault.UNKNOWN})
"""Nobody shows anything wrong: the next news begins anew."""


class PodWorker:
    """`turn` never raises for what happens in the cluster: it is said, and tried again."""

    def __init__(self, uid: PodUid, pod: PodRef, means: Means) -> None:
        self.uid, self.pod, self._means = uid, pod, means
        self.standing = Standing()
        self.status: PodStatus | None = None
        self.diagnosis = Diagnosis(Fault.UNKNOWN, Grade.NONE, "not looked at yet")
        self.mirrors = False  # an agent decides and acts for this pod; here it is told
        self.acting = False  # an act is under way: it counts as open (I3)
        self.gone = False
        self.look = Look()
        self._replaced: frozenset[str] = frozenset()
        self._version = ""
        self._idle_turns = 0
        self.loaded = False
        self._wake = asyncio.Event()
        self._teller = Teller(means)
        self._switch = Switch(means, self._teller)
        self._lasting = Lasting(means, self._teller)
        self._last: tuple[SeenPod, Protection, Actuator | None] | None = None

    # ---- what others ask ----

    @property
    def counts_as_open(self) -> bool:
        return self.acting or self.standing.is_open or self._may_have_opened

    @property
    def _may_have_opened(self) -> bool:
        """An act is written down, and what became of it is not known yet."""
        wanted = self.status.wanted.values() if self.status is not None and self.status.under_way else ()
        return any(level in OPEN_LEVELS for level in wanted)

    @property
    def matters(self) -> dict[str, str]:
        """What people were told and was not ended yet: code -> since when."""
        return {**(self.status.alerts if self.status is not None else {}), **self._switch.unwritten}

    @property
    def sick(self) -> bool:
        return self.diagnosis.fault not in _NOT_SICK and self.diagnosis.grade is not Grade.NONE

    @property
    def at_rest(self) -> bool:
        """Nothing is wrong, nothing is open, nothing is left to be said or done: the worker may end."""
        under_way = bool(self.matters) or self._under_way or self._lasting.in_doubt
        quiet = not self.counts_as_open and not under_way and self.standing.fault is Fault.WELL
        quiet = quiet and not self._fell_ill_lately()
        return self.gone or (self.loaded and quiet and self.diagnosis.fault in _NOTHING_TO_SEE)

    def _fell_ill_lately(self) -> bool:
        """Its mates' deciders must know (I3)."""
        began = self.standing.recent_faults_s[-1:]
        return bool(began) and asyncio.get_running_loop().time() - began[0] <= WORKLOAD_WINDOW_S

    def nudge(self) -> None:
        """There is news of this pod."""
        self._wake.set()

    @property
    def nudged(self) -> bool:
        return self._wake.is_set()

    # ---- the loop ----

    async def run(self) -> None:
        while not self.gone:
            await self.turn()
            if self.at_rest:
                return
            try:
                async with asyncio.timeout(self._pause_s()):
                    await self._wake.wait()
            except TimeoutError:
                pass

    def _pause_s(self) -> float:
        """Without news. A fault about which nothing more can be done is looked at less and less often."""
        if self.mirrors:  # there will be news
            return LOOK_HELD_S
        if self.standing.is_open:
            return LOOK_ILL_S if self.diagnosis.fault is Fault.WELL else LOOK_OPEN_S
        if self.diagnosis.fault in _NOTHING_TO_SEE:
            rests = self.standing.fault is Fault.WELL and not self._under_way and not self._lasting.in_doubt
            return LOOK_WELL_S if rests else LOOK_OPEN_S
        return min(LOOK_ILL_S * 2.0**self._idle_turns, LOOK_HELD_S)

    async def turn(self) -> None:
        self._wake.clear()
        pod = self._means.picture.pod(self.uid)
        try:
            if pod is not None:
                await self._turn(pod)
            elif await self._is_left_alone():
                self._teller.pod_gone(self.pod, self.matters)
                self.gone = True
        except (Stale, ApiFailure) as failure:  # looked at again at the next turn; what stands in the kernel stands
            self._teller.api_failed(self.pod, failure)

    async def _is_left_alone(self) -> bool:
        """The watch shows it no longer: it is gone, or has left the mesh. What ends by itself is left to its end."""
        if self._last is None or not (self.standing.is_open or self._under_way or self._lasting.in_doubt):
            return True
        pod, protection, actuator = self._last
        if actuator is None or actuator.ends_by_itself:
            return True
        if self._means.term() is None:
            return False
        return await self._lasting.closed_behind(pod, actuator, protection, self.standing, self.status)

    async def _turn(self, pod: SeenPod) -> None:
        term = self._means.term()
        if term is None:
            return
        first = not self.loaded
        if first:
            self._load(pod)
            self._means.neighbours.note(self)
        protection = await self._means.picture.protection(pod)
        if (told := self._means.told(self.uid)) is not None:
            await self._mirror(pod, protection, told, term)
            return
        self.mirrors = False
        if first and self.status is not None and self.status.actuator in protection.actuators:
            self._lasting.heed(self._means.actuators.get(self.status.actuator), self.status)
        now_s = asyncio.get_running_loop().time()
        self.standing = memory.bounded(self.standing, protection.policy, now_s)
        protection = self._switch.without_plain(protection, self.standing, now_s)
        actuator = await self._look(pod, protection)
        self._last = pod, protection, actuator
        truth, now_s = self.look.ability.truth, asyncio.get_running_loop().time()
        if (
            truth is None
            and actuator is not None
            and not self._lasting.may_go_blind(actuator, self.standing, self.status, self.counts_as_open)
        ):
            self._lasting.say_overdue(pod, actuator, self.look.ability.refusal, self.standing, protection)
            return
        self.standing = replace(reconciled(self.standing, truth, now_s), override=protection.override)
        sight = Sight(
            now_s=now_s,
            pod=pod,
            protection=protection,
            able=self.look.ability,
            afar=self._means.eyes.facts(self.uid),
            standing=self.standing,
        )
        shown = view(sight, self._means.surroundings(self.pod))
        late = overdue(self.standing, truth, now_s)
        after, decisions = closing(pod.ref, self.standing) if late else step(shown)
        self.diagnosis = assess(replace(shown, standing=after))
        self._idle_turns = 0 if decisions else min(self._idle_turns + 1, 16)
        turn = Turn(
            protection=protection,
            actuator=actuator,
            before=self.standing,
            after=after,
            decisions=decisions,
            term=term,
            now_s=now_s,
            shift_s=self._means.shift_s(),
            seen_since_s=self.diagnosis.since_s,
            in_doubt=self._lasting.in_doubt,
        )
        await self._perform(turn, Pen(self._means.writer, self._newest(pod), self.status))

    async def _mirror(self, pod: SeenPod, protection: Protection, told: Told, term: int) -> None:
        """An agent acts within what it was granted: what it says is written down and told, nothing is decided."""
        state, now_s, self.mirrors = told.state, asyncio.get_running_loop().time(), True
        lines = told.take()
        self.diagnosis = judge(pod, protection.policy, state.diagnosis, self._means.eyes.facts(self.uid), now_s)
        self._idle_turns = 0 if lines else min(self._idle_turns + 1, 16)
        turn = Turn(
            protection=protection,
            actuator=None,
            before=self.standing,
            after=state.standing,
            decisions=[each for line in lines if (each := decision_of(pod.ref, line)) is not None],
            term=term,
            now_s=now_s,
            shift_s=self._means.shift_s(),
            seen_since_s=state.diagnosis.since_s,
        )
        pen = Pen(self._means.writer, self._newest(pod), self.status)
        try:
            self.standing = await self._switch.mirror(turn, lines, pen)
        finally:
            self.status = pen.status
            self._replaced, self._version = pen.replaced, pen.pod.resource_version
            self._means.neighbours.note(self)

    def _newest(self, pod: SeenPod) -> SeenPod:
        """The watch may still show a version that our own last write has replaced."""
        if self.status is None or pod.resource_version not in self._replaced:
            return pod
        annotations = {**pod.annotations, names.STATUS: statuses.encode(self.status)}
        return replace(pod, resource_version=self._version, annotations=annotations)

    async def _perform(self, turn: Turn, pen: Pen) -> None:
        self.acting = bool(turn.acts)
        self._means.neighbours.note(self)
        try:
            self.standing = await self._switch.perform(turn, pen)
        finally:
            self.acting = False
            self.status = pen.status
            self._lasting.heed(turn.actuator if turn.acts else None, self.status)
            self._replaced, self._version = pen.replaced, pen.pod.resource_version
            self._means.neighbours.note(self)
            if turn.acts:
                self.look.forget()

    def _load(self, pod: SeenPod) -> None:
        """Go on from what the annotation says. One that cannot be read is said, and the kernel is asked instead."""
        text = pod.annotations.get(names.STATUS)
        now_s, shift_s = asyncio.get_running_loop().time(), self._means.shift_s()
        try:
            status = None if text is None else statuses.decode(text, pod.ref.uid)
            if status is not None:
                self.standing = memory.remembered(status, shift_s, now_s)
            self.status = status
        except ValueError as failure:  # StatusError is one
            self._teller.unreadable(pod, str(failure))
            self.standing = replace(Standing(), rebuilt=True)
        self.loaded = True

    # ---- looking ----

    async def _look(self, pod: SeenPod, protection: Protection) -> Actuator | None:
        patience_s = 0.0 if self._under_way else LOOK_ILL_S if self.sick or self.standing.is_open else LOOK_OPEN_S
        return await self.look.take(self._candidates(protection), protection.target(pod), patience_s)

    @property
    def _under_way(self) -> bool:
        return self.status is not None and self.status.under_way

    def _candidates(self, protection: Protection) -> tuple[Actuator, ...]:
        """The one that opened also closes; else those that are allowed, in their order."""
        if self.status is not None and (self.standing.is_open or self._under_way or self._lasting.in_doubt):
            opener = self._means.actuators.get(self.status.actuator)
            return () if opener is None else (opener,)
        if protection.policy.mode is not Mode.AUTO:
            return ()  # who only observes enters no pod
        return tuple(self._means.actuators[name] for name in protection.actuators if name in self._means.actuators)
