"""The standalone agent: guards for the namespaces it was given, one rescue for all, a door for commands (S4.2, I1, I3).

SIGTERM leaves the state as it is: an open gate goes on until its expiry, the rescue Envoy goes on serving, and the next
agent takes both over. SIGHUP reads the file again.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
from dataclasses import replace
from pathlib import Path

import yaml
from msgspec import structs

from hotswitch.agent.drills import Drills
from hotswitch.agent.evidence import Keeper
from hotswitch.agent.guard import Guard
from hotswitch.agent.means import Means
from hotswitch.agent.neighbours import Neighbours
from hotswitch.agent.rehearsal import prepare, rehearse
from hotswitch.agent.spare import Spare
from hotswitch.capture.options import parse
from hotswitch.capture.podspec import spec_from_pod
from hotswitch.capture.spec import CaptureSpec, SpecError
from hotswitch.config.agentfile import AgentFile, Pod, load
from hotswitch.config.told import ConfigError
from hotswitch.kernel.command import CommandFailed
from hotswitch.model import Level, PodRef, PodUid, Surroundings
from hotswitch.observe.pace import Pace
from hotswitch.report.journal import Journal, entry
from hotswitch.report.metrics import Metrics
from hotswitch.rescue.node_account import NodeAccount
from hotswitch.rescue.process import Death
from hotswitch.rescue.service import Rescue
from hotswitch.rescue.xds import RescueUnanswered

_NOBODY = PodRef("-", "-", PodUid(""))


def spec_of(pod: Pod) -> CaptureSpec:
    """Raises SpecError, OSError, or yaml.YAMLError; the message names the pod's manifest or the wrong option."""
    source = pod.capture
    servers = [str(server) for server in source.dns_servers]
    if source.manifest is not None:
        manifest = yaml.safe_load(source.manifest.read_text())
        return spec_from_pod(manifest, ipv6=source.ipv6 or None, dns_servers=servers)
    return parse(source.args or (), source.env, ipv6=source.ipv6, dns_servers=servers)


def node_account(settings: AgentFile) -> NodeAccount | None:
    source = settings.node_account
    return None if source is None else NodeAccount(**structs.asdict(source))


class Agent:
    """Everything one agent process has. `start` raises ConfigError or OSError before anything was changed."""

    def __init__(self, settings: AgentFile, source: Path | None = None) -> None:
        self._source = source
        self.settings = settings
        self.specs = self.check(settings)
        self.journal = Journal(settings.journal)
        self.metrics = Metrics()
        self.evidence = Keeper(settings.evidence, self.journal)
        self.guards: dict[str, Guard] = {}
        self._neighbours = Neighbours()
        self.rescue: Rescue | None = None
        self.no_rescue = "no rescue is configured"
        self.drills = Drills(lambda: list(self.guards.values()), self.journal, self.metrics)
        self._stop = asyncio.Event()
        self._endings: dict[str, asyncio.Task[None]] = {}

    @classmethod
    def check(cls, settings: AgentFile) -> dict[str, CaptureSpec]:
        """What can be checked without touching anything: each pod's capture, by uid. Raises ConfigError."""
        return {pod.uid: cls._spec(pod) for pod in settings.pods}

    @staticmethod
    def _spec(pod: Pod) -> CaptureSpec:
        try:
            return spec_of(pod)
        except (SpecError, OSError, yaml.YAMLError) as failure:
            raise ConfigError(f"pods {pod.ref}: capture: {failure}") from failure

    # ---- life ----

    async def start(self) -> None:
        if self.settings.metrics is not None:
            self.metrics.serve(str(self.settings.metrics.address), self.settings.metrics.port)
        if self.settings.rescue.enabled:
            self.rescue = await self._start_rescue()
        for pod in self.settings.pods:
            await self.attach(pod)
        for guard in list(self.guards.values())[:1]:
            rehearse(guard)
        for guard in self.guards.values():
            prepare(guard)
        if self.rescue is not None:
            self._settling = asyncio.get_running_loop().create_task(self._settle(self.rescue))
        await self.drills.start(self.settings.drill)

    async def _settle(self, rescue: Rescue) -> None:
        """What the rescue has inherited and nobody asked for ends, once every pod has had its say."""
        await asyncio.gather(*(guard.spare.tried.wait() for guard in self.guards.values()))
        with contextlib.suppress(RescueUnanswered):
            await rescue.settle()

    def _rescue_died(self, death: Death) -> None:
        self.metrics.rescue_deaths.inc()
        self.journal.write(entry("rescue-died", _NOBODY, why=str(death)))
        if self.rescue is not None:  # its successor listens first where a gate leads to it
            self.rescue.prefer(str(guard.pod) for guard in self.guards.values() if guard.standing.is_open)
        for guard in self.guards.values():
            guard.watch.look_soon()

    def _rescue_returned(self, key: str) -> None:
        """Pods that are well look at their listeners seldom: tell them that the rescue's doors are there again."""
        for guard in self.guards.values():
            if str(guard.pod) == key:
                guard.watch.look_soon()

    async def _start_rescue(self) -> Rescue | None:
        settings = self.settings.rescue
        rescue = Rescue(
            settings.directory,
            settings.envoy,
            drain_s=settings.drain_s,
            on_death=self._rescue_died,
            on_return=self._rescue_returned,
        )
        await rescue.start()
        return rescue

    async def run(self) -> None:
        """Until SIGTERM or SIGINT."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop.set)
        loop.add_signal_handler(signal.SIGHUP, lambda: loop.create_task(self.reload()))
        await self._stop.wait()

    async def close(self) -> None:
        """Let go of everything and change nothing: gates stay as they are, and so does the rescue that one leads to.
        Only a drill that is under way ends."""
        await self.drills.close()
        for guard in list(self.guards.values()):
            guard.close()
            await guard.spare.close(leave=True)
        if self.rescue is not None:
            await self._let_go(self.rescue)
        self.guards.clear()
        await self.evidence.close()
        self.journal.close()

    async def _let_go(self, rescue: Rescue) -> None:
        in_use = any(Level.RESCUE in guard.standing.levels.values() for guard in self.guards.values())
        await (rescue.leave() if in_use else rescue.stop())

    # ---- pods ----

    async def attach(self, pod: Pod) -> None:
        """Begin to guard a pod. One that cannot be guarded is journalled and left alone; the others go on."""
        if str(pod.ref) in self._endings:  # one of the same name, whose listeners are being taken away
            await asyncio.wait([self._endings[str(pod.ref)]])
        spare = self._spare(pod)
        try:
            guard = self._guard(pod, spare)
            await self._started(guard)
        except (OSError, CommandFailed) as failure:
            self._not_guarded(pod.ref, str(failure))
            return
        self.guards[pod.uid] = guard
        spare.changed = guard.watch.look_soon
        self._begin(spare)
        self.metrics.pods.set(len(self.guards))

    def _not_guarded(self, pod: PodRef, why: str) -> None:
        self.journal.write(entry("attach", pod, failed=why))

    @staticmethod
    async def _started(guard: Guard) -> None:
        """Whatever keeps it from starting, it holds nothing of the pod afterwards."""
        try:
            await guard.start()
        except BaseException:
            guard.close()
            raise

    def _begin(self, spare: Spare) -> None:
        spare.start()

    def _spare(self, pod: Pod) -> Spare:
        return Spare(
            pod, self.specs[pod.uid], self.rescue, self.journal, self.no_rescue, account=node_account(self.settings)
        )

    def _guard(self, pod: Pod, spare: Spare) -> Guard:
        return Guard(pod, self.specs[pod.uid], self._means(), spare)

    def _means(self) -> Means:
        pace = Pace(**structs.asdict(self.settings.pace))
        here = self._neighbours
        around, gone, drill = self._surroundings, self._gone, self.drills.order
        return Means(self.journal, self.metrics, pace, self.evidence, here, around, gone, drill)

    def _gone(self, guard: Guard) -> None:
        if self.guards.pop(guard.settings.uid, None) is None:
            return
        guard.close()
        self.journal.write(entry("gone", guard.pod, generation=guard.standing.generation))
        self.metrics.forget(guard.pod)
        self.metrics.pods.set(len(self.guards))
        ending = asyncio.get_running_loop().create_task(guard.spare.close(leave=False))
        self._endings[str(guard.pod)] = ending
        ending.add_done_callback(lambda _: self._endings.pop(str(guard.pod), None))

    async def reload(self) -> None:
        """Read the file again. A file that cannot be used is journalled and changes nothing."""
        if self._source is None:
            return
        try:
            fresh = load(self._source)
            specs = self.check(fresh)
        except (ConfigError, OSError) as failure:
            self.journal.write(entry("reload", _NOBODY, failed=str(failure)))
            return
        self.settings, self.specs = fresh, specs
        self.drills.change(fresh.drill)
        wanted = {pod.uid: pod for pod in fresh.pods}
        for uid, guard in list(self.guards.items()):
            if uid not in wanted:
                self._gone(guard)
            elif wanted[uid] != guard.settings:
                guard.change_policy(wanted[uid])
        for uid, pod in wanted.items():
            if uid not in self.guards:
                await self.attach(pod)
        self.journal.write(entry("reload", _NOBODY, evidence={"pods": str(len(wanted))}))

    # ---- what happens around one pod ----

    def _surroundings(self, guard: Guard) -> Surroundings:
        around = self._neighbours.around(guard, now_s=asyncio.get_running_loop().time())
        budget = self.settings.budget
        return replace(around, node_budget=budget.node, workload_budget=budget.workload)

    def guard_named(self, name: str) -> Guard:
        """By "namespace/name", "name" or uid. Raises KeyError with a sentence."""
        found = [guard for uid, guard in self.guards.items() if name in (str(guard.pod), guard.pod.name, PodUid(uid))]
        if len(found) != 1:
            raise KeyError(f"pod {name!r}: {'not guarded here' if not found else 'names several pods'}")
        return found[0]
