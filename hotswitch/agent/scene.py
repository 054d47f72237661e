"""What a pod's namespace allows: is it captured as its spec says, and is nothing else in the gate's way? (S4.3, I4)

Looking changes nothing. It takes some milliseconds, so it is done when a pod is attached, and again only when the
kernel says that somebody changed a rule since (the fence of `Gate.write`).
"""

from __future__ import annotations

from dataclasses import dataclass

from hotswitch.capture.gate import Gate
from hotswitch.capture.inspect import Inspection, State, inspect
from hotswitch.capture.spec import CaptureSpec


@dataclass(frozen=True, slots=True)
class Scene:
    """`refusal`: a sentence why the gate must not be written; empty when it may be. `rules_generation`: the nft
    generation that the look is good for."""

    refusal: str
    fingerprint: str
    digest: str
    rules_generation: int


def look(gate: Gate, spec: CaptureSpec) -> Scene:
    """Inspect the gate's namespace. Blocks for some milliseconds; raises CommandFailed when a tool cannot be run."""
    generation = gate.rules_generation()  # first: a change made while we look is caught by the fence
    seen = inspect(gate.netns, spec)
    return Scene(_refusal(seen, spec), seen.fingerprint, seen.digest, generation)


def _refusal(seen: Inspection, spec: CaptureSpec) -> str:
    if unsupported := spec.unsupported():
        return unsupported[0]
    if seen.foreign_nat:
        return f"the namespace has address translation that is not Istio's: {seen.foreign_nat[0]}"
    views = (seen.ip, seen.ip6) if spec.ipv6 else (seen.ip,)
    for view in views:
        if view.state not in (State.CAPTURED, State.OPEN):
            return f"capture is {view.state}" + (f": {view.problems[0]}" if view.problems else ": nothing to open")
    return ""
