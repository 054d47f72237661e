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

from hotswitch.agent.granted import GrantedGuard
from hotswitch.agent.guard import Guard
from hotswitch.agent.rescue_need import needs_rescue
from hotswitch.model import PodRef, PodUid
from hotswitch.report.journal import Journal, entry

LOOK_S = 0.1
DRAINED_WITHIN_S = 40.0  # after what was closed in the end
NODE = PodRef("-", "-", PodUid(""))  # in the journal, for what is of no pod
Guards = Callable[[], Iterable[Guard]]


class Leaving:
    """`begun`: the rescue is about to end, and nobody new may be led to it."""

    def __init__(self, guards: Guards, journal: Journal) -> None:
        self._guards, self._journal = guards, journal
        self.begun = False

    async def done(self, patience_s: float) -> None:
        """Nobody is rescued any longer."""
        guards = self._guards
        if not (waited_for := served(guards(), asyncio.get_running_loop().time())):
            return
        self._say(waited_for, f"the rescue ends with this agent, which waits {patience_s:g} s for them at most")
        for guard in await until_nobody_is_served(guards, patience_s):
            self._say([guard], "its proxy is not back, and the rescue ends: closed")
            guard.give_up()
        self.begun = True
        for guard in list(guards()):
            if isinstance(guard, GrantedGuard):
                guard.leave()
        await until_nobody_is_served(guards, DRAINED_WITHIN_S)
        self._say([], "nobody is rescued: the agent ends")

    def _say(self, pods: Iterable[Guard], what: str) -> None:
        named = {f"pod {number}": str(each.pod) for number, each in enumerate(pods, 1)}
        self._journal.write(entry("leaving", NODE, why=what, evidence=named))


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
