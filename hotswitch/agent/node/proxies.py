"""Where the proxies of the node's pods run now: their containers come and go within their pods (S4.2).

Looked for where the container that was known has no process any more, or its Envoy has only begun. Before that a proxy
is ill, most often; so the well ones are looked at in turn, some of them in each round.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from itertools import islice

from hotswitch.agent.guard import Guard
from hotswitch.agent.node.finder import Finder, Proxy, Wanted
from hotswitch.kernel import procfs
from hotswitch.kernel.cgroup import Container
from hotswitch.kernel.process import read
from hotswitch.model import Fault, PodRef
from hotswitch.observe.ends import ENVOY

WELL_ROUNDS = 10  # until each pod that is well has had its look


class Proxies:
    """By pod uid. `finder` is asked in a thread."""

    def __init__(self, finder: Finder) -> None:
        self._finder = finder
        self._of: dict[str, Proxy] = {}
        self._round, self._ill = 0, set[str]()

    def of(self, uid: str) -> Proxy:
        """One without a process, where none is known."""
        return self._of.get(uid, Proxy())

    def put(self, uid: str, proxy: Proxy) -> None:
        self._of[uid] = proxy

    def forget(self, uid: str) -> None:
        self._of.pop(uid, None)

    def container(self, ref: PodRef) -> Container:
        return Container(self.of(ref.uid).cgroups, self._finder.proc, partial(self._members, ref))

    async def look(self, guards: Mapping[str, Guard], asked: Callable[[Iterable[str]], list[Wanted]]) -> None:
        """A round: guards of proxies that run elsewhere now are told. `asked`: what to look for, by uid."""
        wanted = asked(self._lost(guards))
        found = await asyncio.to_thread(self._finder.proxies, wanted) if wanted else {}
        for uid, proxy in found.items():
            guard = guards.get(uid)
            if guard is not None and proxy.pids and proxy != self._of.get(uid):
                self._of[uid] = proxy
                guard.watch.see_container(self.container(guard.pod))
                guard.watch.look_soon()  # whose threads are to be heard of from now on

    def _lost(self, guards: Mapping[str, Guard]) -> set[str]:
        before, self._ill = self._ill, {uid for uid, guard in guards.items() if _is_ill(guard)}
        self._round += 1
        ill = (before | self._ill) & guards.keys()
        in_turn = islice(guards.items(), self._round % WELL_ROUNDS, None, WELL_ROUNDS)
        lost = {uid for uid in ill if not self._has_envoy(guards[uid].pod)}
        return lost | {uid for uid, guard in in_turn if uid not in ill and not self._members(guard.pod)}

    def _has_envoy(self, ref: PodRef) -> bool:
        return any(read(pid, self._finder.proc).name == ENVOY for pid in self._members(ref))

    def _members(self, ref: PodRef) -> list[int]:
        """The known processes of the proxy's container that are still there."""
        proxy = self.of(ref.uid)
        here = procfs.Place(ref.uid, proxy.container)
        return [pid for pid in proxy.pids if procfs.place(pid, self._finder.proc) == here]


def _is_ill(guard: Guard) -> bool:
    return guard.standing.fault is not Fault.WELL or guard.watch.suspicious
