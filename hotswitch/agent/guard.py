"""One worker for one pod: sees, decides, acts, in sequence (I6).

`step` runs on every piece of news, without waiting for anything: facts -> decide.step -> the gate. The standing moves
on only when the kernel took the act; otherwise the namespace is looked at again and the next step decides anew.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, TypeVar

from hotswitch.act.actor import Actor
from hotswitch.agent.evidence import Keeper
from hotswitch.agent.scene import Scene, look
from hotswitch.agent.spare import Spare
from hotswitch.agent.standin import StandIn
from hotswitch.capture.gate_choice import open_gate
from hotswitch.capture.gate_table import scope_of
from hotswitch.capture.spec import CaptureSpec
from hotswitch.config.agentfile import Pod
from hotswitch.decide.engine import step
from hotswitch.decide.levels import justified
from hotswitch.decide.track import assess, in_its_time, seen, settled, tracked
from hotswitch.kernel.cgroup import Container
from hotswitch.kernel.command import CommandFailed
from hotswitch.kernel.netns import PinnedNamespace
from hotswitch.model import (
    Act,
    Capabilities,
    Decision,
    Diagnosis,
    Direction,
    Facts,
    Fault,
    Grade,
    Level,
    Mode,
    Mtls,
    Standing,
    Surroundings,
    View,
)
from hotswitch.observe.path import AppProbe, PathProbe
from hotswitch.observe.supply import SupplyWatch
from hotswitch.observe.watch import Pace, PodWatch
from hotswitch.report.journal import Journal, entry
from hotswitch.report.metrics import Metrics

OPEN_STEP_S = 0.25  # how often an open or faulty pod is decided on without news: renewals, thresholds of time
IDLE_STEP_S = 30.0
REFUSED_STEP_S = 1.0  # while the rules are not as they must be: istio-init has not run yet, or somebody's NAT is there
T = TypeVar("T")
UNSEEN = -1  # no nft generation: look as soon as possible
_NOT_SICK = frozenset({Fault.WELL, Fault.UNKNOWN, Fault.STARTING, Fault.TERMINATING, Fault.DRAINED, Fault.APP_SICK})


@dataclass(frozen=True, slots=True)
class Means:
    """What all guards of an agent share."""

    journal: Journal
    metrics: Metrics
    pace: Pace
    evidence: Keeper
    surroundings: Callable[[Guard], Surroundings]
    gone: Callable[[Guard], None]


class Guard:
    """Raises OSError or CommandFailed when the pod's namespace cannot be entered, or the gate not installed."""

    def __init__(
        self, settings: Pod, spec: CaptureSpec, means: Means, spare: Spare, container: Container | None = None
    ) -> None:
        self.settings, self.spec, self.spare = settings, spec, spare
        self.pod, self.policy = settings.ref, settings.policy.policy()
        self._means = means
        self._loop = asyncio.get_running_loop()
        self._evidence_of_s: float | None = None  # the fault whose evidence is being kept
        self.standing = Standing()
        self.diagnosis = Diagnosis(Fault.UNKNOWN, Grade.NONE, "not seen yet")
        self._scene = Scene("not inspected yet", "", "", 0)
        self._looking: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._closed = False
        self._apart: set[asyncio.Future[Any]] = set()  # threads that work by our descriptors
        self._original_rules = ""
        self._shown: dict[Direction, Level] = {}
        with contextlib.ExitStack() as undo:  # what cannot be had in the end must not be held in part
            self._open(container, undo)
            undo.pop_all()

    def _open(self, container: Container | None, undo: contextlib.ExitStack) -> None:
        settings, means = self.settings, self._means
        self.namespace = PinnedNamespace(settings.netns)
        undo.callback(self.namespace.close)
        self.gate = open_gate(self.namespace.path, scope_of(self.spec))
        undo.callback(self.gate.close)
        self.actor = Actor(self.pod, self.gate, means.journal, means.metrics, frozenset(settings.app.ports))
        undo.callback(self.actor.close)
        self.actor.in_thread = self._in_thread
        self.watch = PodWatch(
            self.namespace,
            self._news,
            path_probe=self.path_probe(),
            container=container or Container(settings.cgroups),
            app_ports=frozenset(settings.app.ports),
            thresholds=self.policy.thresholds,
            pace=means.pace,
        )
        self.stand_in = StandIn(settings, self.gate, self.namespace.fd, means.journal, means.metrics, self.look_again)
        poll_s = settings.dependencies_s
        self.supply = SupplyWatch(self.namespace.fd, poll_s, self._news) if poll_s else None

    def path_probe(self) -> PathProbe | None:
        probe = self.settings.app.probe
        if probe is None:
            return None
        return PathProbe(
            self.namespace.fd,
            str(self.settings.addresses[0]),
            AppProbe(probe.port, probe.path, probe.timeout_s),
            proxy_uid=self._proxy_uid(),
            strict=self.policy.mtls_on(probe.port) is Mtls.STRICT,
            lag_s=self.policy.thresholds.loop_lag_s,
        )

    def _proxy_uid(self) -> int:
        """The proxy's user, as this process's user namespace counts."""
        return self.spec.proxy_uids[0]

    # ---- life ----

    async def start(self) -> None:
        """Inspect, put the closed gate in place (mode auto), take over what a predecessor left open, watch."""
        await self._in_thread(self._prepare)
        self.stand_in.begin_anew()
        self._take_over()
        self.watch.start()
        if self.supply is not None:
            self.supply.start()
        self._set_timer()
        self._show()
        self._note("attached", evidence={"istio_rules": self._scene.fingerprint, "refusal": self._scene.refusal})

    def _prepare(self) -> None:
        if self._may_install():
            self.gate.install()
        self._see(look(self.gate.netns, self.spec, self.gate.rules_generation(), self.gate))
        self._original_rules = self._scene.fingerprint

    def _may_install(self) -> bool:
        return self.policy.mode is Mode.AUTO and not self.spec.unsupported() and not self.gate.refusal

    def _see(self, scene: Scene) -> None:
        self._scene = scene
        self.gate.trust(scene.rules_generation)
        self.actor.istio_rules = scene.digest

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
        self._note("adopted", evidence={"left": left.reason})

    @property
    def closed(self) -> bool:
        """It has let go of the pod, and the numbers of its descriptors may be another one's by now."""
        return self._closed

    def close(self) -> None:
        """Stop watching and let go of the namespace; what is open stays open until its expiry (I1)."""
        if self._closed:
            return
        self._closed = True
        if self._timer:
            self._timer.cancel()
        if self._looking:
            self._looking.cancel()
        self.watch.close()
        if self.supply is not None:
            self.supply.close()
        self.stand_in.close()
        self.actor.close()
        if not self._apart:
            self._let_go()

    def _let_go(self) -> None:
        self.gate.close()
        with contextlib.suppress(OSError):
            self.namespace.close()

    async def _in_thread(self, work: Callable[[], T]) -> T:
        """It goes on when whoever waits is cancelled, and works by our descriptors: they are held until it has ended.
        Their numbers would else be another pod's by then, whose rules it would look at or change (I6)."""
        job = self._loop.run_in_executor(None, work)
        self._apart.add(job)
        job.add_done_callback(self._came_back)
        return await asyncio.shield(job)

    def _came_back(self, job: asyncio.Future[Any]) -> None:
        self._apart.discard(job)
        if not job.cancelled():
            job.exception()  # whoever waited for it has it, or went away
        if self._closed and not self._apart:
            self._let_go()

    # ---- the loop ----

    def facts(self) -> Facts:
        now_s = self._loop.time()
        supply = self.supply.supply(now_s, time.time()) if self.supply is not None else None
        presented_s = self.spare.lasts_s(self.watch.certificate_ends_unix_s)
        if presented_s is None and supply is not None:
            presented_s = supply.certificate_ends_in_s
        return replace(
            self.watch.facts(now_s),
            terminating=self.settings.terminating,
            identity_expires_in_s=self.spare.identity_expires_in_s,
            proxy_certificate_expires_in_s=presented_s,
            supply=supply,
        )

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
        return Capabilities(
            gate=not self._scene.refusal,
            gate_refusal=self._scene.refusal,
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
        """Once for each fault, as soon as it is proven (S4.7)."""
        since_s = self.standing.fault_since_s
        if since_s not in (None, self._evidence_of_s) and justified(self.diagnosis):
            self._evidence_of_s = since_s
            self._means.evidence.keep(self.settings, self.namespace.fd, facts, self.diagnosis, self.standing.generation)

    @property
    def sick(self) -> bool:
        return self.diagnosis.fault not in _NOT_SICK and self.diagnosis.grade is not Grade.NONE

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
        """What stands and what is seen, for metrics; after the act."""
        metrics = self._means.metrics
        metrics.saw(self.pod, self.diagnosis)
        for way in Direction:
            if self._shown.get(way) is not self.standing.levels[way]:
                self._shown[way] = self.standing.levels[way]
                metrics.stands(self.pod, way, self.standing.levels[way])

    def _news(self) -> None:
        self.step()

    def _on_timer(self) -> None:
        self._set_timer()
        self._means.metrics.identity_lasts(self.pod, self.spare.identity_expires_in_s)
        if self._scene.refusal and self.gate.rules_generation() != self._scene.rules_generation:
            self.look_again()  # what was in the way may be gone; no write is tried, and so none is fenced
        self.step()

    def _set_timer(self) -> None:
        if self._timer:
            self._timer.cancel()
        if not self._closed:
            self._timer = self._loop.call_later(self._pause_s(), self._on_timer)

    def _pause_s(self) -> float:
        if self.standing.is_open or self.diagnosis.fault is not Fault.WELL:
            return OPEN_STEP_S
        return REFUSED_STEP_S if self._scene.refusal else IDLE_STEP_S

    # ---- the namespace's rules ----

    def look_again(self) -> None:
        """Inspect in a thread, then step: after a fenced write, and after a restore to prove that nothing is left."""
        if self._looking is None or self._looking.done():
            self._looking = self._loop.create_task(self._look())

    async def _look(self) -> None:
        try:
            await self.actor.settled()
            if self._may_install():
                await self._in_thread(self.gate.install)
            self._looked(await self._scene_at_rest())
        except (OSError, CommandFailed) as failure:
            self._not_looked(failure)
        self._set_timer()

    def _looked(self, scene: Scene) -> None:
        changed = scene.fingerprint != self._original_rules
        self._see(scene)
        self._note("verified", evidence={"istio_rules_unchanged": str(not changed), "refusal": scene.refusal})
        self.step()

    def _not_looked(self, failure: Exception) -> None:
        """Tried again and again; said once."""
        why = f"the namespace cannot be inspected: {failure}"
        if self._scene.refusal != why:
            self._note("inspect", failed=str(failure))
        self._scene = replace(self._scene, refusal=why, rules_generation=UNSEEN)

    async def _scene_at_rest(self) -> Scene:
        """Looked at while nothing of ours was written: else the look's nft generation is older than our own write, and
        trusting it would fence the next write for nothing."""
        while True:
            ours, rules = self.gate.writes, self.gate.rules_generation()
            scene = await self._in_thread(partial(look, self.gate.netns, self.spec, rules, self.gate))
            if self.gate.writes == ours:
                return scene

    def _note(self, event: str, **fields: object) -> None:
        evidence = fields.pop("evidence", {})
        assert isinstance(evidence, dict)
        line = entry(event, self.pod, evidence=evidence, generation=self.standing.generation, **fields)
        self._means.journal.write(line)

    async def verified(self) -> bool:
        """Wait for the look that follows a restore: are Istio's rules what they were (I4)?"""
        if self._looking is not None:
            await asyncio.gather(self._looking, return_exceptions=True)
        return self._scene.fingerprint == self._original_rules

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
