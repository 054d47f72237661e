"""The desk in its place in the controller: what it needs of the picture and the workers, and its door (S4.2).

A controller that was given no port for agents has the same office, where nobody comes.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

from hotswitch.api.drills import Told as ToldToDrill
from hotswitch.cluster.client import Cluster
from hotswitch.cluster.pods import Pod
from hotswitch.controller.agents.desk import Desk
from hotswitch.controller.agents.granting import Granting, Settings
from hotswitch.controller.agents.plan import Limit, limit_of
from hotswitch.controller.agents.present import Agent
from hotswitch.controller.agents.record import Record
from hotswitch.controller.agents.told import Told
from hotswitch.controller.agents.trust import Doorkeeper
from hotswitch.controller.agents.waiting import Crowd
from hotswitch.controller.agents.witness import Look, nobody_looks
from hotswitch.controller.fleet import Fleet
from hotswitch.controller.picture import Picture
from hotswitch.controller.settings import ControllerSettings
from hotswitch.controller.surroundings import Limits
from hotswitch.decide.damping import mass_failure
from hotswitch.decide.grants import MESH, namespace_scope, scopes_of, workload_scope
from hotswitch.model import PodRef, PodUid, Surroundings
from hotswitch.observe.podlife import reference
from hotswitch.report.controller_metrics import ControllerMetrics

if TYPE_CHECKING:
    from hotswitch.controller.agents.server import AgentServer

LOOK_S = 1.0
REMEMBER_WITHIN_S, NOTE_AGAIN_S = 5.0, 2.0
log = logging.getLogger("hotswitch.agents")
FROZEN = "most pods of the mesh look sick at once: the observers are suspected"


class Office:
    """`run` serves agents until it is cancelled; the rest is called by the controller."""

    def __init__(
        self,
        cluster: Cluster,
        settings: ControllerSettings,
        picture: Picture,
        fleet: Fleet,
        metrics: ControllerMetrics,
        leads: Callable[[], bool] = lambda: True,
        look: Look = nobody_looks,
    ) -> None:
        self._cluster, self._settings, self._picture = cluster, settings, picture
        self._fleet, self._metrics = fleet, metrics
        self._of_node: dict[str, dict[str, PodRef]] = {}
        self._node_of: dict[str, str] = {}
        self._moved: set[str] = set()
        self.port = 0
        self._server: AgentServer | None = None
        self.ready = asyncio.Event()
        self.desk = Desk(
            self,
            now_s=asyncio.get_running_loop().time,
            news=fleet.news,
            rejected=metrics.agent_refused,
            came=self._came,
            leads=leads,
            look=look,
            life_s=settings.agents_life_s,
        )
        self.granting = Granting(self.desk, self.settings_of)
        self.ordered: Callable[[str], ToldToDrill | None] = lambda uid: None
        """The drill that is under way in a pod."""
        self._record = Record(cluster, settings.namespace, leads)
        self._noting: asyncio.Task[None] | None = None

    # ---- life ----

    async def run(self) -> None:
        """Raises OSError when agents cannot be served."""
        if self._settings.agents_port is None:
            return
        from hotswitch.controller.agents.server import AgentServer, Certificate  # brings grpc along

        tls = self._settings.agents_tls
        certificate = (
            None
            if tls is None
            else Certificate(chain=tls / "tls.crt", key=tls / "tls.key", clients=self._settings.agents_clients)
        )
        address = self._settings.address if certificate is not None else "127.0.0.1"
        doorkeeper = Doorkeeper(self._cluster, self._settings.agents_namespace)
        crowd = Crowd(per_address=self._settings.agents_per_address)
        self._server = server = AgentServer(self.desk, doorkeeper, certificate, crowd)
        await server.start(address, self._settings.agents_port)
        self.port = server.port
        self.ready.set()
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self.granting.run())
                tasks.create_task(self._look())
        finally:
            await self.stop_serving()

    async def stop_serving(self) -> None:
        """Every link ends, and none begins."""
        if self._server is not None:
            server, self._server = self._server, None
            await server.stop()

    async def remember(self) -> None:
        """Before anybody is elected: terms go on from the highest that was ever written down."""
        if self._settings.agents_port is not None:
            try:
                async with asyncio.timeout(REMEMBER_WITHIN_S):
                    await self._record.look()
            except Exception as failure:  # looked at again by whoever leads
                log.warning("record of places not read", extra={"why": f"{type(failure).__name__}: {failure}"})

    @property
    def highest_term(self) -> int:
        return self._record.highest_term

    def lead(self, term: int) -> None:
        if self._settings.agents_port is not None:
            self.desk.lead(term)
            self._noting = asyncio.get_running_loop().create_task(self._note(term))

    async def _note(self, term: int) -> None:
        """Careful, until it is known that there is no reason to be; a leader of a later term always has one. Tried for
        as long as this one leads, whatever goes wrong: who leads next relies on it."""
        while self.desk.term == term:
            try:
                nobody_gave = await self._record.note(term)
            except Exception as failure:
                log.warning("record of places not written", extra={"why": f"{type(failure).__name__}: {failure}"})
                await asyncio.sleep(NOTE_AGAIN_S)
                continue
            if nobody_gave and term == 1 and self.desk.term == term:
                self.desk.be_sure()
            return

    def follow(self) -> None:
        if self._noting is not None:
            self._noting.cancel()
        self.desk.follow()

    async def _look(self) -> None:
        """Settings, Istio's configuration and budgets change without any pod doing so."""
        seen: tuple[object, ...] = ()
        while True:
            await asyncio.sleep(LOOK_S)
            now = (self._picture.settings.revision, id(self._picture.mesh))
            if now != seen:
                seen = now
                self.desk.plan.renew()
                self._moved |= {node for node, pods in self._of_node.items() if pods}
                for pods in list(self._of_node.values()):
                    self.granting.changed(pods.values())
            self._place()
            self.desk.refresh()

    def _place(self) -> None:
        moved, self._moved = self._moved, set()
        for agent in list(self.desk.agents.values()):
            if agent.speaker.node in moved:
                self.desk.place(agent)

    def _came(self, agent: Agent) -> None:
        self.granting.all_of(agent)

    # ---- news of pods ----

    def pod_moved(self, pod: Pod, *, watched: bool) -> None:
        """It is new, has come to a node, or its settings have changed. `watched`: it is to be looked after."""
        if self._settings.agents_port is None:
            return
        node, before = pod.spec.node_name, self._node_of.get(pod.uid)
        if before is not None and before != node:
            self._forget(pod.uid)
        if not node or not watched:
            self.pod_gone(pod.uid)
            return
        ref = reference(pod)
        self._of_node.setdefault(node, {})[pod.uid] = ref
        self._node_of[pod.uid] = node
        self._moved.add(node)
        self.granting.changed([ref])

    def pod_gone(self, uid: str) -> None:
        self._forget(uid)
        self.granting.forget(uid)

    def _forget(self, uid: str) -> None:
        node = self._node_of.pop(uid, None)
        if node is not None:
            self._of_node[node].pop(uid, None)
            self._moved.add(node)

    async def settings_of(self, pod: PodRef) -> Settings:
        """Raises ApiFailure."""
        seen = self._picture.pod(pod.uid)
        if seen is None or pod.uid not in self._node_of:
            return Settings(protection=None)
        protection = await self._picture.protection(seen)
        if pod.uid not in self._fleet.workers:
            self._picture.forget(pod.uid)
        trust_domain = self._picture.mesh.config.trust_domain
        return Settings(protection=protection, trust_domain=trust_domain, drill=self.ordered(pod.uid))

    # ---- desk.Around ----

    def pods_of(self, node: str) -> Iterable[PodRef]:
        return self._of_node.get(node, {}).values()

    def place_of(self, uid: PodUid) -> tuple[PodRef, str] | None:
        node = self._node_of.get(uid)
        return None if node is None else (self._of_node[node][uid], node)

    def limit(self, pod: PodRef) -> Limit:
        limits = self._picture.limits(pod)
        counts = self._picture.census.counts(pod)
        near, own = namespace_scope(pod.namespace), workload_scope(pod.namespace, pod.workload)
        pods = {MESH: counts[0], near: counts[1], own: counts[2]}
        return limit_of(
            pod,
            mesh=limits.mesh,
            namespace=limits.namespace,
            workload=limits.workload,
            node=limits.node,
            pods=pods.__getitem__,
        )

    def opened(self) -> Iterable[PodRef]:
        acted = [each.pod for each in self._fleet.workers.values() if each.counts_as_open and not each.is_an_agents]
        drilled = self._fleet.neighbours.drilled.values()
        return [*acted, *(each for each in drilled if each not in acted)]

    def frozen(self) -> str:
        return FROZEN if self._is_frozen() else ""

    def _is_frozen(self) -> bool:
        return mass_failure(Surroundings(pods_on_node=self._picture.census.living, faulty_on_node=self.sick))

    @property
    def sick(self) -> int:
        """Pods that look ill, to agents or to the controller itself."""
        return sum(each.sick for each in self._fleet.workers.values() if not each.mirrors) + self.desk.sick

    def every_open(self) -> Iterator[PodRef]:
        """By the controller itself, or by agents, those included that cannot be heard at the moment."""
        yield from (each.pod for each in self._fleet.workers.values() if each.counts_as_open and not each.mirrors)
        yield from self.desk.opened()

    @property
    def is_cautious(self) -> bool:
        return self._settings.agents_port is not None and self.desk.is_cautious

    # ---- asked by workers and for metrics ----

    def told(self, uid: str) -> Told | None:
        return self.desk.told(uid)

    def restless(self, uid: str) -> bool:
        return self.desk.restless(uid)

    def beside_agents(self, around: Surroundings, pod: PodRef, limits: Limits) -> Surroundings:
        """Places that agents hold are taken, whether anything is open there or not."""
        if self.desk.ledger is None:
            return around
        mirrored = [each.pod for each in self._fleet.workers.values() if each.mirrors and each.counts_as_open]
        more = []
        for scope, budget in zip(scopes_of(pod), (limits.mesh, limits.namespace, limits.workload), strict=True):
            counted = sum(scope in scopes_of(each) for each in mirrored)
            more.append(max(0, self.desk.held(scope, budget) - counted))
        return replace(
            around,
            open_on_node=around.open_on_node + more[0],
            open_in_namespace=around.open_in_namespace + more[1],
            open_of_workload=around.open_of_workload + more[2],
        )

    def refresh_metrics(self) -> None:
        self._metrics.agents.set(len(self.desk.agents))
        self._metrics.agent_lines_lost.set(sum(each.dropped for each in self.desk.agents.values()))
        self._metrics.frozen.set(self._is_frozen())
