"""A guard that sees for itself and acts on orders only: the hands of a controller that is elsewhere (S4.3, I4, I6).

Who decides is the controller. This guard opens and closes nothing by its own judgement, so the two never fight; its own
are what must be quick and near: the diagnosis, the stand-in for the app's probes, the rescue's identity, the proof that
the proxy passes traffic again. An order states the whole gate and stands until its end, a further order, or its close.

Orders are fenced: one for another pod, or of an older generation than the newest that was carried out or that the
kernel shows, changes nothing. The newest is kept in a file, because a closed gate shows none. While an order needs the
rescue, the kernel is told LEASE_S at a time, not all of it: the rescue may end with us, and a gate must not lead to
nobody (I1).
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import replace

import msgspec
from msgspec import structs

from hotswitch.agent.guard import Guard
from hotswitch.agent.ledger import Carried, Ledger, boot_s
from hotswitch.agent.means import Means
from hotswitch.agent.rescue_need import needs_rescue, no_rescue
from hotswitch.agent.spare import Spare
from hotswitch.api.drills import FOR_AT_MOST_S, Drilled, Told
from hotswitch.api.orders import LEASE_S, ORDER_AT_MOST_S, AnswerText, OrderText, TruthText, diagnosis_text
from hotswitch.capture.gate import GateState
from hotswitch.capture.spec import CaptureSpec
from hotswitch.config.agentfile import Pod, PolicySettings
from hotswitch.config.told import parse_as
from hotswitch.decide.damping import closed
from hotswitch.decide.ports import effective, same
from hotswitch.kernel.cgroup import Container
from hotswitch.kernel.command import CommandFailed
from hotswitch.model import (
    OPEN_LEVELS,
    Act,
    Decision,
    Direction,
    Generation,
    Level,
    Opening,
)

DONE, REFUSED, FAILED = "done", "refused", "failed"


class OrderRefused(ValueError):
    """Nothing was changed; the message is a sentence."""


class OrderedGuard(Guard):
    """Raises as Guard."""

    def __init__(
        self,
        settings: Pod,
        spec: CaptureSpec,
        means: Means,
        spare: Spare,
        ledger: Ledger,
        container: Container | None = None,
    ) -> None:
        super().__init__(settings, spec, means, spare, container)
        self.obeyed: OrderText | None = None
        """The order that the gate stands by; None: it was left by a predecessor."""
        self._drilling = ""  # the drill that was ordered last
        self._drilled: Drilled | None = None
        self._ledger, self._carried, self._turn = ledger, ledger.read(), asyncio.Lock()

    def _take_over(self) -> None:
        left = self.gate.read()
        self.actor.adopt(dict(left.openings), self._newest(left))
        if left.is_open:
            self._stand(dict(left.openings), left.expires_in_s or 0.0)
            self.watch.be_alert(True)
            self.note("adopted", evidence={"left": left.reason})

    # ---- the loop: see, and keep what was ordered ----

    def step(self, *, who: str = "agent") -> tuple[Decision, ...]:
        """What is known now; nothing is decided. Renews the kernel's lease within the order that stands."""
        if self.watch.gone:
            self._means.gone(self)
            return ()
        self.look_on()
        view = self.view()
        renewed = self._renew()
        self.watch.be_alert(self.standing.is_open or self.sick)
        self._keep_evidence(view.facts)
        self.stand_in.heed(replace(view, standing=self.standing), self.diagnosis)
        self._show()
        return renewed

    def _renew(self) -> tuple[Decision, ...]:
        now_s = self._loop.time()
        if not self.standing.is_open or self.standing.expires_s is None:
            return ()
        wanted_s = self._lease_s(self.standing.openings)
        if self.standing.expires_s - now_s > LEASE_S / 2 or wanted_s <= self.standing.expires_s - now_s:
            return ()
        decision = Decision(
            Act.RENEW, self.pod, self.standing.generation, "", "the order stands", self.standing.openings, wanted_s
        )
        result = self.actor.perform(decision)
        if result.done:
            self.standing = replace(self.standing, expires_s=now_s + wanted_s)
        elif result.inspect:
            self.look_again()
        return (decision,) if result.done else ()

    def _lease_s(self, openings: Mapping[Direction, Opening]) -> float:
        left_s = self._carried.ends_boot_s - boot_s()
        return min(LEASE_S, left_s) if needs_rescue(openings) else left_s

    def _stand(self, openings: dict[Direction, Opening], expiry_s: float) -> None:
        now_s = self._loop.time()
        if not any(effective(each) in OPEN_LEVELS for each in openings.values()):
            self.standing = closed(replace(self.standing, generation=self.actor.generation))
            return
        levels = {way: effective(openings.get(way, Opening(Level.CAPTURE))) for way in Direction}
        self.standing = replace(
            self.standing,
            generation=self.actor.generation,
            levels=levels,
            openings=openings,
            opened_s=now_s if self.standing.opened_s is None else self.standing.opened_s,
            expires_s=now_s + expiry_s,
        )

    # ---- orders ----

    async def order(self, order: OrderText) -> AnswerText:
        """Carry it out, or say why not; the truth is read afterwards in any case."""
        async with self._turn:
            started_s = self._loop.time()
            try:
                outcome, sentence = await self._ordered(order)
            except OrderRefused as refusal:
                outcome, sentence = REFUSED, str(refusal)
                self.note("order", code=order.code, why=order.reason, who=order.who, failed=sentence)
            except (OSError, CommandFailed) as failure:  # before anything was written: what comes after says so itself
                outcome, sentence = FAILED, str(failure)
            took_ms = round((self._loop.time() - started_s) * 1000, 3)
            truth = await self.truth()
            return AnswerText(outcome=outcome, sentence=sentence, truth=truth, durations_ms={"order_ms": took_ms})

    async def _ordered(self, order: OrderText) -> tuple[str, str]:
        if order.drill is not None:
            return await self._heed(order, order.drill)
        gate = order.gate()
        if self._is_repeated(order, gate, await self._holding.in_thread(self.gate.read)):
            return DONE, f"generation {order.generation} was carried out before"
        opens = any(effective(each) in OPEN_LEVELS for each in gate.values())
        if not opens:  # nothing is asked, and nothing delays it
            done = await self._carry_out(order, {})
            await self._take_policy(order)
            return done
        await self._take_policy(order)
        await self._up_to_date()
        self._check(order, gate)
        return await self._carry_out(order, gate)

    async def _heed(self, order: OrderText, drill: Told) -> tuple[str, str]:
        """Begin a drill; how it ended is told with the truth. Once, whatever is told again."""
        if drill.id == self._drilling:
            return DONE, "this drill was ordered before"
        if self._is_repeated(order, {}, await self._holding.in_thread(self.gate.read)):
            raise OrderRefused(f"generation: {order.generation} was another order")
        if not 0 < drill.for_s <= FOR_AT_MOST_S:
            raise OrderRefused(f"drill.for_s: {drill.for_s:g} s is not between 0 and {FOR_AT_MOST_S:g} s")
        await self._take_policy(order)
        self._drilling, self._drilled = drill.id, None
        self._means.drill(self, drill, self._drill_ended, order)
        return DONE, "the drill has begun"

    def _drill_ended(self, drilled: Drilled) -> None:
        if drilled.id == self._drilling:
            self._drilled = drilled

    def _is_repeated(self, order: OrderText, gate: dict[Direction, Opening], shown: GateState) -> bool:
        """Raises OrderRefused for an order that is not the newest (I6)."""
        if order.uid != self.pod.uid:
            raise OrderRefused(f"uid: {order.uid} is not this pod, which is {self.pod.uid}")
        newest = self._newest(shown)
        if order.generation < newest:
            raise OrderRefused(f"generation: {order.generation} is older than {newest}, which was carried out")
        if order.generation > newest:
            return False
        known = self._carried.gate() if order.generation == self._carried.generation else dict(shown.openings)
        if not same(gate, known):
            raise OrderRefused(f"generation: {order.generation} was another order")
        return True

    def _newest(self, shown: GateState) -> Generation:
        return Generation(max(shown.generation, self._carried.generation, self.actor.generation))

    def _check(self, order: OrderText, gate: dict[Direction, Opening]) -> None:
        """Raises OrderRefused: the gate's, the rescue's and the identity's say is always heard (I2)."""
        if not 0 < order.expiry_s <= ORDER_AT_MOST_S:
            raise OrderRefused(f"expiry_s: {order.expiry_s:g} s is not between 0 and {ORDER_AT_MOST_S:g} s")
        view = self.view()
        if not view.capabilities.gate:
            raise OrderRefused(f"the gate cannot be used: {view.capabilities.gate_refusal}")
        if needs_rescue(gate) and (refusal := no_rescue(view)):
            raise OrderRefused(f"no rescue: {refusal}")

    async def _take_policy(self, order: OrderText) -> None:
        """What the rescue must keep up, where the controller says it anew."""
        if order.mtls is None:
            return
        policy = structs.replace(self.settings.policy, mtls=order.mtls, mtls_by_port=dict(order.mtls_by_port))
        settings = structs.replace(self.settings, policy=policy, authorization=tuple(order.authorization))
        if settings == self.settings:
            return
        parse_as(PolicySettings, msgspec.to_builtins(policy), "order")
        self.settings, self.policy = settings, settings.policy.policy()
        self._ask_by_policy()
        await self.spare.change(settings)
        self.watch.look_soon()
        self.note("policy", evidence={"mtls": str(order.mtls)}, who=order.who)

    async def _up_to_date(self) -> None:
        """The namespace as it is now: looked at again where the kernel says that a rule has changed since."""
        if self._rules.scene.refusal or not self.gate.is_trusted():
            self.look_again()
        await self._rules.awaited()

    async def _carry_out(self, order: OrderText, gate: dict[Direction, Opening]) -> tuple[str, str]:
        carried = Carried(
            order.generation,
            {way: (each.level, dict(each.ports)) for way, each in gate.items()},
            boot_s() + order.expiry_s,
        )
        renews = self.standing.is_open and same(gate, self.standing.openings)
        act = Act.RENEW if gate and renews else Act.OPEN if gate else Act.CLOSE
        before, self._carried = self._carried, carried
        expiry_s = self._lease_s(gate) if gate else 0.0
        decision = Decision(
            act, self.pod, Generation(order.generation), order.code, order.reason, gate, expiry_s,
            {"fault": str(self.diagnosis.fault)},
        )  # fmt: skip
        result = self.actor.perform(decision, who=order.who)
        if not result.done and result.inspect:
            await self._rules.look()
            result = self.actor.perform(decision, who=order.who)
        if not result.done:
            self._carried = before
            return FAILED, result.why
        self.obeyed = order
        try:
            self._ledger.write(carried)
        except OSError as failure:  # the kernel and our memory know it
            self.note("ledger", failed=str(failure))
        self._stand(gate, expiry_s)
        if gate and order.cut:
            self.actor.perform(replace(decision, act=Act.CUT, openings={}), who=order.who)
        if not gate:
            self.spare.drain()
            await self._rules.look()
        self._rounds.begin()
        self.step()
        return DONE, order.reason

    # ---- the truth ----

    async def truth(self) -> TruthText:
        """Read from the kernel, not remembered; the diagnosis is the newest that there is."""
        shown = await self._holding.in_thread(self.gate.read)
        await self._up_to_date()
        self.step()
        view = self.view()
        return TruthText(
            uid=self.pod.uid,
            levels={way: effective(shown.openings.get(way, Opening(Level.CAPTURE))) for way in Direction},
            generation=self._newest(shown),
            expires_in_s=self._ends_in_s(shown),
            istio_rules=self._rules.scene.digest,
            istio_complete=self._rules.scene.complete,
            diagnosis=diagnosis_text(self.diagnosis, self._loop.time()),
            identity_expires_in_s=view.facts.identity_expires_in_s,
            path_passes=view.facts.path_passes,
            refusal=view.capabilities.gate_refusal,
            rescue_refusal=no_rescue(view),
            rescue_deaths=view.capabilities.rescue_deaths,
            stand_in=self.stand_in.state,
            drilled=self._drilled,
        )

    def _ends_in_s(self, shown: GateState) -> float | None:
        """The order's end where the kernel's lease is renewed until then, else the kernel's own."""
        if not shown.is_open:
            return None
        kept = shown.generation == self._carried.generation and needs_rescue(shown.openings)
        left_s = self._carried.ends_boot_s - boot_s() if kept else shown.expires_in_s
        return round(max(0.0, left_s or 0.0), 3)
