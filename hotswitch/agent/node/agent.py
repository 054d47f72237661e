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
from collections.abc import Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from msgspec import structs

from hotswitch.agent.agent import Agent
from hotswitch.agent.authority import Authority, surroundings
from hotswitch.agent.granted import GrantedGuard
from hotswitch.agent.guard import Guard
from hotswitch.agent.linked import speaking
from hotswitch.agent.main import give_back
from hotswitch.agent.node.describe import Undescribed, described, known, reached, wanted
from hotswitch.agent.node.finder import Finder, Found, NotFound, Proxy, Wanted
from hotswitch.agent.node.leaving import served, until_nobody_is_served
from hotswitch.agent.node.memory import Manifests, Memory, trimmed
from hotswitch.agent.node.roster import Roster
from hotswitch.agent.node.settings import NodeSettings
from hotswitch.agent.rehearsal import rehearse
from hotswitch.agent.spare import Spare
from hotswitch.cluster import pods
from hotswitch.cluster.client import connect
from hotswitch.cluster.failure import ApiFailure
from hotswitch.config.agentfile import Pod
from hotswitch.kernel import pins, procfs
from hotswitch.kernel.cgroup import Container
from hotswitch.kernel.process import read
from hotswitch.model import Fault, PodRef, PodUid, Surroundings
from hotswitch.observe.ends import ENVOY
from hotswitch.observe.podlife import reference, terminating
from hotswitch.report.journal import entry
from hotswitch.rescue.service import Rescue, RescueBusy, RescueUnavailable
from hotswitch.rescue.xds import RescueUnanswered

ATTACH_S = 20.0
READ_AT_ONCE = 8
LOOK_S = 1.0  # how often proxies that have no process are looked for, and pods that were not found
WELL_ROUNDS = 10  # of such looks, until each pod that is well has had one
RETRY_MOST_S = 15.0
DRAINED_WITHIN_S = 40.0  # after what was closed in the end
_NODE = PodRef("-", "-", PodUid(""))


class NodeAgent(Agent):
    """Raises as Agent; ConnectError when no API server is named."""

    def __init__(self, node: NodeSettings, authority: Authority) -> None:
        super().__init__(node.agent_file())
        self.node, self.authority = node, authority
        self.journal.heard = authority.acted
        self.finder = Finder(node.proc, node.cgroups)
        self.proxies: dict[str, Proxy] = {}
        self._memory = Memory(node.directory / "pods")
        self._manifests = Manifests()
        self._manifests.update({found["metadata"]["uid"]: found for found in self._memory.read()})
        self._retry_s: dict[str, tuple[float, float]] = {}  # uid: not before, and the pause that led there
        self._said: dict[str, str] = {}
        self._round, self._ill = 0, set[str]()
        self._leaves = False  # and nobody new is led to its rescue
        self._news = asyncio.Event()
        self._stack = contextlib.AsyncExitStack()
        self._keeping: asyncio.Task[None] | None = None

    # ---- life ----

    async def start(self) -> None:
        await self._stack.enter_async_context(speaking(self.authority))
        self._cluster = await self._stack.enter_async_context(connect(self.node.kubeconfig))
        await super().start()
        remembered = _remembered(self._manifests)
        self.roster = Roster(self._cluster, self.node.node, remembered, self._news.set)
        self.roster.start()
        self._stack.push_async_callback(self.roster.close)
        self._keeping = asyncio.get_running_loop().create_task(self._keep_up())

    async def run(self) -> None:
        """Until SIGTERM, and then until nobody is rescued any longer (leaving)."""
        await super().run()
        await self.drills.close()
        if self.node.leave_within is not None:
            await self._leave(self.node.leave_within)

    async def _leave(self, patience_s: float) -> None:
        guards, now_s = self.guards.values, asyncio.get_running_loop().time()
        if not (waited_for := served(guards(), now_s)):
            return
        self._say_leaving(waited_for, f"the rescue ends with this agent, which waits {patience_s:g} s for them at most")
        for guard in await until_nobody_is_served(guards, patience_s):
            self._say_leaving([guard], "its proxy is not back, and the rescue ends: closed")
            guard.give_up()
        self._leaves = True
        for guard in list(guards()):
            if isinstance(guard, GrantedGuard):
                guard.leave()
        await until_nobody_is_served(guards, DRAINED_WITHIN_S)
        self._say_leaving([], "nobody is rescued: the agent ends")

    def _say_leaving(self, pods: Iterable[Guard], what: str) -> None:
        named = {f"pod {number}": str(each.pod) for number, each in enumerate(pods, 1)}
        self.journal.write(entry("leaving", _NODE, why=what, evidence=named))

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
        due = {uid: pod for uid, pod in wanted.items() if uid not in self.guards and self._is_due(uid)}
        await self._attach_all(due)
        await self._find_proxies()

    def _missing(self) -> list[str]:
        return [uid for uid in self.roster.wanted() if uid not in self.guards]

    def _is_due(self, uid: str) -> bool:
        return asyncio.get_running_loop().time() >= self._retry_s.get(uid, (0.0, 0.0))[0]

    async def _attach_all(self, new: dict[str, pods.Pod]) -> None:
        if not new:
            return
        slots = asyncio.Semaphore(READ_AT_ONCE)
        read = await asyncio.gather(*(self._wanted(pod, slots) for pod in new.values()))
        asked = {each.uid: each for each in read if each is not None}
        found = await asyncio.to_thread(self.finder.find, asked.values()) if asked else {}
        for uid, each in found.items():
            await self._attach_one(new[uid], each)

    async def _wanted(self, pod: pods.Pod, slots: asyncio.Semaphore) -> Wanted | None:
        """Whatever is odd about one pod keeps no other one from being guarded."""
        try:
            manifest = await self._read(pod, slots)
            return None if manifest is None else wanted(pod, manifest)
        except Undescribed as failure:
            self._not_guarded(reference(pod), str(failure))
        except Exception as failure:
            self._not_guarded(reference(pod), f"{type(failure).__name__}: {failure}")
        return None

    async def _read(self, pod: pods.Pod, slots: asyncio.Semaphore) -> dict[str, Any] | None:
        """Its whole manifest; while the API cannot be asked, as it was remembered."""
        if not self.roster.synced and pod.uid in self._manifests:
            return self._manifests[pod.uid]
        async with slots:
            try:
                whole = trimmed(await pods.manifest(self._cluster, pod))
            except ApiFailure as failure:
                if pod.uid not in self._manifests:
                    self._not_guarded(reference(pod), str(failure))
                return self._manifests.get(pod.uid)
        if whole != self._manifests.get(pod.uid):
            self._manifests[pod.uid] = whole
            with contextlib.suppress(OSError):
                await asyncio.to_thread(self._memory.keep, pod.uid, whole)
        return whole

    async def _attach_one(self, pod: pods.Pod, found: Found | NotFound) -> None:
        if isinstance(found, NotFound):
            self._not_guarded(reference(pod), str(found))
            return
        pin = self._pins / f"{found.uid}.{found.cookie}"
        try:
            async with asyncio.timeout(ATTACH_S):
                await asyncio.to_thread(pins.pin, found.namespace, pin)
                settings = described(pod, self._manifests[pod.uid], pin, found.proxy, self.node.proc)
                self.specs[pod.uid], self.proxies[pod.uid] = self._spec(settings), found.proxy
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
            self._retry_s.pop(pod.uid, None)
            self._said.pop(pod.uid, None)
        else:
            self._unpin(pin)

    @property
    def _pins(self) -> Path:
        return self.node.directory / "netns"

    def _not_guarded(self, pod: PodRef, why: str) -> None:
        """Said once for each reason; tried again after a pause that doubles."""
        now_s = asyncio.get_running_loop().time()
        pause_s = min(max(LOOK_S, 2 * self._retry_s.get(pod.uid, (0.0, 0.0))[1]), RETRY_MOST_S)
        self._retry_s[pod.uid] = now_s + pause_s, pause_s
        if self._said.get(pod.uid) != why:
            self._said[pod.uid] = why
            super()._not_guarded(pod, why)

    def _say_of_node(self, why: str) -> None:
        if self._said.get("") != why:
            self._said[""] = why
            self.journal.write(entry("node", _NODE, failed=why))

    def _forget(self, uid: str) -> None:
        self._manifests.pop(uid, None)
        self._retry_s.pop(uid, None)
        self._said.pop(uid, None)
        if uid not in self.guards:  # one that could never be guarded
            self.specs.pop(uid, None)
            self.proxies.pop(PodUid(uid), None)
        self._memory.forget(uid)

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

    # ---- proxies come and go within their pods ----

    async def _find_proxies(self) -> None:
        """Where the container that was known has no process any more, or its Envoy has only begun. Before that a proxy
        is ill, most often; so the well ones are looked at in turn."""
        before, self._ill = self._ill, {uid for uid, guard in self.guards.items() if _is_ill(guard)}
        self._round += 1
        in_turn = set(list(self.guards)[self._round % WELL_ROUNDS :: WELL_ROUNDS])
        ill = (before | self._ill) & self.guards.keys()
        lost = {uid for uid in ill if not self._has_envoy(self.guards[uid].pod)}
        lost |= {uid for uid in in_turn - ill if not self._members(self.guards[uid].pod)}
        asked = []
        for uid in lost & self._manifests.keys():
            pod = self.roster.wanted().get(uid)
            if pod is not None:
                with contextlib.suppress(Undescribed):
                    asked.append(wanted(pod, self._manifests[uid]))
        found = await asyncio.to_thread(self.finder.proxies, asked) if asked else {}
        for uid, proxy in found.items():
            guard = self.guards.get(uid)
            if guard is not None and proxy.pids and proxy != self.proxies.get(uid):
                self.proxies[uid] = proxy
                guard.watch.see_container(self._container(guard.pod))
                guard.watch.look_soon()  # whose threads are to be heard of from now on

    def _has_envoy(self, ref: PodRef) -> bool:
        return any(read(pid, self.node.proc).name == ENVOY for pid in self._members(ref))

    def _container(self, ref: PodRef) -> Container:
        return Container(self.proxies[ref.uid].cgroups, self.node.proc, partial(self._members, ref))

    def _members(self, ref: PodRef) -> list[int]:
        """The known processes of the proxy's container that are still there."""
        proxy = self.proxies.get(ref.uid, Proxy())
        here = procfs.Place(ref.uid, proxy.container)
        return [pid for pid in proxy.pids if procfs.place(pid, self.node.proc) == here]

    # ---- guards ----

    def _spare(self, pod: Pod) -> Spare:
        def reach(socket: Path) -> contextlib.AbstractContextManager[Path]:
            return reached(socket, pod.ref, self.proxies.get(pod.uid, Proxy()), self.node.proc)

        return Spare(pod, self.specs[pod.uid], self.rescue, self.journal, self.no_rescue, reach)

    def _begin(self, spare: Spare) -> None:
        """Its guard begins, once a grant says what the rescue must keep up."""

    def _guard(self, pod: Pod, spare: Spare) -> Guard:
        proxy = self.proxies[pod.uid]
        guard = GrantedGuard(
            pod,
            self.specs[pod.uid],
            self._means(),
            spare,
            self.authority,
            container=self._container(pod.ref),
            proxy_user=proxy.user,
            mapped=proxy.mapped,
        )
        guard.leaves = self._leaves
        return guard

    def _surroundings(self, guard: Guard) -> Surroundings:
        now_s = asyncio.get_running_loop().time()
        return surroundings(guard, self._neighbours, self.authority.right(guard.pod), now_s=now_s)

    def _gone(self, guard: Guard) -> None:
        super()._gone(guard)
        self.proxies.pop(guard.pod.uid, None)
        self.specs.pop(guard.pod.uid, None)
        self._unpin(Path(guard.settings.netns))
        self._news.set()

    def _unpin(self, pin: Path) -> None:
        try:
            pins.unpin(pin)
        except OSError as failure:
            self._say_of_node(str(failure))


def _is_ill(guard: Guard) -> bool:
    return guard.standing.fault is not Fault.WELL or guard.watch.suspicious


def _remembered(manifests: Mapping[str, dict[str, Any]]) -> dict[str, pods.Pod]:
    """A pod that was written down otherwise, by an earlier version, is none: the API tells of it."""
    found = {}
    for uid, manifest in manifests.items():
        with contextlib.suppress(Undescribed):
            found[uid] = known(manifest)
    return found
