"""The end of a node's agent: not before the last pod that is led to its rescue has its proxy back (I1, S4.5).

The rescue Envoy is a process of the agent's container and ends with it. A DaemonSet that is rolled out ends pods node
by node: SIGTERM, a grace period, and only then the next version's pod. So the old agent uses the grace: it goes on
guarding in full, and leaves at the first instant at which the rescue serves nobody. When its patience ends before that,
what is still open is closed: capture by a proxy that is sick is no worse than a gate that leads to nobody, and a proxy
that gets well in the meantime serves (I4).
Why not otherwise: docs/decisions/0019-an-agent-leaves-when-nobody-is-rescued.md.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable

from hotswitch.agent.guard import Guard
from hotswitch.agent.ordered import needs_rescue

LOOK_S = 0.1
Guards = Callable[[], Iterable[Guard]]


def served(guards: Iterable[Guard], now_s: float) -> list[Guard]:
    """Whose flows would meet nobody if the rescue ended now: open ones, and those whose last connections drain."""
    return [each for each in guards if needs_rescue(each.standing.openings) or each.spare.drained_by_s > now_s]


async def until_nobody_is_served(guards: Guards, patience_s: float) -> list[Guard]:
    """Those that are served still when the patience ends; none: the rescue may go."""
    loop = asyncio.get_running_loop()
    deadline_s = loop.time() + patience_s
    while (left := served(guards(), loop.time())) and loop.time() < deadline_s:
        await asyncio.sleep(LOOK_S)
    return left
