"""Drills of pods without an agent: the leader judges, and the helper in the pod carries one out (S4.4, I2, I3).

The helper begins a drill by order and ends it itself; how it ended is read with the truth, by whoever leads then. For
as long as it may last the pod counts as open. An actuator without a rescue drills nobody: a drill gives nothing away.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from hotswitch.act.order import Ability, Actuator, Answer, Order, Outcome, Target
from hotswitch.api.drills import Drilled, Result, Told
from hotswitch.controller.fleet import Fleet
from hotswitch.controller.kept import Kept
from hotswitch.controller.means import Protection
from hotswitch.controller.picture import Picture
from hotswitch.controller.reconcile import reconciled
from hotswitch.controller.seen import SeenPod
from hotswitch.controller.shown import Sight, view
from hotswitch.decide import drill as rules
from hotswitch.model import (
    OPEN_LEVELS,
    Diagnosis,
    Direction,
    Facts,
    Fault,
    Generation,
    Grade,
    Level,
    Mode,
    PodRef,
    Standing,
    Surroundings,
    View,
)

MOST_REQUESTS, MOST_S = 1_000_000, 3600.0
NOBODY = "no agent looks after it, and its settings name nobody else who could drill it"
UNKNOWN = Diagnosis(Fault.UNKNOWN, Grade.NONE, "nobody has looked at it")


@dataclass(frozen=True, slots=True)
class Chosen:
    """Who would drill the pod, and as what he sees it. `refusal`: why not now, or ""."""

    refusal: str
    actuator: Actuator | None = None
    target: Target | None = None
    standing: Standing = field(default_factory=Standing)


class ByActuator:
    """`afar(uid)`: what the central prober heard of the pod."""

    def __init__(
        self,
        picture: Picture,
        fleet: Fleet,
        actuators: Mapping[str, Actuator],
        surroundings: Callable[[PodRef], Surroundings],
        afar: Callable[[str], Facts | None],
        shift_s: Callable[[], float],
    ) -> None:
        self._picture, self._fleet, self._actuators = picture, fleet, actuators
        self._surroundings, self._afar, self._shift_s = surroundings, afar, shift_s

    # ---- judging ----

    async def refusal(self, pod: PodRef) -> str:
        """Why it may not be drilled now: a sentence, or nothing. Raises ApiFailure."""
        return (await self._choose(pod)).refusal

    async def _choose(self, pod: PodRef) -> Chosen:
        seen = self._picture.pod(pod.uid)
        if seen is None:
            return Chosen("it is not looked after")
        try:
            protection = await self._picture.protection(seen)
            return await self._judged(seen, protection)
        finally:
            if pod.uid not in self._fleet.workers:
                self._picture.forget(pod.uid)

    async def _judged(self, seen: SeenPod, protection: Protection) -> Chosen:
        kept, now_s = Kept(), asyncio.get_running_loop().time()
        why = kept.load(seen, now_s, self._shift_s())
        if why or kept.under_way:
            return Chosen(why or "an act is under way there")
        if protection.policy.mode is not Mode.AUTO or Level.RESCUE not in protection.policy.inbound:
            return Chosen(rules.refusal(self._view(seen, protection, kept.standing, Ability(actuator="")), UNKNOWN))
        target = protection.target(seen)
        able, actuator = await self._look(protection, target)
        if actuator is None:
            return Chosen(able.refusal)
        standing = replace(reconciled(kept.standing, able.truth, now_s), override=protection.override)
        shown = self._view(seen, protection, standing, able)
        return Chosen(rules.refusal(shown, shown.facts.judged or UNKNOWN), actuator, target, standing)

    async def _look(self, protection: Protection, target: Target) -> tuple[Ability, Actuator | None]:
        """The first that has a rescue for the pod."""
        refusals = []
        for name in protection.actuators:
            if (each := self._actuators.get(name)) is not None:
                able = await each.ability(target)
                if able.can(Direction.INBOUND, Level.RESCUE) and able.truth is not None:
                    return able, each
                refusals.append(f"{name}: {able.refusal or able.rescue_refusal}")
        return Ability(actuator="", refusal=f"no rescue: {'; '.join(refusals)}" if refusals else NOBODY), None

    def _view(self, seen: SeenPod, protection: Protection, standing: Standing, able: Ability) -> View:
        now_s = asyncio.get_running_loop().time()
        sight = Sight(
            now_s=now_s, pod=seen, protection=protection, able=able, afar=self._afar(seen.ref.uid), standing=standing
        )
        around = self._surroundings(seen.ref)
        return view(sight, replace(around, faulty_on_node=around.faulty_on_node - 1))  # who decides counts itself

    # ---- drilling ----

    async def begin(self, pod: PodRef, said: Told, forbidden: Callable[[], str]) -> str:
        """Why it was not begun: a sentence, or nothing. `forbidden`: why nobody may be drilled, asked last, because
        looking takes its time. Raises ApiFailure."""
        chosen = await self._choose(pod)
        if chosen.refusal or chosen.actuator is None or chosen.target is None:
            return chosen.refusal
        if why := forbidden():
            return why
        self._fleet.neighbours.drills(pod)
        generation = Generation(chosen.standing.generation + 1)
        order = Order(generation=generation, reason="a drill", who=said.by, drill=said)
        answer: Answer = await chosen.actuator.carry_out(chosen.target, order)
        return "" if answer.outcome in (Outcome.DONE, Outcome.UNKNOWN) else answer.sentence

    async def ended(self, pod: PodRef, order: str, actuator: str) -> Drilled | None:
        """What became of it, as the helper tells it; None: nothing is known yet, or nobody can be asked. Raises
        ApiFailure."""
        seen, asked = self._picture.pod(pod.uid), self._actuators.get(actuator)
        if seen is None or asked is None:
            return None
        try:
            protection = await self._picture.protection(seen)
            truth = (await asked.ability(protection.target(seen))).truth
        finally:
            if pod.uid not in self._fleet.workers:
                self._picture.forget(pod.uid)
        if truth is None:
            return None
        is_open = truth.levels.get(Direction.INBOUND) in OPEN_LEVELS
        if is_open:  # where a leader before this one ordered it, the record alone takes no place from others
            self._fleet.neighbours.drills(pod)
        if truth.drilled is None or truth.drilled.id != order:
            return None
        if is_open and not self._is_taken_over(pod):
            self._fleet.news(pod.uid, ill=True)
            return None  # until then it counts by its drill (I3)
        return believed(truth.drilled)

    def _is_taken_over(self, pod: PodRef) -> bool:
        worker = self._fleet.workers.get(pod.uid)
        return worker is not None and worker.counts_as_open

    def over(self, pod: PodRef, *, well: bool) -> None:
        """`well`: nothing is to be looked at. Else a worker sees what has become of the pod."""
        if self._fleet.neighbours.drilled.pop(pod.uid, None) is None:
            return
        if pod.uid not in self._fleet.workers:
            self._fleet.neighbours.forget(pod.uid)
        self._fleet.news(pod.uid, ill=None if well else True)


def believed(told: Drilled) -> Drilled:
    """A helper is as trustworthy as the pod it lives in: what no drill can end in has failed."""
    counts = all(0 <= each <= MOST_REQUESTS for each in (told.served, told.lost))
    spans = all(0.0 <= each <= MOST_S for each in told.durations_s.values())
    passed = told.result != Result.PASSED or set(told.durations_s) >= {"open", "restore"}
    if told.result in set(Result) and counts and spans and passed:
        return told
    return Drilled(id=told.id, result=Result.FAILED, why="what the helper tells of it cannot be")
