"""One worker for one pod: sees, decides, acts, in sequence; the controller's twin of agent.guard (S4.1, S4.5, I6).

A turn reads everything anew and decides with the same engine as an agent. What it remembers between turns is also in
the pod's annotation, so a controller that dies here is taken up by the next at the step that was begun (I1).
"""

from __future__ import annotations

import asyncio
from dataclasses import replace

from hotswitch.act.order import Actuator
from hotswitch.api.status import PodStatus
from hotswitch.cluster.failure import ApiFailure
from hotswitch.controller import carried, memory
from hotswitch.controller.agents.told import Told
from hotswitch.controller.behind import Behind
from hotswitch.controller.kept import Kept
from hotswitch.controller.lasting import Lasting
from hotswitch.controller.looking import Look
from hotswitch.controller.means import Means, Protection
from hotswitch.controller.pen import Pen
from hotswitch.controller.reconcile import closing, overdue, reconciled
from hotswitch.controller.seen import SeenPod
from hotswitch.controller.shown import Sight, judge, view
from hotswitch.controller.switch import AGENT, Switch
from hotswitch.controller.telling import Teller, decision_of, instants
from hotswitch.controller.turn import Turn
from hotswitch.controller.writer import Stale
from hotswitch.decide.damping import WORKLOAD_WINDOW_S
from hotswitch.decide.engine import step
from hotswitch.decide.track import assess
from hotswitch.model import Diagnosis, Fault, Grade, Mode, PodRef, PodUid, Standing

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
        self.kept = Kept()
        self.diagnosis = Diagnosis(Fault.UNKNOWN, Grade.NONE, "not looked at yet")
        self.mirrors = False  # an agent decides and acts for this pod; here it is told
        self.acting = False  # an act is under way: it counts as open (I3)
        self.gone = False
        self.look = Look()
        self._concluded = 0  # generation of the act of before that was found carried out, and told
        self._idle_turns = 0
        self._wake = asyncio.Event()
        self._teller = Teller(means)
        self._switch = Switch(means, self._teller)
        self._lasting = Lasting(means, self._teller)
        self._behind = Behind(means, self._teller, self._lasting, self.kept, self._load)

    # ---- what others ask ----

    @property
    def counts_as_open(self) -> bool:
        return self.acting or self.standing.is_open or self.kept.may_have_opened

    @property
    def is_an_agents(self) -> bool:
        """What may be open there is in a place of an agent's, also while that one has not been heard yet."""
        return self.mirrors or (self.kept.actuator == AGENT and not self.acting)

    @property
    def standing(self) -> Standing:
        return self.kept.standing

    @property
    def status(self) -> PodStatus | None:
        return self.kept.status

    @property
    def loaded(self) -> bool:
        return self.kept.loaded

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
        under_way = bool(self.matters) or self.kept.under_way or self._lasting.in_doubt or self._behind.shown
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
            await asyncio.sleep(self.kept.leave_alone_s)
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
            busy = self.kept.under_way or self._lasting.in_doubt or self._behind.shown
            return LOOK_WELL_S if self.standing.fault is Fault.WELL and not busy else LOOK_OPEN_S
        return min(LOOK_ILL_S * 2.0**self._idle_turns, LOOK_HELD_S)

    async def turn(self) -> None:
        self._wake.clear()
        self.kept.leave_alone_s = 0.0
        pod = self._means.picture.pod(self.uid)
        try:
            if pod is not None:
                self._behind.shown = False
                await self._turn(pod)
            elif await self._behind.is_left_alone(self.uid):
                self._teller.pod_gone(self.pod, self.matters)
                self.gone = True
        except (Stale, ApiFailure) as failure:  # looked at again at the next turn; what stands in the kernel stands
            self.kept.heed(failure)
            self._teller.api_failed(self.pod, failure)

    async def _turn(self, pod: SeenPod) -> None:
        term = self._means.term()
        if term is None:
            return
        first = not self.loaded
        if first:
            self._load(pod)
            self._means.neighbours.note(self)
        protection = await self._means.picture.protection(pod)
        if first and self.status is not None:
            self._teller.again(pod, self.status, protection)
        if first and self.kept.actuator in protection.actuators:
            self._lasting.heed(self._means.actuators.get(self.kept.actuator), self.status)
        told = self._means.told(self.uid)
        if told is not None and not self._lasting.may_be_open(pod, self.kept):
            await self._mirror(pod, protection, told, term)
            return
        self.mirrors = False
        protection, actuator = await self._looked(pod, protection)
        if self._may_decide(pod, protection, actuator):
            await self._conclude(pod, self._undecided(protection, actuator, term))
            turn = self._decided(pod, self._undecided(protection, actuator, term))
            await self._perform(turn, self.kept.pen(self._means.writer, pod))

    async def _looked(self, pod: SeenPod, protection: Protection) -> tuple[Protection, Actuator | None]:
        """What may be done now, and who would do it; `self.look` has what was seen."""
        now_s = asyncio.get_running_loop().time()
        self.kept.standing = memory.bounded(self.standing, protection.policy, now_s)
        protection = self._switch.without_plain(protection, self.standing, now_s)
        actuator = await self._look(pod, protection)
        self._behind.last = pod, protection, actuator
        return protection, actuator

    def _may_decide(self, pod: SeenPod, protection: Protection, actuator: Actuator | None) -> bool:
        """Not on nothing: what could not be seen may be open."""
        if actuator is None and self._lasting.may_be_open(pod, self.kept):
            return not self._lasting.is_orphaned(pod, protection)
        if self.look.ability.truth is not None or actuator is None:
            return True
        if self._lasting.may_go_blind(actuator, self.standing, self.status, self.counts_as_open):
            return True
        self._lasting.say_overdue(pod, actuator, self.look.ability.refusal, self.standing, protection)
        return False

    async def _conclude(self, pod: SeenPod, turn: Turn) -> None:
        """The act of before, should it have been carried out: once, also while its status cannot be written."""
        truth, status = self.look.ability.truth, self.status
        if truth is None or status is None or not carried.carried_out(status, self.standing, truth):
            return
        if status.generation == self._concluded or self._means.term() != turn.term:
            return
        self._concluded = status.generation
        pen = self.kept.pen(self._means.writer, pod)
        try:
            turn = carried.concluded(turn, pod.ref, status, truth)
            self.kept.standing = await self._switch.conclude(turn, pen, truth)
        finally:
            self.kept.put_down(pen)

    def _undecided(self, protection: Protection, actuator: Actuator | None, term: int) -> Turn:
        return Turn(
            protection=protection,
            actuator=actuator,
            before=self.standing,
            after=self.standing,
            decisions=(),
            term=term,
            now_s=asyncio.get_running_loop().time(),
            shift_s=self._means.shift_s(),
            in_doubt=self._lasting.in_doubt,
        )

    def _decided(self, pod: SeenPod, turn: Turn) -> Turn:
        truth, now_s, protection = self.look.ability.truth, turn.now_s, turn.protection
        self.kept.standing = replace(reconciled(self.standing, truth, now_s), override=protection.override)
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
        if not self.standing.is_open and self._means.told(self.uid) is not None:
            after, decisions = self.standing, ()  # an agent is there: what was opened is ended here, nothing is begun
        self.diagnosis = assess(replace(shown, standing=after))
        self._idle_turns = 0 if decisions else min(self._idle_turns + 1, 16)
        since_s = self.diagnosis.since_s
        return replace(turn, before=self.standing, after=after, decisions=decisions, seen_since_s=since_s)

    async def _mirror(self, pod: SeenPod, protection: Protection, told: Told, term: int) -> None:
        """An agent acts within what it was granted: what it says is written down and told, nothing is decided."""
        state, now_s, self.mirrors = told.state, asyncio.get_running_loop().time(), True
        lines = told.take()
        self.diagnosis = judge(pod, protection.policy, state.diagnosis, self._means.eyes.facts(self.uid), now_s)
        self._idle_turns = 0 if lines else min(self._idle_turns + 1, 16)
        turn = replace(
            self._undecided(protection, None, term),
            after=state.standing,
            decisions=[each for line in lines if (each := decision_of(pod.ref, line)) is not None],
            seen_since_s=state.diagnosis.since_s,
            in_doubt=False,
            instants=instants(lines, now_s + self._means.shift_s()),
        )
        pen = self.kept.pen(self._means.writer, pod)
        try:
            self.kept.standing = await self._switch.mirror(turn, lines, pen)
        finally:
            self.kept.put_down(pen)
            self._means.neighbours.note(self)
        if pen.is_written:
            told.written()

    async def _perform(self, turn: Turn, pen: Pen) -> None:
        self.acting = bool(turn.acts)
        self._means.neighbours.note(self)
        try:
            self.kept.standing = await self._switch.perform(turn, pen)
        finally:
            self.acting = False
            self.kept.put_down(pen)
            self._lasting.heed(turn.actuator if turn.acts else None, self.status)
            self._means.neighbours.note(self)
            if turn.acts:
                self.look.forget()

    def _load(self, pod: SeenPod) -> None:
        if why := self.kept.load(pod, asyncio.get_running_loop().time(), self._means.shift_s()):
            self._teller.unreadable(pod, why)

    # ---- looking ----

    async def _look(self, pod: SeenPod, protection: Protection) -> Actuator | None:
        patience_s = 0.0 if self.kept.under_way else LOOK_ILL_S if self.sick or self.standing.is_open else LOOK_OPEN_S
        return await self.look.take(self._candidates(protection), protection.target(pod), patience_s)

    def _candidates(self, protection: Protection) -> tuple[Actuator, ...]:
        """The one that opened also closes; else those that are allowed, in their order."""
        if self.status is not None and (self.standing.is_open or self.kept.under_way or self._lasting.in_doubt):
            opener = self._means.actuators.get(self.kept.actuator)
            return () if opener is None else (opener,)
        if protection.policy.mode is not Mode.AUTO:
            return ()  # who only observes enters no pod
        return tuple(self._means.actuators[name] for name in protection.actuators if name in self._means.actuators)
