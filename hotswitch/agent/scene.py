"""What a pod's namespace allows: is it captured as its spec says, and is nothing else in the gate's way? (S4.3, I4)

Looking changes nothing. It takes some milliseconds, so it is done when a pod is attached, and again only when the
kernel says that somebody changed a rule since (the fence of `Gate.write`).
"""

from __future__ import annotations

import sys
from dataclasses import dataclass

from hotswitch.capture.gate_choice import AnyGate
from hotswitch.capture.gate_legacy import LegacyGate
from hotswitch.capture.inspect import inspect
from hotswitch.capture.inspection import Inspection, State
from hotswitch.capture.spec import Backend, CaptureSpec


@dataclass(frozen=True, slots=True)
class Scene:
    """`refusal`: a sentence why the gate must not be written; empty when it may be. `rules_generation`: the nft
    generation that the look is good for. `complete`: Istio's own rules are as its settings say."""

    refusal: str
    fingerprint: str
    digest: str
    rules_generation: int
    complete: bool = True


def look(netns: str, spec: CaptureSpec, rules_generation: int, gate: AnyGate | None = None) -> Scene:
    """Inspect a namespace. `rules_generation`: read before (Gate.rules_generation), so that a change made while we look
    is caught by the fence. `gate`: the one that is to be written. Blocks for some milliseconds and may do so in a
    thread: the gate's socket is not touched. Raises CommandFailed when a tool cannot be run."""
    seen = inspect(netns, spec)
    refusal = _refusal(seen, spec) or _refusal_of(gate, seen)
    fingerprint = sys.intern(seen.fingerprint)  # kept for each pod, and nearly all pods have the same
    return Scene(refusal, fingerprint, seen.digest, rules_generation, not _incomplete(seen, spec))


def _refusal_of(gate: AnyGate | None, seen: Inspection) -> str:
    """A gate by iptables-legacy stands ahead of Istio's rules only within the same table."""
    if not isinstance(gate, LegacyGate):
        return ""
    if gate.refusal:
        return gate.refusal
    others = [str(backend) for backend in seen.backends if backend is not Backend.IPTABLES_LEGACY]
    return f"the gate by iptables-legacy is not ahead of rules by {others[0]}" if others else ""


def _refusal(seen: Inspection, spec: CaptureSpec) -> str:
    if unsupported := spec.unsupported():
        return unsupported[0]
    if seen.foreign_nat:
        return f"the namespace has address translation that is not Istio's: {seen.foreign_nat[0]}"
    if not spec.ipv6 and Backend.NFTABLES not in seen.ip6.backends and seen.ip6.backends:
        return "Istio's rules are there for IPv6 too, and the settings say that the pod has none (capture.ipv6)"
    return _incomplete(seen, spec)


def _incomplete(seen: Inspection, spec: CaptureSpec) -> str:
    views = (seen.ip, seen.ip6) if spec.ipv6 else (seen.ip,)
    for view in views:
        if view.state not in (State.CAPTURED, State.OPEN):
            return f"capture is {view.state}" + (f": {view.problems[0]}" if view.problems else ": nothing to open")
    return ""
