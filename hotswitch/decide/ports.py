"""Openings port by port: what is open where, and which ports may be `direct` under mutual TLS (I2).

An opening is a level for all ports with exceptions. Under STRICT a port is never `direct`; where STRICT is the rule and
only some ports are not, those are the exceptions and all others stay captured.
"""

from __future__ import annotations

from collections.abc import Mapping

from hotswitch.model import NEVER_OPENED, OPEN_LEVELS, Direction, Level, Mtls, Opening, Policy, Port

CLOSED = Opening(Level.HOLD)


def direct_inbound(policy: Policy, app_ports: frozenset[Port]) -> Opening | None:
    """`direct` for every port that nothing forbids; None when that would help nobody."""
    if app_ports and all(_forbidden(policy, port) for port in app_ports):
        return None
    named = policy.mtls_by_port.keys() | policy.never_direct
    closed = {port for port in named if _forbidden(policy, port)}
    if policy.mtls is not Mtls.STRICT or policy.strict_granted:
        return Opening(Level.DIRECT, dict.fromkeys(sorted(closed - NEVER_OPENED), Level.HOLD))
    lenient = sorted(policy.mtls_by_port.keys() - closed - NEVER_OPENED)
    return Opening(Level.HOLD, dict.fromkeys(lenient, Level.DIRECT)) if lenient else None


def _forbidden(policy: Policy, port: Port) -> bool:
    strict = policy.mtls_on(port) is Mtls.STRICT and not policy.strict_granted
    return strict or port in policy.never_direct


def level_on(opening: Opening, port: Port) -> Level:
    level = opening.ports.get(port, opening.level)
    return level if level in OPEN_LEVELS else Level.HOLD


def effective(opening: Opening) -> Level:
    """The one word for an opening: its level, or that of its open exceptions."""
    if opening.level in OPEN_LEVELS:
        return opening.level
    return next((level for level in opening.ports.values() if level in OPEN_LEVELS), opening.level)


def within(inner: Opening, outer: Opening) -> bool:
    """Whether everything that `inner` opens is open in `outer` at the same level."""
    ports = inner.ports.keys() | outer.ports.keys()
    pairs = [(level_on(inner, port), level_on(outer, port)) for port in ports]
    pairs.append((level_on(Opening(inner.level), 0), level_on(Opening(outer.level), 0)))
    return all(mine is Level.HOLD or mine is theirs for mine, theirs in pairs)


def same(one: Mapping[Direction, Opening], other: Mapping[Direction, Opening]) -> bool:
    """Whether the kernel's gate would be the same."""
    ways = [(one.get(way, CLOSED), other.get(way, CLOSED)) for way in Direction]
    return all(within(left, right) and within(right, left) for left, right in ways)
