"""One worker for one pod: sees, decides, acts, in sequence (I6).

`step` runs on every piece of news, without waiting for anything: facts -> decide.step -> the gate. The standing moves
on only when the kernel took the act; otherwise the namespace is looked at again and the next step decides anew.
"""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import replace
from typing import Any

from hotswitch.act.actor import Actor
from hotswitch.agent.account import Account
from hotswitch.agent.holding import hold
from hotswitch.agent.means import Means
from hotswitch.agent.neighbours import is_sick
from hotswitch.agent.rounds import Rounds, pause_s
from hotswitch.agent.rules import Rules
from hotswitch.agent.sight import Sight, path_probe
from hotswitch.agent.spare import Spare
from hotswitch.agent.standin import StandIn
from hotswitch.capture.gate_table import scope_of
from hotswitch.capture.spec import CaptureSpec
from hotswitch.config.agentfile import Pod
from hotswitch.decide.engine import step
from hotswitch.decide.track import assess, in_its_time, seen, settled, tracked
from hotswitch.kernel.cgroup import Container
from hotswitch.model import (
    Act,
    Capabilities,
    Decision,
    Diagnosis,
    Direction,
    Facts,
    Fault,
    Grade,
    Mode,
    Mtls,
    Standing,
    View,
)
from hotswitch.observe.path import PathProbe


class Guard:
    """Raises OSError or CommandFailed when the pod's namespace cannot be entered, or the gate not installed."""

    def __init__(
        self, settings: Pod, spec: CaptureSpec, means: Means, spare: Spare, container: Container | None = None
    ) -> None:
        self.settings, self.spec, self.spare = settings, spec, spare
        self.pod, self.policy = settings.ref, settings.policy.policy()
        self._means = means
        self._loop = asyncio.get_running_loop()
        self._account = Account(self.pod, means.journal, means.metrics, means.evidence)
        self.standing = Standing()
        self.diagnosis = Diagnosis(Fault.UNKNOWN, Grade.NONE, "not seen yet")
        self._rounds = Rounds(self._round, self._pause_s)
        with contextlib.ExitStack() as undo:  # what cannot be had in the end must not be held in part
            self._open(container, undo)
            undo.pop_all()

    def _open(self, container: Container | None, undo: contextlib.ExitStack) -> None:
        settings, means = self.settings, self._means
        self._holding = hold(settings.netns, scope_of(self.spec))
        undo.callback(self._holding.close)
        self.namespace, self.gate = self._holding.namespace, self._holding.gate
        self.actor = Actor(self.pod, self.gate, means.journal, means.metrics, frozenset(settings.app.ports))
        undo.callback(self.actor.close)
        self.actor.in_thread = self._holding.in_thread
        self._rules = Rules(self.spec, self._holding, self.actor, self)
        probe, pace = self.path_probe(), means.pace
        self._sight = Sight(
            settings, self.policy, self.namespace, self.news, probe=probe, container=container, pace=pace
        )
        self.watch = self._sight.watch
        self.stand_in = StandIn(settings, self.gate, self.namespace.fd, means.journal, means.metrics, self.look_again)

    def path_probe(self) -> PathProbe | None:
        return path_probe(self.settings, self.policy, self.namespace, self._proxy_uid())

    def _proxy_uid(self) -> int:
        """The proxy's user, as this process's user namespace counts."""
        return self.spec.proxy_uids[0]

    # ---- life ----

    async def start(self) -> None:
        """Inspect, put the closed gate in place (mode auto), take over what a predecessor left open, watch."""
        await self._holding.in_thread(self._rules.prepare)
        self.stand_in.begin_anew()
        self._take_over()
        self._sight.start()
        self._rounds.begin()
        self._show()
        scene = self._rules.scene
        self.note("attached", evidence={"istio_rules": scene.fingerprint, "refusal": scene.refusal})

    def _take_over(self) -> None:
        left = self.gate.read()
        if not left.is_open:
            return
        now_s = self._loop.time()
        openings = dict(left.openings)
        self.actor.adopt(openings, left.generation)
        self.standing = Standing(
            generation=left.generation,
            levels={way: openings[way].level if way in openings else Standing().levels[way] for way in Direction},
            openings=openings,
            opened_s=now_s,
            expires_s=now_s + (left.expires_in_s or 0.0),
            rebuilt=True,
        )
        self.watch.be_alert(True)
        self.note("adopted", evidence={"left": left.reason})

    @property
    def closed(self) -> bool:
        """It has let go of the pod, and the numbers of its descriptors may be another one's by now."""
        return self._holding.closed

    def close(self) -> None:
        """Stop watching and let go of the namespace; what is open stays open until its expiry (I1)."""
        if self.closed:
            return
        self._means.neighbours.forget(self.pod.uid)
        self._rounds.close()
        self._rules.close()
        self._sight.close()
        self.stand_in.close()
        self.actor.close()
        self._holding.close()

    # ---- the loop ----

    def facts(self) -> Facts:
        return self._sight.facts(self.settings, self.spare)

    def view(self, facts: Facts | None = None) -> View:
        return View(
            now_s=self._loop.time(),
            pod=self.pod,
            policy=self.policy,
            facts=facts or self.facts(),
            standing=self.standing,
            capabilities=self._capabilities(),
            surroundings=self._means.surroundings(self),
        )

    def _capabilities(self) -> Capabilities:
        refusal = self.spare.refusal(self.watch.listening)
        in_the_way = self._rules.scene.refusal
        return Capabilities(
            gate=not in_the_way,
            gate_refusal=in_the_way,
            rescue=not refusal,
            rescue_refusal=refusal,
            rescue_deaths=self.spare.deaths(self.policy.hold_down_s),
        )

    def step(self, *, who: str = "agent") -> tuple[Decision, ...]:
        """Decide on what is known now, and act; what was decided. The hot path."""
        news_s = self._loop.time()
        if self.watch.gone:
            self._means.gone(self)
            return ()
        view = self.view()
        standing, decisions = step(view)
        if self._perform(decisions, news_s, who):
            self.standing = standing
        after = replace(view, standing=self.standing)
        self.diagnosis = assess(after)
        self.watch.be_alert(self.standing.is_open or self.standing.fault is not Fault.WELL)
        self._keep_evidence(view.facts)
        self.stand_in.heed(after, self.diagnosis)
        self._show()
        return decisions

    def look_on(self) -> None:
        """What is known now; nothing is decided."""
        view = self.view()
        view = replace(view, standing=settled(view))
        now_seen = seen(view)
        self.diagnosis = in_its_time(view, now_seen)
        self.standing = tracked(view, now_seen, self.diagnosis)

    def _keep_evidence(self, facts: Facts) -> None:
        self._account.keep_evidence(self.settings, self.namespace.fd, facts, self.diagnosis, self.standing)

    @property
    def sick(self) -> bool:
        return is_sick(self.diagnosis)

    def _perform(self, decisions: tuple[Decision, ...], news_s: float, who: str) -> bool:
        for decision in decisions:
            result = self.actor.perform(decision, news_s=news_s, who=who)
            if not result.done:
                if result.inspect:
                    self.look_again()
                return False
            if decision.act in (Act.OPEN, Act.CLOSE):
                self._switched(decision)
        return True

    def _switched(self, decision: Decision) -> None:
        if decision.act is Act.CLOSE:
            self.spare.drain()
            self.look_again()

    def _show(self) -> None:
        """To whoever goes by what stands and what is seen; after the act."""
        self._means.neighbours.note(self)
        self._account.show(self.standing, self.diagnosis)

    def note(self, event: str, **fields: Any) -> None:
        """A line of the journal."""
        self._account.note(event, generation=self.standing.generation, **fields)

    def news(self) -> None:
        self.step()

    def _round(self) -> None:
        self._means.metrics.identity_lasts(self.pod, self.spare.identity_expires_in_s)
        self._means.metrics.identity_came(self.pod, self.spare.way or "")
        if self._rules.scene.refusal and self._rules.have_changed:
            self.look_again()  # what was in the way may be gone; no write is tried, and so none is fenced
        self.step()

    def _pause_s(self) -> float:
        return pause_s(self.standing, self.diagnosis, self._rules.scene.refusal)

    # ---- the namespace's rules ----

    def may_install(self) -> bool:
        return self.policy.mode is Mode.AUTO and not self.spec.unsupported() and not self.gate.refusal

    def look_again(self) -> None:
        """Inspect in a thread, then step: after a fenced write, and after a restore to prove that nothing is left."""
        self._rules.look_again()

    def look_ended(self) -> None:
        self._rounds.begin()

    async def verified(self) -> bool:
        """Wait for the look that follows a restore: are Istio's rules what they were (I4)?"""
        return await self._rules.verified()

    # ---- what is wanted ----

    def change_policy(self, settings: Pod) -> None:
        """New settings for the same pod: only what needs no new namespace, spec or probe."""
        self.settings, self.policy = settings, settings.policy.policy()
        self.stand_in.wanted = settings.app.stand_in
        self.step()

    def _ask_by_policy(self) -> None:
        """How the proxy is asked follows the policy that holds now: a greeting by TLS means nothing to an app that the
        proxy lets have plaintext, and it would get it."""
        probe = self.settings.app.probe
        strict = probe is not None and self.policy.mtls_on(probe.port) is Mtls.STRICT
        self.watch.obey(self.policy.thresholds, strict=strict)

    def give_up(self) -> None:
        """Nobody wants the pod guarded any longer: what is open is closed while somebody can, for the rescue that it
        leads to goes, too (I4)."""
        if not self.watch.gone:
            self.policy = replace(self.policy, mode=Mode.OFF)
            Guard.step(self)  # whatever was granted

    def hypothetical(self, facts: Facts) -> tuple[Decision, ...]:
        """What would be decided on these facts; nothing is done."""
        return step(self.view(facts))[1]
