"""Facts as observe/ would give them, one builder per state of a proxy. Times count from NOW."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from hotswitch.model import (
    AcceptQueue,
    Capabilities,
    Decision,
    Direction,
    Facts,
    Level,
    Listeners,
    Mode,
    Mtls,
    PathComparison,
    PodRef,
    PodUid,
    Policy,
    Port,
    Pressure,
    Probe,
    ProbeOutcome,
    Standing,
    Surroundings,
    Thresholds,
    Tripwire,
    View,
)

NOW = 1000.0
APP: Port = 8080
PROXY_PORTS: tuple[Port, ...] = (15000, 15001, 15006, 15021, 15090)
EVERYTHING: tuple[Port, ...] = (*PROXY_PORTS, 15020, APP)
CALM = Pressure(known=True)
THRESHOLDS = Thresholds()
POD = PodRef("web-0", "shop", PodUid("uid-0"), "deploy/web")
RESCUE_READY = Capabilities(rescue=True)
EVERY_LEVEL = (Level.RESCUE, Level.DIRECT, Level.HOLD)
AUTO = Policy(mode=Mode.AUTO, inbound=EVERY_LEVEL, outbound=(Level.DIRECT, Level.HOLD), mtls=Mtls.PERMISSIVE)

OK, UNREADY, TIMEOUT = ProbeOutcome.OK, ProbeOutcome.UNREADY, ProbeOutcome.TIMEOUT
REFUSED, RESET, TLS, INVALID = ProbeOutcome.REFUSED, ProbeOutcome.RESET, ProbeOutcome.TLS, ProbeOutcome.INVALID


def dump(at_s: float, ports: Iterable[Port], stuck: Mapping[Port, tuple[float, ...]] | None = None) -> Listeners:
    """Two sockets per port, as a proxy with two workers has. `stuck`: per port, how long each socket's head stands."""
    queues = []
    for place, port in enumerate(sorted(ports)):
        stands = (stuck or {}).get(port, (0.0, 0.0))
        queues += [AcceptQueue(port, 10 * place + n, 3 if s > 0 else 0, s) for n, s in enumerate(stands)]
    return Listeners(at_s, tuple(queues))


def probes(*outcomes: ProbeOutcome, until_s: float = NOW, every_s: float = 0.25) -> tuple[Probe, ...]:
    """One after the other, the last one ending at `until_s`."""
    first_s = until_s - every_s * len(outcomes)
    return tuple(
        Probe(first_s + every_s * place, first_s + every_s * (place + 1), outcome)
        for place, outcome in enumerate(outcomes)
    )


def well(at_s: float = NOW, **changed: Any) -> Facts:
    facts = Facts(
        at_s=at_s,
        tripwire=Tripwire.HELD,
        tripwire_since_s=0.0,
        listeners=dump(at_s, EVERYTHING),
        probes=probes(OK, OK, OK, OK, OK, OK, until_s=at_s),
        pressure=CALM,
        path=PathComparison(at_s, proxied=OK, direct=OK),
        path_streak=5,
        path_passes=5,
        app_ports=frozenset({APP}),
        identity_expires_in_s=3600.0,
        proxy_certificate_expires_in_s=3600.0,
        container_running=True,
        ever_ready=True,
    )
    return replace(facts, **changed)


def dead(at_s: float = NOW, *, for_s: float = 1.0, **changed: Any) -> Facts:
    """kill -9, `for_s` ago; the container's state is not known yet."""
    facts = well(
        at_s,
        tripwire=Tripwire.REFUSED,
        tripwire_since_s=at_s - for_s,
        listeners=dump(at_s, (15020, APP)),
        probes=probes(OK, OK, until_s=at_s - for_s),
        path=None,
        path_passes=0,
        container_running=None,
    )
    return replace(facts, **changed)


def hung(at_s: float = NOW, *, for_s: float = 1.0, **changed: Any) -> Facts:
    """SIGSTOP, `for_s` ago: nothing is answered, the queues of 15021 stand."""
    count = max(1, int(for_s / 0.25))
    facts = well(
        at_s,
        listeners=dump(at_s, EVERYTHING, {15021: (for_s, for_s)}),
        probes=probes(OK, *[TIMEOUT] * count, until_s=at_s),
        path=None,
        path_passes=0,
    )
    return replace(facts, **changed)


def view(
    facts: Facts,
    standing: Standing | None = None,
    *,
    policy: Policy = AUTO,
    capabilities: Capabilities = RESCUE_READY,
    surroundings: Surroundings | None = None,
    now_s: float | None = None,
) -> View:
    return View(
        now_s=facts.at_s if now_s is None else now_s,
        pod=POD,
        policy=policy,
        facts=facts,
        standing=standing or Standing(),
        capabilities=capabilities,
        surroundings=surroundings or Surroundings(),
    )


def codes(decisions: Iterable[Decision]) -> list[str]:
    return [decision.code for decision in decisions]


def both(inbound: Level, outbound: Level) -> dict[Direction, Level]:
    return {Direction.INBOUND: inbound, Direction.OUTBOUND: outbound}
