"""A controller's surroundings in memory: an API that counts versions, a kernel that keeps gates and their ends.

Both can fail at any call, before or after it took effect: what is tested is the controller between them.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from hotswitch.act.order import Ability, Answer, Order, Outcome, Target, Truth
from hotswitch.act.tlsmode import Meshed
from hotswitch.api import names
from hotswitch.api.status import PodStatus, decode, encode
from hotswitch.cluster.failure import ApiFailure
from hotswitch.controller.agents.told import PodState, Told
from hotswitch.controller.means import Means, Protection
from hotswitch.controller.seen import Life, SeenPod
from hotswitch.controller.surroundings import Limits, Neighbours
from hotswitch.controller.worker import PodWorker
from hotswitch.controller.writer import Stale, opened_by
from hotswitch.decide.agree import Container
from hotswitch.decide.ports import effective
from hotswitch.decide.preflight import Preflight
from hotswitch.model import (
    OPEN_LEVELS,
    Capabilities,
    Diagnosis,
    Direction,
    Facts,
    Fault,
    Generation,
    Grade,
    Level,
    Mode,
    Mtls,
    Opening,
    PodRef,
    PodUid,
    Policy,
    Probe,
    ProbeOutcome,
    Standing,
    Surroundings,
    Thresholds,
)
from hotswitch.report.controller_metrics import ControllerMetrics
from hotswitch.report.journal import Entry
from hotswitch.report.notice import Notice

SHIFT_S = 1_800_000_000.0
POLICY = Policy(
    mode=Mode.AUTO,
    inbound=(Level.RESCUE, Level.HOLD),
    outbound=(Level.DIRECT, Level.HOLD),
    outbound_free=True,
    mtls=Mtls.PERMISSIVE,
    expiry_s=60.0,
    thresholds=Thresholds(recover_after_s=0.0, direct_after_s=0.0),
)
RUNS = Container(running=True, ready=True, since_s=0.0, told="running")
DOWN = Container(running=False, since_s=0.0, crash_looping=True, told="waiting: CrashLoopBackOff")


class Killed(BaseException):
    """The controller's process ends here."""


@dataclass
class Mischief:
    """`calls` counts everything the controller asks of the world. At call `at`, `what` is raised: before the call has
    an effect, or after."""

    at: int = -1
    after: bool = False
    what: Callable[[], BaseException] = Killed
    calls: int = 0

    def __call__(self, effect: Callable[[], Any]) -> Any:
        number, self.calls = self.calls, self.calls + 1
        if number == self.at and not self.after:
            raise self.what()
        done = effect()
        if number == self.at:
            raise self.what()
        return done


@dataclass
class Api:
    """Pods with a version, an annotation and a label. A Writer."""

    mischief: Mischief = field(default_factory=Mischief)
    pods: dict[str, SeenPod] = field(default_factory=dict)
    terms: list[int] = field(default_factory=list)
    conditions: list[Mapping[str, Any]] = field(default_factory=list)
    lasting: frozenset[str] = frozenset()

    async def write(
        self,
        pod: SeenPod,
        status: PodStatus,
        condition: Mapping[str, Any] | None = None,
    ) -> str:
        return str(self.mischief(lambda: self._write(pod, status, condition)))

    async def version(self, pod: SeenPod, status: PodStatus | None) -> str:
        return str(self.mischief(lambda: self._version(pod.ref.uid, status)))

    async def exists(self, pod: SeenPod) -> bool:
        return bool(self.mischief(lambda: pod.ref.uid in self.pods))

    def _version(self, uid: str, status: PodStatus | None) -> str:
        if self.pods[uid].annotations.get(names.STATUS) != (None if status is None else encode(status)):
            raise Stale(f"{uid}: somebody else has written its status")
        return self.pods[uid].resource_version

    def _write(self, pod: SeenPod, status: PodStatus, condition: Mapping[str, Any] | None) -> str:
        known = self.pods.get(pod.ref.uid)
        if known is None or known.resource_version != pod.resource_version:
            raise Stale(f"{pod.ref}: is another version now")
        version = str(int(known.resource_version) + 1)
        annotations = {**known.annotations, names.STATUS: encode(status)}
        patched = {**known.labels, **opened_by(known, status, self.lasting)}
        labels = {key: text for key, text in patched.items() if text is not None}
        self.pods[pod.ref.uid] = replace(known, resource_version=version, annotations=annotations, labels=labels)
        self.terms.append(status.term)
        if condition is not None:
            self.conditions.append(condition)
        return version

    def status(self, uid: str) -> PodStatus | None:
        text = self.pods[uid].annotations.get(names.STATUS)
        return None if text is None else decode(text, uid)

    def change(self, uid: str, **changes: Any) -> None:
        known = self.pods[uid]
        version = str(int(known.resource_version) + 1)
        self.pods[uid] = replace(known, resource_version=version, **changes)


@dataclass
class Gate:
    openings: Mapping[Direction, Opening] = field(default_factory=dict)
    generation: int = 0
    ends_s: float = float("inf")
    log: list[int] = field(default_factory=list)


@dataclass
class Kernel:
    """An Actuator: one gate per pod, fenced by generation, closed by itself at its end; and an observer beside each
    proxy."""

    mischief: Mischief = field(default_factory=Mischief)
    gates: dict[str, Gate] = field(default_factory=dict)
    beside: Diagnosis | None = None
    refusal: str = ""
    path_passes: int = 10
    rescue_deaths: int = 0
    name: str = "helper"
    outcome: Outcome | None = None
    all_or_nothing: bool = False
    meanwhile: Callable[[str], None] = lambda uid: None  # happens to the pod while an order is carried out
    expires: bool = True  # False: nothing but a further order closes a gate, as with Istio's own commands

    @property
    def ends_by_itself(self) -> bool:
        return self.expires

    def gate(self, uid: str) -> Gate:
        gate = self.gates.setdefault(uid, Gate())
        if self.expires and asyncio.get_running_loop().time() >= gate.ends_s:
            gate.openings = {}
        return gate

    def truth(self, uid: str) -> Truth:
        gate = self.gate(uid)
        levels = {way: Level.CAPTURE for way in Direction}
        levels |= {way: effective(opening) for way, opening in gate.openings.items()}
        return Truth(
            levels=levels,
            generation=Generation(gate.generation),
            expires_in_s=gate.ends_s - asyncio.get_running_loop().time() if gate.openings and self.expires else None,
            diagnosis=self.beside,
            identity_expires_in_s=3600.0,
            path_passes=self.path_passes,
        )

    async def ability(self, target: Target) -> Ability:
        def look() -> Ability:
            if self.refusal:
                return Ability(actuator=self.name, refusal=self.refusal)
            levels = dict.fromkeys(Direction, frozenset(OPEN_LEVELS))
            truth, deaths = self.truth(target.pod.uid), self.rescue_deaths
            return Ability(actuator=self.name, levels=levels, truth=truth, rescue_deaths=deaths)

        try:
            found: Ability = self.mischief(look)
        except ConnectionError as lost:
            return Ability(actuator=self.name, refusal=str(lost))
        return found

    async def prepare(self, target: Target) -> str:
        return ""

    async def carry_out(self, target: Target, order: Order) -> Answer:
        try:
            answer: Answer = self.mischief(lambda: self._carry_out(target, order))
        except ConnectionError as lost:
            return Answer(outcome=Outcome.UNKNOWN, sentence=str(lost))
        return answer

    def _carry_out(self, target: Target, order: Order) -> Answer:
        if self.outcome is not None:
            return Answer(outcome=self.outcome, sentence="told to")
        gate = self.gate(target.pod.uid)
        if self.all_or_nothing and len(order.openings) == 1:
            return Answer(outcome=Outcome.REFUSED, sentence="all or nothing")
        if order.generation < gate.generation:
            return Answer(outcome=Outcome.REFUSED, sentence="an older generation")
        gate.log.append(int(order.generation))
        gate.openings, gate.generation = dict(order.openings), int(order.generation)
        gate.ends_s = asyncio.get_running_loop().time() + order.expiry_s if order.openings else float("inf")
        self.meanwhile(target.pod.uid)
        return Answer(outcome=Outcome.DONE, truth=self.truth(target.pod.uid))

    def plan(self, target: Target, order: Order) -> list[str]:
        return []


@dataclass
class World:
    """`lead()` makes workers as a fresh controller does; `turn()` gives each one turn."""

    api: Api = field(default_factory=Api)
    kernel: Kernel = field(default_factory=Kernel)
    policy: Policy = POLICY
    preflight: Preflight = field(default_factory=lambda: Preflight(findings=(), mtls=Mtls.PERMISSIVE))
    far: dict[str, ProbeOutcome] = field(default_factory=dict)
    limits: Limits = field(default_factory=lambda: Limits(mesh=10, namespace=10, workload=1, node=99))
    term: int | None = 1
    workers: dict[str, PodWorker] = field(default_factory=dict)
    notices: list[Notice] = field(default_factory=list)
    journal: list[Entry] = field(default_factory=list)
    protected: int = 20
    left: set[str] = field(default_factory=set)  # pods that are in the mesh no longer
    offered: bool = True  # whether the next controller is given the actuator
    told: dict[str, Told] = field(default_factory=dict)  # what agents say of their pods
    neighbours: Neighbours = field(default_factory=Neighbours)
    meshed: Callable[[SeenPod, str | None, int], Meshed] | None = None

    # ---- Picture, Eyes, metrics ----

    def pod(self, uid: str) -> SeenPod | None:
        return None if uid in self.left else self.api.pods.get(uid)

    def left_open(self, uid: str) -> SeenPod | None:
        pod = self.api.pods.get(uid) if uid in self.left else None
        return pod if pod is not None and names.OPENED_BY_LABEL in pod.labels else None

    async def protection(self, pod: SeenPod) -> Protection:
        return Protection(manifest={}, policy=self.policy, preflight=self.preflight, actuators=("helper",))

    def facts(self, uid: str) -> Facts | None:
        outcome = self.far.get(uid)
        if outcome is None:
            return None
        now_s = asyncio.get_running_loop().time()
        return Facts(at_s=now_s, probes=tuple(Probe(now_s - 1, now_s - 0.9, outcome) for _ in range(6)))

    def hurry(self, uid: str) -> None: ...

    # ---- what happens ----

    def agent_says(self, uid: str, diagnosis: Diagnosis, standing: Standing | None = None) -> None:
        state = PodState(
            agent="agent on node-0", standing=standing or Standing(), diagnosis=diagnosis, able=Capabilities()
        )
        self.told[uid] = Told(PodUid(uid), state)

    def add(self, name: str, workload: str = "deploy/web") -> str:
        uid = f"uid-{name}"
        ref = PodRef(name, "shop", PodUid(uid), workload)
        self.api.pods[uid] = SeenPod(
            ref=ref,
            resource_version="1",
            address="192.0.2.1",
            labels={names.TLS_MODE_LABEL: "istio"},
            annotations={},
            container=RUNS,
            life=Life(ever_ready=True),
            app_ports=frozenset({8080}),
            helper="running",
        )
        self.far[uid] = ProbeOutcome.OK
        return uid

    def kill(self, uid: str) -> None:
        self.api.change(uid, container=DOWN)
        self.far[uid] = ProbeOutcome.REFUSED
        self.kernel.beside = Diagnosis(Fault.DEAD, Grade.CORROBORATED, "dead", {}, 0.0)

    def heal(self, uid: str) -> None:
        self.api.change(uid, container=RUNS)
        self.far[uid] = ProbeOutcome.OK
        self.kernel.beside = Diagnosis(Fault.WELL, Grade.NONE, "well")

    def lead(self) -> None:
        """A controller that has just become the leader: it remembers nothing."""
        self.neighbours = Neighbours()
        lasting = self.offered and not self.kernel.ends_by_itself
        self.api.lasting = frozenset({self.kernel.name}) if lasting else frozenset()
        means = Means(
            picture=self,
            eyes=self,
            actuators={"helper": self.kernel} if self.offered else {},
            meshed=self.meshed,
            writer=self.api,
            term=lambda: self.term,
            neighbours=self.neighbours,
            surroundings=self.surroundings,
            tell=self.notices.append,
            journal=self.journal.append,
            metrics=ControllerMetrics(),
            shift_s=lambda: SHIFT_S,
            told=self.told.get,
        )
        self.workers = {uid: PodWorker(PodUid(uid), pod.ref, means) for uid, pod in self.api.pods.items()}

    def surroundings(self, pod: PodRef) -> Surroundings:
        now_s = asyncio.get_running_loop().time()
        return self.neighbours.around(pod, self.limits, pods=self.protected, now_s=now_s)

    async def turn(self, times: int = 1, *, later: bool = True) -> None:
        """`later`: long enough after the one before for the kernel to be looked at again."""
        for _ in range(times):
            for worker in list(self.workers.values()):
                if later:
                    worker.look.forget()
                await worker.turn()

    def levels(self, uid: str) -> tuple[Level, Level]:
        levels = self.kernel.truth(uid).levels
        return levels[Direction.INBOUND], levels[Direction.OUTBOUND]

    def codes(self) -> list[str]:
        return [notice.code for notice in self.notices]


def server_error() -> ApiFailure:
    return ApiFailure(500, "InternalError", "told to")


def lost() -> ConnectionError:
    return ConnectionError("the channel was lost")


def remembered(status: PodStatus | None) -> dict[str, Any]:
    return {} if status is None else json.loads(json.dumps(status.standing))


OPEN = (Level.RESCUE, Level.DIRECT)
CLOSED = (Level.CAPTURE, Level.CAPTURE)


def run(story: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(story())


def leading(**world: Any) -> tuple[World, str]:
    """A world (its fields), with one pod, web-0 (its uid), and a controller that leads."""
    made = World(**world)
    uid = made.add("web-0")
    made.lead()
    return made, uid


def ends(world: World, code: str) -> list[bool]:
    return [notice.resolved for notice in world.notices if notice.code == code]
