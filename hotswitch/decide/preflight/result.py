"""What the preflight found, and what it leaves of a policy (I2). A finding only ever takes away.

A finding without a level concerns `rescue` and `direct`; without a port, every port. What the mesh's administrators
accept by code turns from REFUSE to DEGRADED: it no longer takes away, and is still said.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any

from hotswitch.decide.preflight.codes import Code, acceptable
from hotswitch.mesh.objects import Ref
from hotswitch.model import OPEN_LEVELS, Direction, Level, Mtls, Policy, Port

SHOWN = 3  # further objects that a gathered finding names


class Verdict(StrEnum):
    ALLOW = "allow"
    DEGRADED = "degraded"  # may be done; something is lost or does not work meanwhile
    REFUSE = "refuse"


@dataclass(frozen=True, slots=True)
class Finding:
    """`accepted`: it would refuse, had no administrator of the mesh accepted its code."""

    code: Code
    verdict: Verdict
    direction: Direction
    port: Port | None
    level: Level | None
    sentence: str
    object: Ref | None = None
    accepted: bool = False

    def concerns(self, direction: Direction, level: Level) -> bool:
        return self.direction is direction and self.level in (None, level)


@dataclass(frozen=True, slots=True)
class Preflight:
    """`mtls` for ports that `mtls_by_port` does not name: what the mesh demands of clients. `outbound_free`: nothing is
    enforced on the way out, so `direct` gives nothing away there. `authorization`: policies that the rescue keeps
    (metadata and spec). `flip`: clients look at the pod's tlsMode label, so `direct` inbound has to change it. `ports`:
    where clients are known to come in."""

    findings: tuple[Finding, ...]
    mtls: Mtls = Mtls.STRICT
    mtls_by_port: Mapping[Port, Mtls] = field(default_factory=dict)
    outbound_free: bool = False
    authorization: tuple[Mapping[str, Any], ...] = ()
    flip: bool = False
    ports: tuple[Port, ...] = ()

    def refusals(self, direction: Direction, level: Level) -> tuple[Finding, ...]:
        """Of the whole level first, then of single ports."""
        found = [f for f in self.findings if f.verdict is Verdict.REFUSE and f.concerns(direction, level)]
        return tuple(sorted(found, key=lambda finding: finding.port is not None))

    def allows(self, direction: Direction, level: Level) -> bool:
        """For some port at least."""
        refused = {finding.port for finding in self.refusals(direction, level)}
        return None not in refused and (not self.ports or not refused.issuperset(self.ports))

    def closed_ports(self, direction: Direction, level: Level) -> frozenset[Port]:
        return frozenset(f.port for f in self.refusals(direction, level) if f.port is not None)

    def because(self, direction: Direction, level: Level) -> str:
        """Why the level may not be used, with its code; "" when it may, on one port at least."""
        if self.allows(direction, level):
            return ""
        found = self.refusals(direction, level)
        others = sorted({str(finding.code) for finding in found} - {str(found[0].code)})
        return f"{found[0].code} {found[0].sentence}" + (f" (also {', '.join(others)})" if others else "")

    @property
    def codes(self) -> frozenset[Code]:
        return frozenset(finding.code for finding in self.findings)

    def limit(self, policy: Policy) -> Policy:
        """The policy without what is refused here, and with what the engine must know of the mesh. What cannot be told
        port by port (the rescue's one door, all of outbound) is taken away as a whole."""
        strict_granted = any(f.code is Code.STRICT_MTLS and f.accepted for f in self.findings)
        return replace(
            policy,
            inbound=self._left(Direction.INBOUND, policy.inbound),
            outbound=self._left(Direction.OUTBOUND, policy.outbound),
            outbound_free=self.outbound_free,
            mtls=self.mtls,
            mtls_by_port=dict(self.mtls_by_port),
            strict_granted=strict_granted,
            never_direct=self.closed_ports(Direction.INBOUND, Level.DIRECT),
        )

    def _left(self, direction: Direction, levels: tuple[Level, ...]) -> tuple[Level, ...]:
        return tuple(level for level in levels if level not in OPEN_LEVELS or self._open(direction, level))

    def _open(self, direction: Direction, level: Level) -> bool:
        by_port = direction is Direction.INBOUND and level is Level.DIRECT
        return self.allows(direction, level) if by_port else not self.refusals(direction, level)


def gathered(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """Findings of one code, level and port as one: the first by its object's name speaks, the others are counted."""
    groups: dict[tuple[object, ...], list[Finding]] = {}
    for f in findings:
        groups.setdefault((f.code, f.verdict, f.direction, f.port, f.level), []).append(f)
    return tuple(_as_one(sorted(members, key=lambda finding: str(finding.object))) for members in groups.values())


def _as_one(findings: list[Finding]) -> Finding:
    first, others = findings[0], [str(finding.object) for finding in findings[1:]]
    if not others:
        return first
    rest = f", and {len(others) - SHOWN} more" if len(others) > SHOWN else ""
    return replace(first, sentence=f"{first.sentence}; likewise {', '.join(others[:SHOWN])}{rest}")


def accept(findings: Iterable[Finding], codes: frozenset[str]) -> tuple[Finding, ...]:
    return tuple(_accepted(f) if f.code in codes and acceptable(f.code) else f for f in findings)


def _accepted(finding: Finding) -> Finding:
    if finding.verdict is not Verdict.REFUSE:
        return finding
    sentence = f"{finding.sentence} (accepted by the mesh's administrators)"
    return replace(finding, verdict=Verdict.DEGRADED, sentence=sentence, accepted=True)
