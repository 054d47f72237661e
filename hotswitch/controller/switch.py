"""The whole switch of one pod, step by step: written down first, then done, then written down as done (I4, I6, I8).

What stands in the annotation is a step begun. Whoever finds one asks the kernel what became of it (reconcile) and goes
on: every step may be done twice. A controller that does not lead by its own clock begins nothing.

Inbound `direct` needs more than the gate, or meshed clients go on speaking mTLS to an app that cannot: the pod's
tlsMode label, its slices, istiod's answer, then the gate (S4.3). Outbound does not wait for that: it is an act of its
own, written down by itself. Afterwards the gate is closed first, and then the label goes back.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace

from hotswitch.act.order import Actuator, Answer, Order, Outcome, Truth
from hotswitch.act.steps import Step, StepFailed, carry_out
from hotswitch.act.tlsmode import Meshed, after_closing, before_opening
from hotswitch.api import names
from hotswitch.api.status import PodStatus
from hotswitch.cluster.failure import ApiFailure
from hotswitch.controller import memory
from hotswitch.controller import pen as pens
from hotswitch.controller.means import Means, Protection
from hotswitch.controller.pen import Pen, changed
from hotswitch.controller.telling import Teller
from hotswitch.controller.turn import ACTS, Turn
from hotswitch.controller.writer import Stale
from hotswitch.decide.damping import closed, in_episode
from hotswitch.model import Act, Decision, Direction, Generation, Level, Mode, Opening, Standing
from hotswitch.report.journal import Entry

GATE = "gate"
AGENT = "agent"
PATIENCE_S, PATIENCE_MOST_S = 10.0, 600.0
NO_LABEL = "-"  # no value that a label can have


class Patience:
    """With steps that others must take part in: each failure lets more time pass before the next try. One that the API
    server does not allow is given up for the longest time, once it has said so twice: an API server that has just begun
    may not know yet who may do what."""

    def __init__(self) -> None:
        self.why = ""
        self._pause_s = 0.0
        self._refused = False
        self._until_s = float("-inf")

    def waits(self, now_s: float) -> bool:
        return now_s < self._until_s

    def failed(self, why: str, now_s: float, *, is_refused: bool = False) -> None:
        longer_s = PATIENCE_MOST_S if is_refused and self._refused else 2 * self._pause_s
        self._pause_s, self._refused = min(max(PATIENCE_S, longer_s), PATIENCE_MOST_S), is_refused
        self.why, self._until_s = why, now_s + self._pause_s

    def succeeded(self) -> None:
        self._pause_s, self._refused, self._until_s = 0.0, False, float("-inf")


class Switch:
    """Raises Stale or ApiFailure from the first write of a turn; then nothing was done."""

    def __init__(self, means: Means, teller: Teller) -> None:
        self._means, self._teller = means, teller
        self.unwritten: dict[str, str] = {}
        """Matters of a pod to which nothing is written: as in PodStatus.alerts."""
        self._untold: list[tuple[Decision, Turn]] = []
        self._telling, self._taking_back = Patience(), Patience()
        self._told = Generation(0)  # of the newest act that was told as done

    def without_plain(self, protection: Protection, standing: Standing, now_s: float) -> Protection:
        """Clients could not be told a moment ago (istiod is away): not tried again at once, or the label would go back
        and forth. What is open stays so."""
        if _plain(standing) or not self._telling.waits(now_s) or Level.DIRECT not in protection.policy.inbound:
            return protection
        policy = replace(
            protection.policy,
            inbound=tuple(each for each in protection.policy.inbound if each is not Level.DIRECT) or (Level.HOLD,),
        )
        refusals = {**protection.refusals, (Direction.INBOUND, Level.DIRECT): self._telling.why}
        return replace(protection, policy=policy, refusals=refusals)

    async def perform(self, turn: Turn, pen: Pen) -> Standing:
        """Carry out, remember, tell; what stands now. People are told of what was only decided once it is written down:
        else who leads after a controller that was killed in between decides it again, and tells it as something new."""
        stands, known = (turn.after, not turn.in_doubt) if not turn.acts else await self._act(turn, pen)
        if pen.status is not None and pen.status.tls_mode_before is not None and not _plain(stands):
            if known:  # the gate's part is done and told, also should the label's be cut off
                pen.status = pens.at_rest(pen.status, stands, turn.shift_s)
            await self._label_back(turn, pen)
        waited, words = bool(self._untold), [each for each in turn.decisions if each.act not in ACTS]
        for each in words:
            self._teller.decided(pen.pod, each)
        self._untold += [(each, turn) for each in words]
        await self._remember(turn, pen, stands, known)
        if pen.is_written or waited:  # a write that failed is tried once more before
            for each, decided in self._untold:
                self._teller.told(pen.pod, each, decided)
            self._untold.clear()
        return stands

    async def conclude(self, turn: Turn, pen: Pen, found: Truth) -> Standing:
        """An act of before was carried out, and nobody could say so: tell, remember; what stands now."""
        if turn.generation > self._told:  # else only the write after it failed
            self._teller.concluded(pen.pod, turn, pen.page.by, found)
        await self._remember(turn, pen, turn.after, not turn.in_doubt)
        return turn.after

    async def mirror(self, turn: Turn, lines: Sequence[Entry], pen: Pen) -> Standing:
        """An agent has done it: tell, remember; what stands now."""
        for line in lines:
            self._teller.reported(pen.pod, line, turn)
        if turn.acts and (pen.status is not None or _remarkable(turn.after)):
            last, line = turn.acts[-1], [each for each in lines if each.event in set(ACTS)][-1]
            pen.status = changed(
                pen.page, term=turn.term, actuator=AGENT, code=last.code, why=last.sentence, by=line.who,
                at=turn.at_of(last.code),
            )  # fmt: skip
        elif turn.after.is_open and pen.status is not None:  # its line is late, or was lost
            pen.status = changed(pen.page, actuator=AGENT)
        await self._remember(turn, pen, turn.after, True)
        return turn.after

    async def _act(self, turn: Turn, pen: Pen) -> tuple[Standing, bool]:
        """What stands then, and whether that is known: after a lost connection only the kernel knows."""
        if turn.actuator is None:
            return turn.before, True
        order, is_told = turn.order(), False
        moved = _not_done(turn)
        flips = _plain(turn.after) and _flips(turn.protection, pen) and not turn.renews_only
        early = _alone(turn.actuator, order) if flips else {}
        if early:  # an act of its own, or it would prove that the whole was carried out (carried)
            order = replace(order, generation=Generation(order.generation + 1))
        if not turn.renews_only:
            wanted = _with_outbound_alone(turn) if early else replace(turn.after, generation=turn.generation)
            await pen.write(self._write_ahead(turn, pen.page, wanted))
        if early:
            first = replace(order, openings=early, generation=turn.generation)
            outcome = (await self._carry_out(turn, pen, first)).outcome
            if outcome is Outcome.UNKNOWN:
                return moved, False
            is_told = outcome is Outcome.DONE
        if flips:
            try:
                await self._speak_plainly(turn, pen, order, is_told=is_told)
            except StepFailed as failure:
                why = f"meshed clients could not be told: {failure}"
                self._telling.failed(why, turn.now_s, is_refused=failure.is_refused)
                self._teller.failed(pen.pod, order, str(failure), turn.protection)
                return moved, True
            self._telling.succeeded()
        if self._means.term() != turn.term:  # deposed meanwhile: the next leader goes on from what is written
            return moved, False
        answer = await self._carry_out(turn, pen, order, is_told=is_told)
        if answer.outcome is Outcome.DONE:
            return replace(turn.after, generation=order.generation), True
        return moved, answer.outcome is not Outcome.UNKNOWN

    def _write_ahead(self, turn: Turn, page: PodStatus, wanted: Standing) -> PodStatus:
        """Beside it what stands before: it is not written down yet while commands of before are in doubt."""
        first = turn.acts[0]
        before = memory.dump(replace(turn.before, well_since_s=None), turn.shift_s)
        return pens.begun(
            changed(page, levels=dict(turn.before.levels), standing=before),
            wanted,
            turn.shift_s,
            term=turn.term,
            step=GATE,
            actuator=turn.actuator.name if turn.actuator else "",
            expires=max(page.expires, memory.instant(turn.after.expires_s, turn.shift_s)),
            code=first.code,
            why=first.sentence,
            by=turn.by,
            at=turn.at,
        )

    async def _carry_out(self, turn: Turn, pen: Pen, order: Order, *, is_told: bool = False) -> Answer:
        assert turn.actuator is not None
        started = time.perf_counter()
        if self._means.term() != turn.term:  # deposed while something else was waited for
            raise Stale(f"{pen.pod.ref}: this controller leads no longer")
        answer = await turn.actuator.carry_out(turn.protection.target(pen.pod), order)
        self._teller.acted(pen.pod, turn, order, answer, time.perf_counter() - started, is_told=is_told)
        if answer.outcome is Outcome.DONE:
            self._told = order.generation
        return answer

    # ---- plaintext for meshed clients ----

    async def _speak_plainly(self, turn: Turn, pen: Pen, order: Order, *, is_told: bool) -> None:
        """Label, slices, and istiod's word that clients know. `is_told`: people were told of the act, and what they
        were told is written down: should it not have left this process, the next one tells it. Raises StepFailed."""
        page = pens.begun(pen.page, replace(turn.after, generation=order.generation), turn.shift_s)
        if is_told:
            opened = (each.code for each in turn.acts if each.act is Act.OPEN)
            page = changed(page, alerts={**dict.fromkeys(opened, turn.at), **page.alerts})
        if page.tls_mode_before is None:
            page = changed(page, tls_mode_before=pen.pod.labels.get(names.TLS_MODE_LABEL, NO_LABEL))
        if page != pen.page:
            await pen.turn_to_newest()  # the kubelet writes the pod of a crash loop all the time, and an act takes some
            await pen.write(page)
        await self._steps(turn, pen, before_opening(self._meshed(pen)))

    async def _label_back(self, turn: Turn, pen: Pen) -> None:
        if self._taking_back.waits(turn.now_s):
            return
        try:
            if not pen.is_written:  # somebody wrote over it, and every step is fenced by it
                await pen.write(pen.page)
            await self._steps(turn, pen, after_closing(self._meshed(pen)))
        except (Stale, ApiFailure) as failure:  # the gate is closed all the same, and that is not to be forgotten
            self._teller.api_failed(pen.pod.ref, failure)
        except StepFailed as failure:  # tried again, because the status still says it
            self._taking_back.failed(str(failure), turn.now_s)
            self._teller.failed(pen.pod, None, str(failure), turn.protection)
        else:
            self._taking_back.succeeded()
            pen.status = changed(pen.page, step="", tls_mode_before=None)

    def _meshed(self, pen: Pen) -> Meshed:
        if self._means.meshed is None:
            raise StepFailed("istiod cannot be asked what clients are told: the controller was given no address of it")
        before = pen.page.tls_mode_before
        return self._means.meshed(pen.pod, None if before == NO_LABEL else before, pen.page.generation)

    async def _steps(self, turn: Turn, pen: Pen, steps: Sequence[Step]) -> None:
        async def begin(name: str) -> None:
            if self._means.term() != turn.term:
                raise Stale(f"{pen.pod.ref}: this controller leads no longer")
            await pen.turn_to_newest()
            await pen.write(changed(pen.page, step=name))

        await carry_out(steps, begin)
        await pen.turn_to_newest()

    # ---- remembering ----

    async def _remember(self, turn: Turn, pen: Pen, stands: Standing, known: bool) -> None:
        """In mode observe nothing is written to a pod that has no status yet. A write that fails is tried again at the
        next turn, because the pod still says something else."""
        page = pens.at_rest(pen.page, stands, turn.shift_s) if known else pen.page
        if stands.is_open and not page.actuator and turn.actuator is not None:  # found open, with no word of by whom
            page = changed(page, actuator=turn.actuator.name)
        page = changed(page, alerts={**self.unwritten, **page.alerts})
        page = changed(page, alerts=self._teller.matters(pen.pod, page, stands, turn))
        if pen.status is None and (turn.protection.policy.mode is not Mode.AUTO or not _remarkable(stands)):
            self.unwritten = page.alerts
            return
        self.unwritten = {}
        if page == pen.status and pen.is_written:
            return
        if not page.under_way:  # what is under way bears the term of who began it
            page = changed(page, term=turn.term)
        try:
            await pen.write(page, condition=self._teller.condition(pen.pod, page, known))
        except (Stale, ApiFailure) as failure:
            pen.status = page
            self._teller.api_failed(pen.pod.ref, failure)


def _alone(actuator: Actuator, order: Order) -> Mapping[Direction, Opening]:
    """What can be opened before meshed clients were told: outbound, where it can be opened without inbound."""
    if actuator.all_or_nothing:
        return {}
    return {way: opening for way, opening in order.openings.items() if way is Direction.OUTBOUND}


def _with_outbound_alone(turn: Turn) -> Standing:
    """What the first of the two acts leads to: inbound is as it was."""
    way = Direction.INBOUND
    openings = {each: opening for each, opening in turn.after.openings.items() if each is not way}
    if way in turn.before.openings:
        openings[way] = turn.before.openings[way]
    levels = {**turn.after.levels, way: turn.before.levels[way]}
    return replace(turn.after, generation=turn.generation, levels=levels, openings=openings)


def _not_done(turn: Turn) -> Standing:
    """What stands when the act had no effect: the gate as before, the fault as it is known now."""
    before = replace(turn.before, generation=turn.generation)
    if before.is_open or turn.closes:
        return before
    return replace(closed(turn.after), generation=turn.generation, opened_s=before.opened_s)


def _flips(protection: Protection, pen: Pen) -> bool:
    """Whether meshed clients go by the pod's label; one that we have changed says nothing of that any more."""
    return protection.preflight.flip or pen.page.tls_mode_before is not None


def _plain(standing: Standing) -> bool:
    return standing.levels.get(Direction.INBOUND) is Level.DIRECT


def _remarkable(standing: Standing) -> bool:
    return standing.is_open or in_episode(standing) or bool(standing.said) or standing.hold_down_s > 0
