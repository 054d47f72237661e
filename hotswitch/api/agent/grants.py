"""A pod's settings on the wire, as the controller says them and the agent takes them (I2).

What the agent does not know gives nothing away: an unknown level is left out, an unknown mode is `observe`, an unknown
kind of mTLS is STRICT.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import StrEnum
from typing import TypeVar

from hotswitch.api.agent.checked import Malformed, count, seconds, text
from hotswitch.api.agent.v1 import agent_pb2 as wire
from hotswitch.api.drills import FOR_AT_MOST_S, Told
from hotswitch.model import ACTED_ON, Dependency, Direction, Level, Mode, Mtls, Override, Policy, Reaction, Thresholds

_DURATIONS = ("expiry_s", "open_at_most_s", "hold_down_s", "hold_down_max_s", "stale_after_s", "certificate_ends_s")
_THRESHOLDS_S = ("probe_timeout_s", "hung_queue_s", "loop_lag_s", "direct_after_s", "recover_after_s")
_THRESHOLDS = ("hung_probes", "recover_probes")
_SECOND, _SECOND_AT_MOST_S = "second_within_s", 60.0  # older controllers do not say it

E = TypeVar("E", bound=StrEnum)


def policy_message(policy: Policy) -> wire.Policy:
    told = (*_THRESHOLDS_S, *_THRESHOLDS, _SECOND)
    thresholds = {name: getattr(policy.thresholds, name) for name in told}
    return wire.Policy(
        mode=policy.mode,
        inbound=policy.inbound,
        outbound=policy.outbound,
        outbound_free=policy.outbound_free,
        mtls=policy.mtls,
        mtls_by_port=dict(policy.mtls_by_port),
        strict_granted=policy.strict_granted,
        never_direct=sorted(policy.never_direct),
        thresholds=wire.Thresholds(**thresholds),
        dependencies={str(name): str(reaction) for name, reaction in policy.dependencies.items()},
        **{name: getattr(policy, name) for name in _DURATIONS},
    )


def policy_of(message: wire.Policy) -> Policy:
    """Raises Malformed."""
    return Policy(
        mode=_known(message.mode, Mode) or Mode.OBSERVE,
        inbound=_levels(message.inbound),
        outbound=_levels(message.outbound),
        outbound_free=message.outbound_free,
        mtls=_known(message.mtls, Mtls) or Mtls.STRICT,
        mtls_by_port={int(port): _known(mtls, Mtls) or Mtls.STRICT for port, mtls in message.mtls_by_port.items()},
        strict_granted=message.strict_granted,
        never_direct=frozenset(message.never_direct),
        thresholds=_thresholds(message.thresholds),
        dependencies=_reactions(message.dependencies),
        **{name: seconds(name, getattr(message, name)) for name in _DURATIONS},
    )


def _thresholds(told: wire.Thresholds) -> Thresholds:
    read = {name: seconds(f"thresholds.{name}", getattr(told, name)) for name in _THRESHOLDS_S}
    counts = {name: max(1, count(f"thresholds.{name}", getattr(told, name), 1000)) for name in _THRESHOLDS}
    return Thresholds(
        probe_timeout_s=read["probe_timeout_s"],
        hung_probes=counts["hung_probes"],
        hung_queue_s=read["hung_queue_s"],
        loop_lag_s=read["loop_lag_s"],
        direct_after_s=read["direct_after_s"],
        recover_probes=counts["recover_probes"],
        recover_after_s=read["recover_after_s"],
        second_within_s=_second_within_s(told),
    )


def _second_within_s(told: wire.Thresholds) -> float:
    if not told.HasField("second_within_s"):
        return Thresholds().second_within_s
    return seconds(f"thresholds.{_SECOND}", told.second_within_s, at_most=_SECOND_AT_MOST_S)


def _levels(told: Iterable[str]) -> tuple[Level, ...]:
    return tuple(level for each in told if (level := _known(each, Level)) is not None)


def _reactions(told: Mapping[str, str]) -> dict[Dependency, Reaction]:
    found: dict[Dependency, Reaction] = {}
    for name, said in told.items():
        dependency, reaction = _known(name, Dependency), _known(said, Reaction) or Reaction.SAY
        if dependency is not None and (reaction is not Reaction.ACT or dependency in ACTED_ON):
            found[dependency] = reaction
    return found


def _known(value: str, words: type[E]) -> E | None:
    return words(value) if value in set(words) else None


def override_message(override: Override, now_s: float) -> wire.Override:
    levels = {str(way): str(level) for way, level in override.levels.items()}
    return wire.Override(levels=levels, left_s=override.until_s - now_s, reason=override.reason, by=override.by)


def override_of(message: wire.Override, now_s: float) -> Override:
    """On the reader's clock, from its receipt: an order may last as much longer as the message was on its way. Raises
    Malformed."""
    levels: dict[Direction, Level] = {}
    for name, said in message.levels.items():
        way, level = _known(name, Direction), _known(said, Level)
        if way is None or level is None:
            raise Malformed(f"override.levels: {name[:40]!r}: {said[:40]!r} is not known here")
        levels[way] = level
    until_s = now_s + seconds("override.left_s", message.left_s, at_least=-60.0)
    return Override(levels=levels, until_s=until_s, reason=message.reason, by=message.by)


def drill_of(message: wire.PodGrant) -> Told | None:
    """Raises Malformed."""
    if not message.HasField("drill"):
        return None
    drill = message.drill
    return Told(id=text(drill.id), for_s=seconds("drill.for_s", drill.for_s, at_most=FOR_AT_MOST_S), by=text(drill.by))
