"""One pod's stand-in for pilot-agent: listens, and has the gate lead the app's probes to it, while that is its duty.

Looked after at every step, after whatever the step did to the gate. The kernel ends the diversion within EXPIRY_S of
our last word (I1): an agent that dies leaves the pod as it would be without us. Pilot-agent's own port is never
listened on: it would come back, find it taken, and say "not ready" for good.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

import yaml

from hotswitch.capture.fields import SpecError
from hotswitch.capture.gate import GateAbsent, GateFenced
from hotswitch.capture.gate_choice import AnyGate
from hotswitch.capture.podspec import facts_from_pod, rewritten_from_pod
from hotswitch.capture.probes import AppProbe, rewritten
from hotswitch.config.agentfile import Pod
from hotswitch.decide.standin import duty
from hotswitch.kernel.netns import Where
from hotswitch.model import AGENT_STATUS, STAND_IN, Diagnosis, Port, View
from hotswitch.report.journal import Journal, entry
from hotswitch.report.metrics import Metrics
from hotswitch.standin.asking import Answer
from hotswitch.standin.server import ProbeServer

EXPIRY_S = 3.0  # well below three periods of a probe, well above the pause between two steps


@dataclass(frozen=True, slots=True)
class Declared:
    """The app's probes that go to pilot-agent, and where; `refusal`: why none can be answered."""

    probes: tuple[AppProbe, ...] = ()
    status_port: Port = AGENT_STATUS
    refusal: str = ""


def declared(pod: Pod) -> Declared:
    """By the agent's file itself, else by the pod's manifest. Never raises: without probes there is nothing to do."""
    try:
        manifest = yaml.safe_load(pod.capture.manifest.read_text()) if pod.capture.manifest else None
        port = pod.app.status_port or (facts_from_pod(manifest).status_port if manifest else AGENT_STATUS)
        if pod.app.probers is not None:
            probes = rewritten(json.dumps(pod.app.probers))
        else:
            probes = rewritten_from_pod(manifest) if manifest else ()
    except (SpecError, OSError, yaml.YAMLError) as failure:
        return Declared(refusal=f"the app's probes are not known: {failure}")
    asked = tuple(probe for probe in probes if not probe.is_hook)
    if port is None:
        return Declared(asked, refusal="pilot-agent's port is switched off")
    return Declared(asked, port, "" if asked else "no probe of the app goes to pilot-agent")


class StandIn:
    """`fenced` is called when the namespace's rules have to be looked at again before the gate may be written."""

    def __init__(
        self, settings: Pod, gate: AnyGate, netns: Where, journal: Journal, metrics: Metrics, fenced: Callable[[], None]
    ) -> None:
        self._pod, self._gate, self._journal, self._metrics = settings.ref, gate, journal, metrics
        self._fenced, self.wanted = fenced, settings.app.stand_in
        self._loop = asyncio.get_running_loop()
        self._declared = declared(settings)
        self._server = ProbeServer(
            netns, str(settings.addresses[0]), self._declared.status_port, self._declared.probes, self._answered
        )
        self._expires_s: float | None = None
        self._ending: asyncio.TimerHandle | None = None
        self._answers: Counter[str] = Counter()
        self._failed = ""

    @property
    def answers(self) -> bool:
        """Are the app's probes answered here now?"""
        return self._expires_s is not None

    @property
    def state(self) -> str:
        """For `status`: "answers", "ready", or why it will not."""
        if self.answers:
            return "answers"
        return self._refusal or self._failed or "ready"

    @property
    def _refusal(self) -> str:
        return self._declared.refusal if self.wanted else "switched off"

    def plan(self) -> list[str]:
        """What would be done once pilot-agent is away, as sentences (I8)."""
        if self._refusal:
            return [f"the app's probes: no stand-in, {self._refusal}"]
        names = ", ".join(probe.name for probe in self._declared.probes)
        port = self._declared.status_port
        return [
            f"while nobody listens on {port}, new inbound flows to it are led to {STAND_IN}, {EXPIRY_S:g} s at a time,"
            f" and answered by asking the app: {names}"
        ]

    def begin_anew(self) -> None:
        """What a predecessor that was killed has left leads to nobody: its socket went with it. Never raises."""
        with contextlib.suppress(OSError, GateFenced, GateAbsent):  # then the kernel does it, in EXPIRY_S
            self._gate.undivert()

    # ---- after every step ----

    def heed(self, view: View, diagnosis: Diagnosis) -> None:
        """Begin, go on, or end, as the step that came to `diagnosis` has left things. Never raises."""
        if self._refusal and not self.answers:
            return
        now = duty(view, diagnosis, self._declared.status_port)
        if now.answer and not self._refusal:
            self._answer(view.now_s, now.why)
        elif self.answers and (now.answer is False or self._refusal):
            self._end(self._refusal or now.why)
        elif self._expires_s is not None and view.now_s >= self._expires_s:
            self._ended("it was not renewed")

    def _answer(self, now_s: float, why: str) -> None:
        if self._expires_s is not None and self._expires_s - now_s > EXPIRY_S / 2:
            return
        if self._ending is not None:
            self._ending.cancel()
        if not self._done(self._divert):
            return
        begun, self._expires_s, self._failed = not self.answers, now_s + EXPIRY_S, ""
        if begun:
            self._answers.clear()
            evidence = {
                "probes": ", ".join(probe.name for probe in self._declared.probes),
                "port": str(self._declared.status_port),
            }
            self._say("stand-in", why=f"answers the app's probes: {why}", evidence=evidence)
            self._metrics.stands_in(self._pod, True)

    def _divert(self) -> None:
        self._server.listen()
        self._gate.divert(self._declared.status_port, EXPIRY_S)

    def _end(self, why: str) -> None:
        if self._done(self._gate.undivert):
            self._ended(why)

    def _ended(self, why: str) -> None:
        self._expires_s = None
        self._ending = self._loop.call_later(EXPIRY_S, self._server.close)  # who was led here is still answered
        self._say("stand-in-ended", why=why, evidence={name: str(count) for name, count in self._answers.items()})
        self._metrics.stands_in(self._pod, False)

    def _done(self, act: Callable[[], None]) -> bool:
        """A failure is journalled once, and tried again at the next step."""
        try:
            act()
        except (GateFenced, GateAbsent) as failure:
            self._fail(str(failure))
            self._fenced()
        except OSError as failure:
            self._fail(str(failure))
        else:
            return True
        if not self.answers:
            self._server.close()
        return False

    def _fail(self, why: str) -> None:
        if why != self._failed:
            self._failed = why
            self._say("stand-in", failed=why)

    def _answered(self, path: str, said: Answer) -> None:
        known = any(probe.name == path for probe in self._declared.probes)
        result = ("passed" if 200 <= said.status < 400 else "failed") if known else "refused"
        self._answers[result] += 1
        self._metrics.probe_answered(self._pod, result)

    def _say(self, event: str, **fields: object) -> None:
        evidence = fields.pop("evidence", {})
        assert isinstance(evidence, dict)
        self._journal.write(entry(event, self._pod, evidence=evidence, **fields))

    def close(self) -> None:
        """The agent lets go of the pod: the socket goes with it, so nothing may be led there any longer."""
        if self._ending is not None:
            self._ending.cancel()
        if self.answers:
            with contextlib.suppress(OSError, GateFenced, GateAbsent):  # then the kernel does it, in EXPIRY_S
                self._gate.undivert()
        self._server.close()
