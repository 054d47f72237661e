"""The proxy's death, supposed: for `plan`, and to have the hot path warm when it is needed.

A decision taken for the first time costs Python some milliseconds more than the fiftieth; nobody should wait for that
while a proxy is dead. Rehearsing decides on supposed facts and does nothing.
"""

from __future__ import annotations

from dataclasses import replace

from hotswitch.agent.guard import Guard
from hotswitch.model import Facts, Listeners, Tripwire

REHEARSALS = 50


def if_dead(facts: Facts) -> Facts:
    """The same pod with its proxy's process gone this instant."""
    kept = () if facts.listeners is None else facts.listeners.queues
    without_proxy = tuple(queue for queue in kept if not 15000 <= queue.port < 15100)
    return replace(
        facts,
        tripwire=Tripwire.REFUSED,
        tripwire_since_s=facts.at_s,
        listeners=Listeners(facts.at_s, without_proxy),
        probes=(),
    )


def if_killed(facts: Facts) -> Facts:
    """The same pod at the instant at which the kernel begins to end its Envoy."""
    return replace(facts, envoy_doomed_s=facts.at_s)


def rehearse(guard: Guard) -> None:
    """Decide on the guard's pod as if its proxy had died, again and again; changes nothing. About 50 ms."""
    for _ in range(REHEARSALS):
        guard.hypothetical(if_dead(guard.facts()))
        prepare(guard)


def prepare(guard: Guard) -> None:
    """Have the message ready by which the gate would open. Under 1 ms."""
    for decision in guard.hypothetical(if_killed(guard.facts())):
        guard.gate.prepare(decision.openings)
