"""One drill: a well pod's new inbound flows go to its rescue for some seconds, and back (S4.4, S4.5, I1, I4, I8).

First one request of ours goes through the rescue while the gate is still closed; if that fails nothing is opened, and
no client has met a rescue that does not work. Then the gate is opened as a person's order would open it, so that the
engine's checks, the generation, the kernel's expiry and the journal are those of every switch. Requests of ours go the
way that clients' go, one after the other; the first that fails ends the drill. A fault that comes meanwhile is no drill
any longer: the order is taken back, and the evidence decides.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field, replace
from typing import Protocol

from hotswitch.agent.guard import Guard
from hotswitch.agent.ordered import OrderedGuard
from hotswitch.api.drills import Result
from hotswitch.capture.gate_legacy import LegacyGate
from hotswitch.capture.gate_table import GateScope
from hotswitch.decide import drill as rules
from hotswitch.decide.codes import Code
from hotswitch.decide.damping import in_episode
from hotswitch.model import (
    DRILL_MARK,
    NEVER_OPENED,
    TRIAL_MARK,
    Direction,
    Level,
    Mtls,
    Override,
    Port,
    ProbeOutcome,
)
from hotswitch.observe.path import AppProbe
from hotswitch.observe.through import Answer, Credentials, Through

FOR_AT_MOST_S = 60.0
STEP_S = 0.1  # between two requests
MARGIN_S = 5.0  # what the kernel is told beyond the drill's end: a dead agent's drill ends by itself (I1)
_NOT_GUARDED = "the pod is not guarded any longer"
BACK_WITHIN_S = 10.0  # a request has to pass the proxy again within this


CODES = {
    Result.PASSED: Code.DRILL_PASSED,
    Result.FAILED: Code.DRILL_FAILED,
    Result.INTERRUPTED: Code.DRILL_INTERRUPTED,
    Result.REFUSED: Code.DRILL_REFUSED,
}


@dataclass(slots=True)
class Report:
    """`open_s`: from the order to the first answer through the open gate; `restore_s`: from its end to the first answer
    through the proxy."""

    result: Result = Result.PASSED
    why: str = "requests went through the rescue, and through the proxy afterwards"
    served: int = 0
    lost: int = 0
    durations_s: dict[str, float] = field(default_factory=dict)

    def end(self, result: Result, why: str) -> None:
        """The first end is what is told."""
        if self.result is Result.PASSED:
            self.result, self.why = result, why


class Hands(Protocol):
    """How the gate is opened for a drill, and closed again unless somebody else has it by then."""

    def refusal(self) -> str:
        """Why this pod cannot be drilled now: a sentence, or nothing. Changes nothing."""
        ...

    async def open(self, expiry_s: float, reason: str) -> None: ...

    async def close(self) -> None: ...


class OwnHands:
    """Of a guard that decides for itself: the gate is opened as by a person's order."""

    def __init__(self, guard: Guard, who: str) -> None:
        self._guard, self._who = guard, who
        self._order: Override | None = None

    def refusal(self) -> str:
        return refusal(self._guard)

    async def open(self, expiry_s: float, reason: str) -> None:
        guard, until_s = self._guard, asyncio.get_running_loop().time() + expiry_s
        self._order = Override({Direction.INBOUND: Level.RESCUE}, until_s, reason, self._who)
        guard.standing = replace(guard.standing, override=self._order)
        guard.step(who=self._who)

    async def close(self) -> None:
        """Only our own order is taken back: a person's, given meanwhile, stands."""
        guard = self._guard
        if guard.standing.override is self._order and not guard.closed:
            guard.standing = replace(guard.standing, override=None)
            guard.step(who=self._who)


class Drill:
    def __init__(self, guard: Guard, for_s: float, hands: Hands) -> None:
        self._guard, self._for_s, self._hands = guard, for_s, hands
        self._loop = asyncio.get_running_loop()

    async def run(self) -> Report:
        """Whatever comes, what was opened is closed when this ends, unless a fault holds it open."""
        report = Report()
        if why := self._hands.refusal():
            report.end(Result.REFUSED, why)
            return report
        through = _through(self._guard)
        if not self._good(trial := await through.ask(TRIAL_MARK)):
            report.lost += 1
            report.end(Result.FAILED, f"nothing was opened: the rescue does not serve: {trial.detail}")
            return report
        if why := self._hands.refusal():  # the trial took a moment
            report.end(Result.REFUSED, why)
            return report
        await self._drilled(through, report)
        return report

    async def _drilled(self, through: Through, report: Report) -> None:
        guard, started_s = self._guard, self._loop.time()
        try:
            await self._hands.open(self._for_s + MARGIN_S, f"drill, {self._for_s:g} s")
            if guard.standing.levels[Direction.INBOUND] is Level.RESCUE:
                await self._ask(through, report, started_s)
            else:
                report.end(Result.REFUSED, "the gate was not opened; see the journal")
        finally:
            await self._hands.close()
        await self._back(report)

    async def _ask(self, through: Through, report: Report, started_s: float) -> None:
        while not self._meanwhile(report):
            answer = await through.ask(DRILL_MARK)
            if self._meanwhile(report):
                return
            if not self._good(answer):
                report.lost += 1
                report.end(Result.FAILED, f"a request through the rescue failed: {answer.detail}")
                return
            report.served += 1
            report.durations_s.setdefault("open", self._loop.time() - started_s)
            if self._loop.time() + STEP_S > started_s + self._for_s:
                return
            await asyncio.sleep(STEP_S)

    def _meanwhile(self, report: Report) -> bool:
        standing = self._guard.standing
        if self._guard.closed:
            report.end(Result.INTERRUPTED, _NOT_GUARDED)
        elif in_episode(standing):
            report.end(Result.INTERRUPTED, f"the proxy is {standing.fault}, in earnest")
        elif standing.levels[Direction.INBOUND] is not Level.RESCUE:
            report.end(Result.INTERRUPTED, "the gate was closed, or led elsewhere, by somebody else")
        return report.result is Result.INTERRUPTED

    def _good(self, answer: Answer) -> bool:
        """Where connections are authorized, the pod itself may be nobody who is let in."""
        turned_away = answer.outcome is ProbeOutcome.TLS and bool(self._guard.settings.authorization)
        return answer.outcome is ProbeOutcome.OK or turned_away

    async def _back(self, report: Report) -> None:
        """Capture is there again when a request passes the proxy and Istio's rules are what they were (I4)."""
        ended_s, guard = self._loop.time(), self._guard
        if guard.closed or in_episode(guard.standing):
            return
        probe = guard.path_probe()
        while probe is not None and self._loop.time() - ended_s < BACK_WITHIN_S:
            if guard.closed:
                report.end(Result.INTERRUPTED, _NOT_GUARDED)
                return
            compared = (await probe.compare()).comparison
            if compared.proxied in (ProbeOutcome.OK, ProbeOutcome.TLS):
                report.durations_s["restore"] = self._loop.time() - ended_s
                break
            await asyncio.sleep(STEP_S)
        else:
            report.end(Result.FAILED, f"no request passed the proxy within {BACK_WITHIN_S:g} s after it")
        if guard.standing.is_open:
            report.end(Result.INTERRUPTED, "somebody else has opened the gate")
        elif not await guard.verified():
            report.end(Result.FAILED, "the namespace's rules are not what they were before")


def refusal(guard: Guard) -> str:
    """Why this pod cannot be drilled now: a sentence, or nothing."""
    if isinstance(guard, OrderedGuard):
        return "a controller decides for this pod"
    return unfit(guard) or rules.refusal(guard.view(), guard.diagnosis)


def unfit(guard: Guard) -> str:
    """Why it cannot be drilled as it is, whoever asks."""
    if guard.closed:
        return _NOT_GUARDED
    if isinstance(guard.gate, LegacyGate):
        return "the gate is one by iptables-legacy, which lets no drill through"
    probe = guard.settings.app.probe
    if probe is None:
        return "the app declares no probe that could be asked (app.probe)"
    if not _captured(guard.gate.scope, probe.port):
        return f"port {probe.port}, where the app's probe is, is not captured"
    strict = guard.policy.mtls_on(probe.port) is Mtls.STRICT
    if strict and guard.spare.identity is None:
        return "mTLS is STRICT, and the pod's identity was not fetched yet"
    return ""


def _captured(scope: GateScope, port: Port) -> bool:
    listed = scope.inbound_ports is None or port in scope.inbound_ports
    return listed and port not in NEVER_OPENED and port not in scope.inbound_exclude_ports


def _through(guard: Guard) -> Through:
    probe, identity = guard.settings.app.probe, guard.spare.identity
    assert probe is not None
    credentials = None
    if identity is not None and guard.policy.mtls_on(probe.port) is not Mtls.DISABLE:
        credentials = Credentials(identity.chain_pem, identity.key.reveal(), identity.roots_pem, identity.spiffe_id)
    address = str(guard.settings.addresses[0])
    return Through(guard.namespace.fd, address, AppProbe(probe.port, probe.path, probe.timeout_s), credentials)
