"""May the app's probes be answered in pilot-agent's place now? Pure, like all of this room (S4.2, I2).

Only while a fault of the proxy is proven and goes on, and pilot-agent is seen not to listen. A sick app is no reason to
stop: the kubelet is to hear of it, and of its recovery. A pod that terminates is.
"""

from __future__ import annotations

from dataclasses import dataclass

from hotswitch.decide.damping import in_episode
from hotswitch.decide.evidence import fresh_dump
from hotswitch.model import Diagnosis, Fault, Mode, Port, View


@dataclass(frozen=True, slots=True)
class Duty:
    """`answer` None: too little is known; what is open is not renewed, and ends by its expiry (I1)."""

    answer: bool | None
    why: str


def duty(view: View, diagnosis: Diagnosis, status_port: Port) -> Duty:
    """`status_port`: pilot-agent's. `view.standing` as the step that led to `diagnosis` has left it."""
    if view.policy.mode is not Mode.AUTO:
        return Duty(False, f"the mode is {view.policy.mode}")
    if diagnosis.fault is Fault.TERMINATING:
        return Duty(False, "the pod is terminating")
    if not in_episode(view.standing):
        return Duty(False, "no fault of the proxy is proven")
    if not view.capabilities.gate:
        return Duty(False, view.capabilities.gate_refusal or "the gate cannot be used")
    dump = fresh_dump(view.facts)
    if dump is None:
        return Duty(None, "it is not known who listens")
    if status_port in dump.ports:
        return Duty(False, f"pilot-agent listens on {status_port}")
    return Duty(True, f"pilot-agent is away: nobody listens on {status_port}")
