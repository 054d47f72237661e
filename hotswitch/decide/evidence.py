"""What single facts show, before anybody says what is wrong: runs of like answers, stuck queues, fresh dumps.

A fact that is missing or too old shows nothing (I2: what is not known never counts as a fault).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from hotswitch.model import (
    ENVOY_INBOUND,
    ENVOY_OUTBOUND,
    HEALTH,
    AcceptQueue,
    Facts,
    Listeners,
    PathComparison,
    Port,
    Probe,
    ProbeOutcome,
    Thresholds,
)

SERVING_PORTS: tuple[Port, ...] = (HEALTH, ENVOY_INBOUND, ENVOY_OUTBOUND)  # whose accept queues tell of a hang
FRESH_S = 1.0  # an older dump of the listeners says nothing about now; on suspicion one is taken every 50 ms
UNKNOWN_PRESSURE_FACTOR = 2  # nothing can be excluded without the cgroup, so twice as much is asked for
WORKER_FACTOR = 2  # one worker of several: its queue must stand twice as long as those of a proxy hung as a whole
OVERWORKED_FACTOR = 8
"""A queue that never shrinks is no hang while every worker is at work: the proxy may have more to do than it can. Only
after so much longer (2 s, or 4 s for one worker) is it the same to its clients. So it is when requests fail in a proxy
whose workers are busy: that little of a worker's time goes to our own questions does not make it busy."""


def answers(facts: Facts) -> tuple[Probe, ...]:
    """Probes that say something: those during which our own loop was late are left out."""
    return tuple(probe for probe in facts.probes if probe.outcome is not ProbeOutcome.INVALID)


def trailing(said: tuple[Probe, ...], outcome: ProbeOutcome) -> tuple[Probe, ...]:
    """The newest answers as far as they all are `outcome`, oldest first."""
    length = 0
    while length < len(said) and said[-1 - length].outcome is outcome:
        length += 1
    return said[len(said) - length :]


def fresh_dump(facts: Facts) -> Listeners | None:
    """The dump of all LISTEN sockets, if it still tells of now."""
    dump = facts.listeners
    return dump if dump is not None and facts.at_s - dump.at_s <= FRESH_S else None


def path_blames_proxy(facts: Facts, since_s: float) -> PathComparison | None:
    """The comparison of both ways, if it was made after `since_s` and the proxied way alone fails."""
    path = facts.path
    return path if path is not None and path.at_s >= since_s and path.blames_proxy else None


@dataclass(frozen=True, slots=True)
class Patience:
    """The thresholds, made stricter where nothing is known of the proxy's cgroup, and where it works hard."""

    probes: int
    queue_s: float
    worker_s: float
    path_streak: int

    @classmethod
    def of(cls, facts: Facts, thresholds: Thresholds) -> Patience:
        pressure = facts.pressure
        factor = 1 if pressure.known or pressure.stopped else UNKNOWN_PRESSURE_FACTOR
        at_work = pressure.overworked or pressure.undecided
        maybe_late = (pressure.busy or pressure.undecided) and not pressure.stopped
        queue_s = thresholds.hung_queue_s * (OVERWORKED_FACTOR if at_work else 1)
        return cls(
            probes=max(1, thresholds.hung_probes) * factor,
            queue_s=queue_s,
            worker_s=queue_s * WORKER_FACTOR * factor,
            path_streak=2 * factor * (OVERWORKED_FACTOR if maybe_late else 1),
        )


def stuck_ports(dump: Listeners | None, at_least_s: float) -> tuple[Port, ...]:
    """Ports none of whose sockets is being served, in one family at least."""
    return _ports_where(dump, lambda queues: all(_stuck(queue, at_least_s) for queue in queues))


def standing_ports(dump: Listeners | None, at_least_s: float) -> tuple[Port, ...]:
    """Ports with at least one socket that is not being served."""
    return _ports_where(dump, lambda queues: any(_stuck(queue, at_least_s) for queue in queues))


def half_stuck_ports(dump: Listeners | None, at_least_s: float) -> tuple[Port, ...]:
    """Ports with a socket that stands and another that is served: one worker of several."""
    return _ports_where(dump, lambda queues: _half_stuck(queues, at_least_s))


def _ports_where(dump: Listeners | None, holds: Callable[[tuple[AcceptQueue, ...]], bool]) -> tuple[Port, ...]:
    if dump is None:
        return ()
    return tuple(port for port in SERVING_PORTS if any(holds(queues) for queues in _by_family(dump.on(port))))


def _by_family(queues: tuple[AcceptQueue, ...]) -> list[tuple[AcceptQueue, ...]]:
    """The probes go to IPv4 alone: that nobody waits at the sockets of IPv6 does not mean that they are served."""
    families = (tuple(queue for queue in queues if queue.ipv6 is ipv6) for ipv6 in (False, True))
    return [family for family in families if family]


def _stuck(queue: AcceptQueue, at_least_s: float) -> bool:
    return queue.waiting > 0 and queue.stuck_s >= at_least_s


def _half_stuck(queues: tuple[AcceptQueue, ...], at_least_s: float) -> bool:
    stands = [_stuck(queue, at_least_s) for queue in queues]
    return any(stands) and not all(stands)


def described(ports: frozenset[Port] | tuple[Port, ...]) -> str:
    return ", ".join(str(port) for port in sorted(ports)) or "none"
