"""What one look at a namespace's capture found, and how that differs from what Istio writes for a spec (S4.3, I4).

The states:

    captured  Istio's rules are complete (and, given a spec, exactly those of the spec)
    open      the same, and hotswitch's own table has openings in it
    partial   some of Istio's rules are missing, out of effect or too many: `problems` names them
    foreign   nothing of Istio's, but others translate addresses
    absent    nothing of either

What Istio leaves in the routing (`routing`) never changes the state by itself: without its rules nothing is marked, so
it does nothing. But TPROXY rules without it deliver nothing, and that is partial.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from hotswitch.capture import iptables_save, nft_list, older, routing
from hotswitch.capture.older import Shape
from hotswitch.capture.routing import Routing
from hotswitch.capture.ruleset import ChainId, Rule, Ruleset, differences
from hotswitch.capture.spec import Backend, CaptureSpec, Interception

FAMILIES = ("ip", "ip6")


class State(StrEnum):
    CAPTURED = "captured"
    OPEN = "open"
    PARTIAL = "partial"
    FOREIGN = "foreign"
    ABSENT = "absent"


@dataclass(frozen=True, slots=True)
class FamilyView:
    """One address family: its state, who wrote Istio's rules there, and what is wrong with them."""

    state: State
    backends: tuple[Backend, ...] = ()
    problems: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Inspection:
    """What one look found. `rulesets`: by backend, Istio's chains and the built-in chains they stand beside."""

    ip: FamilyView
    ip6: FamilyView
    foreign_nat: tuple[str, ...]  # a sentence for each rule that translates addresses and is neither Istio's nor ours
    openings: tuple[str, ...]  # elements of our own table that carry a timeout, or rules of our legacy chains
    legacy_tables: tuple[str, ...]  # e.g. "ip nat": they exist, empty or not
    rulesets: Mapping[Backend, Ruleset]
    dormant: tuple[str, ...]  # Istio's native tables that are switched off
    doubtful: tuple[str, ...]  # rules that may be Istio's, or somebody else's: without a spec nobody can say
    routing: Routing  # Istio's policy rules, routes and address, as long as anything of them is there

    @property
    def backends(self) -> tuple[Backend, ...]:
        return tuple(dict.fromkeys((*self.ip.backends, *self.ip6.backends)))

    @property
    def fingerprint(self) -> str:
        """Istio's rules and the built-in chains they stand in, as text without counters: equal before and after if and
        only if nobody changed any of them."""
        lines = [f"{table}: dormant" for table in self.dormant]
        for backend, ruleset in self.rulesets.items():
            for chain, rules in sorted(ruleset.items()):
                lines.append(f"{backend}: {chain}")
                lines += [f"    {rule.text}" for rule in rules]
        return "\n".join(lines)

    @property
    def digest(self) -> str:
        """The fingerprint in 16 hexadecimal digits, for journals."""
        return hashlib.sha256(self.fingerprint.encode()).hexdigest()[:16]

    def releases(self, family: str) -> tuple[Shape, ...]:
        """Which releases write iptables rules of the shape that `family` (ip, ip6) has; several may write the same."""
        backends = self.ip.backends if family == "ip" else self.ip6.backends
        chosen = (backend for backend in backends if backend is not Backend.NFTABLES)
        found = (older.shapes_of(of_family(family, self.rulesets[backend])) for backend in chosen)
        return next(found, ())

    def matches(self, spec: CaptureSpec, backend: Backend | None = None) -> list[str]:
        """How the kernel differs from what Istio writes for `spec`; empty: as rendered. `backend` None: the one that
        is there, or the spec's where none or more than one is."""
        chosen = backend or (self.backends[0] if len(self.backends) == 1 else spec.backend)
        there = self.rulesets.get(chosen, {})
        lost = [text for family in FAMILIES for text in undelivered(there, self.routing, family)]
        return [*self.rules_differ(spec, chosen), *lost]

    def rules_differ(self, spec: CaptureSpec, backend: Backend) -> list[str]:
        """How the rules alone differ from what Istio writes for `spec` by `backend`."""
        families = FAMILIES[:1] if backend is Backend.NFTABLES else FAMILIES  # its tables hold both
        there = self.rulesets.get(backend, {})
        found = [text for family in families for text in deviations(family, spec, backend, there)]
        found += [f"{table} is dormant: its rules do nothing" for table in self.dormant]
        others = (other for other in self.backends if other is not backend)
        return [*found, *(f"Istio's rules are there by {other}, not by {backend}" for other in others)]


def undelivered(ruleset: Ruleset, seen: Routing, family: str) -> list[str]:
    """TPROXY rules that mark packets which the routing then does not bring to the proxy."""
    lost = [mark for mark in sorted(routing.marks(ruleset, family)) if not seen.delivers(family, mark)]
    return [f"{family}: packets marked {mark} are not delivered locally: no policy rule with a route" for mark in lost]


def of_family(family: str, ruleset: Ruleset) -> dict[ChainId, tuple[Rule, ...]]:
    return {chain: rules for chain, rules in ruleset.items() if chain.family in (family, "inet")}


def deviations(family: str, spec: CaptureSpec, backend: Backend, ruleset: Ruleset) -> list[str]:
    """How a ruleset differs from the spec as that release wrote it whose rules these resemble most."""
    there = of_family(family, ruleset)
    best: list[str] | None = None
    for shape in older.shapes_of(there):
        found = differences(of_family(family, _expected(spec, backend, shape)), there)
        if best is None or len(found) < len(best):
            best = found
        if not best:
            break
    return best or []


def _expected(spec: CaptureSpec, backend: Backend, shape: Shape) -> Ruleset:
    if spec.mode is Interception.NONE:
        return {}
    if backend is Backend.NFTABLES:
        return nft_list.expected(spec)
    return {**iptables_save.expected(spec, "ip", shape), **iptables_save.expected(spec, "ip6", shape)}
