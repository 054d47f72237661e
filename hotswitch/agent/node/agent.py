"""`hotswitch agent --node`: the agent of all pods of a node (S4.2, I1, I3, I6).

Pods come by the roster and are found by the finder; each is attached within ATTACH_S, and one that cannot be is tried
again, the others meanwhile go on. What happens at a fault is the standalone agent's work, within each pod's grant: no
API server, no controller and no other pod has a part in it. A pod's namespace is held by a pin (kernel.pins), which is
its name for the rescue Envoy as well; guard and pin are dropped when the pod's network is gone.

SIGTERM leaves gates as they are, for the next agent; but not before nothing leads to the rescue any longer, which ends
with the container (leaving).
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Iterable
from pathlib import Path

from msgspec import structs

from hotswitch.agent.agent import Agent, node_account
from hotswitch.agent.authority import Authority, surroundings
from hotswitch.agent.granted import GrantedGuard
from hotswitch.agent.guard import Guard
from hotswitch.agent.linked import speaking
from hotswitch.agent.main import give_back
from hotswitch.agent.node.describe import Undescribed, described, reached, wanted
from hotswitch.agent.node.finder import Finder, Found, NotFound, Wanted
from hotswitch.agent.node.leaving import NODE, Leaving
from hotswitch.agent.node.proxies import Proxies
from hotswitch.agent.node.reader import Reader
from hotswitch.agent.node.retries import Retries
from hotswitch.agent.node.roster import Roster
from hotswitch.agent.node.settings import NodeSettings
from hotswitch.agent.rehearsal import rehearse
from hotswitch.agent.spare import Spare
from hotswitch.cluster import pods
from hotswitch.cluster.client import connect
from hotswitch.cluster.failure import ApiFailure
from hotswitch.config.agentfile import Pod
from hotswitch.kernel import pins
from hotswitch.model import PodRef, Surroundings
from hotswitch.observe.podlife import reference, terminating
from hotswitch.report.journal import entry
from hotswitch.rescue.service import Rescue, RescueBusy, RescueUnavailable
from hotswitch.rescue.xds import RescueUnanswered

ATTACH_S = 20.0
LOOK_S = 1.0  # how often proxies that have no process are looked for, and pods that were not found


class NodeAgent(Agent):
    """Raises as Agent; ConnectError when no API server is named."""

    def __init__(self, node: NodeSettings, authority: Authority) -> None:
        super().__init__(node.agent_file())
        self.node, self.authority = node, authority
        self.journal.heard = authority.acted
        self.finder = Finder(node.proc, node.cgroups)
        self.proxies = Proxies(self.finder)
        self._reader = Reader(node.directory / "pods")
        self._manifests = self._reader.manifests
        self._retries = Retries()
        self._leaving = Leaving(self.guards.values, self.journal)
        self._news = asyncio.Event()
        self._stack = contextlib.AsyncExitStack()
        self._keeping: asyncio.Task[None] | None = None

    # ---- life ----

    async def start(self) -> None:
        await self._stack.enter_async_context(speaking(self.authority))
        self._cluster = await self._stack.enter_async_context(connect(self.node.kubeconfig))
        await super().start()
        self.roster = Roster(self._cluster, self.node.node, self._reader.remembered(), self._news.set)
        self.roster.start()
        self._stack.push_async_callback(self.roster.close)
        self._keeping = asyncio.get_running_loop().create_task(self._keep_up())

    async def run(self) -> None:
        """Until SIGTERM, and then until nobody is rescued any longer (leaving)."""
        await super().run()
        await self.drills.close()
        if self.node.leave_within is not None:
            await self._leaving.done(self.node.leave_within)

    async def close(self) -> None:
        if self._keeping is not None:
            self._keeping.cancel()
            await asyncio.gather(self._keeping, return_exceptions=True)
        await self._stack.aclose()  # first: else the controller is told that the pods are gone, and only we are
        await super().close()

    async def _let_go(self, rescue: Rescue) -> None:
        """It ends with the container, or is adopted by our successor: we have no right to end it, nor need to."""
        await rescue.leave()

    async def reload(self) -> None:
        """There is no file; everything is known as it changes."""

    async def _start_rescue(self) -> Rescue | None:
        try:
            return await super()._start_rescue()
        except (RescueUnavailable, RescueBusy, OSError) as failure:
            self.no_rescue = f"the rescue does not start: {failure}"
            self._say_of_node(self.no_rescue)
            return None

    async def _settle(self, rescue: Rescue) -> None:
        """When all pods are there: see `_keep_up`."""

    # ---- keeping up with the node ----

    async def _keep_up(self) -> None:
        settled = False
        while True:
            self._news.clear()
            try:
                await self._catch_up()
                if not settled and self.roster.synced and not self._missing():
                    settled = await self._settle_inherited()
            except Exception as failure:  # one odd pod must not end the keeping up with all others
                self._say_of_node(f"{type(failure).__name__}: {failure}")
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LOOK_S):
                    await self._news.wait()

    async def _catch_up(self) -> None:
        wanted = self.roster.wanted()
        for uid, guard in list(self.guards.items()):
            if uid not in wanted:
                if not guard.settings.terminating:
                    guard.give_up()
                self._gone(guard)
            elif terminating(wanted[uid]) and not guard.settings.terminating:
                guard.change_policy(structs.replace(guard.settings, terminating=True))
        for uid in set(self._manifests) - wanted.keys():
            self._forget(uid)
        due = {uid: pod for uid, pod in wanted.items() if uid not in self.guards and self._retries.is_due(uid)}
        await self._attach_all(due)
        await self.proxies.look(self.guards, self._asked)

    def _missing(self) -> list[str]:
        return [uid for uid in self.roster.wanted() if uid not in self.guards]

    async def _attach_all(self, new: dict[str, pods.Pod]) -> None:
        if not new:
            return
        read = await asyncio.gather(*(self._wanted(pod) for pod in new.values()))
        asked = {each.uid: each for each in read if each is not None}
        found = await asyncio.to_thread(self.finder.find, asked.values()) if asked else {}
        for uid, each in found.items():
            await self._attach_one(new[uid], each)

    async def _wanted(self, pod: pods.Pod) -> Wanted | None:
        """Whatever is odd about one pod keeps no other one from being guarded."""
        try:
            if not self.roster.synced and pod.uid in self._manifests:
                return wanted(pod, self._manifests[pod.uid])
            return wanted(pod, await self._reader.read(self._cluster, pod))
        except (Undescribed, ApiFailure) as failure:
            self._not_guarded(reference(pod), str(failure))
        except Exception as failure:
            self._not_guarded(reference(pod), f"{type(failure).__name__}: {failure}")
        return None

    async def _attach_one(self, pod: pods.Pod, found: Found | NotFound) -> None:
        if isinstance(found, NotFound):
            self._not_guarded(reference(pod), str(found))
            return
        pin = self._pins / f"{found.uid}.{found.cookie}"
        try:
            async with asyncio.timeout(ATTACH_S):
                await asyncio.to_thread(pins.pin, found.namespace, pin)
                settings = described(pod, self._manifests[pod.uid], pin, found.proxy, self.node.proc)
                self.specs[pod.uid] = self._spec(settings)
                self.proxies.put(pod.uid, found.proxy)
                await self.attach(structs.replace(settings, terminating=bool(terminating(pod))))
        except (OSError, ValueError, TimeoutError) as failure:
            self._not_guarded(reference(pod), str(failure) or f"not within {ATTACH_S:g} s")
        except Exception as failure:  # in the round of all others
            self._not_guarded(reference(pod), f"{type(failure).__name__}: {failure}")
        finally:
            os.close(found.namespace)
        if (guard := self.guards.get(pod.uid)) is not None:
            if len(self.guards) == 1:
                rehearse(guard)
            self._retries.forget(pod.uid)
        else:
            self._unpin(pin)

    @property
    def _pins(self) -> Path:
        return self.node.directory / "netns"

    def _not_guarded(self, pod: PodRef, why: str) -> None:
        """Said once for each reason; tried again after a pause that doubles."""
        self._retries.put_off(pod.uid)
        if self._retries.is_news(pod.uid, why):
            super()._not_guarded(pod, why)

    def _say_of_node(self, why: str) -> None:
        if self._retries.is_news("", why):
            self.journal.write(entry("node", NODE, failed=why))

    def _forget(self, uid: str) -> None:
        self._retries.forget(uid)
        if uid not in self.guards:  # one that could never be guarded
            self.specs.pop(uid, None)
            self.proxies.forget(uid)
        self._reader.forget(uid)

    async def _settle_inherited(self) -> bool:
        """What the rescue and the pins have from before and no pod here has any more ends."""
        ours = {str(guard.pod) for guard in self.guards.values()}
        if self.rescue is not None:
            for key in self.rescue.inherited - ours:
                with contextlib.suppress(RescueUnanswered):
                    await self.rescue.remove(key)
        held = {Path(guard.settings.netns) for guard in self.guards.values()}
        for pin in pins.pins(self._pins):
            if pin not in held:
                self._unpin(pin)
        give_back()
        return True

    def _asked(self, uids: Iterable[str]) -> list[Wanted]:
        """What to look for; nothing of a pod that is not wanted any longer, or cannot be read."""
        found = []
        for uid in uids:
            pod = self.roster.wanted().get(uid)
            if pod is not None and uid in self._manifests:
                with contextlib.suppress(Undescribed):
                    found.append(wanted(pod, self._manifests[uid]))
        return found

    # ---- guards ----

    def _spare(self, pod: Pod) -> Spare:
        def reach(path: Path) -> contextlib.AbstractContextManager[Path]:
            return reached(path, pod.ref, self.proxies.of(pod.uid), self.node.proc)

        account = node_account(self.settings)
        return Spare(pod, self.specs[pod.uid], self.rescue, self.journal, self.no_rescue, reach, account)

    def _begin(self, spare: Spare) -> None:
        """Its guard begins, once a grant says what the rescue must keep up."""

    def _guard(self, pod: Pod, spare: Spare) -> Guard:
        proxy = self.proxies.of(pod.uid)
        guard = GrantedGuard(
            pod,
            self.specs[pod.uid],
            self._means(),
            spare,
            self.authority,
            container=self.proxies.container(pod.ref),
            proxy_user=proxy.user,
            mapped=proxy.mapped,
        )
        guard.leaves = self._leaving.begun
        return guard

    def _surroundings(self, guard: Guard) -> Surroundings:
        now_s = asyncio.get_running_loop().time()
        return surroundings(guard, self._neighbours, self.authority.right(guard.pod), now_s=now_s)

    def _gone(self, guard: Guard) -> None:
        super()._gone(guard)
        self.proxies.forget(guard.pod.uid)
        self.specs.pop(guard.pod.uid, None)
        self._unpin(Path(guard.settings.netns))
        self._news.set()

    def _unpin(self, pin: Path) -> None:
        try:
            pins.unpin(pin)
        except OSError as failure:
            self._say_of_node(str(failure))
