"""A simulated node: four pods of two workloads, each with a proxy, an app, a rescue and a kernel gate; one agent.

Nothing here knows how decisions are made. What is true of a proxy makes facts, as observe/ would see them so long
after; the gate keeps its own time and closes by itself; the agent holds the standings and loses them in a crash.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from enum import Enum, auto
from functools import cache
from typing import Any

from hotswitch.model import (
    AcceptQueue,
    Act,
    Capabilities,
    Decision,
    Dependency,
    Direction,
    Facts,
    Generation,
    Level,
    Listeners,
    Mode,
    Mtls,
    Opening,
    PathComparison,
    PodRef,
    PodUid,
    Policy,
    Port,
    Pressure,
    Probe,
    ProbeOutcome,
    Reaction,
    Standing,
    Supply,
    Surroundings,
    Tripwire,
    View,
)

APP: Port = 8080
PORTS: tuple[Port, ...] = (APP, 9000, 9001, 7777)  # 7777 stands for every port that no policy names
OPEN = frozenset({Level.RESCUE, Level.DIRECT})
CLOSED = Opening(Level.HOLD)


class Proxy(Enum):
    """What is true of a proxy."""

    WELL = auto()
    DEAD = auto()
    DUMPING = auto()
    HUNG = auto()
    STOPPED = auto()
    HALF_STUCK = auto()
    THROTTLED = auto()
    OVERWORKED = auto()
    DRAINED = auto()
    DRAINED_INBOUND = auto()
    CLOSING = auto()  # SIGTERM, and nobody said so
    BARE = auto()  # restarted, and istiod is away
    SAYS_503 = auto()
    SAYS_503_AND_FAILS = auto()
    BAD_LISTENER = auto()


class App(Enum):
    WELL = auto()
    GONE = auto()
    HUNG = auto()


ALL_LEVELS = (Level.RESCUE, Level.DIRECT, Level.HOLD)
_BASE = Policy(mode=Mode.AUTO, inbound=ALL_LEVELS, outbound=ALL_LEVELS, mtls=Mtls.PERMISSIVE, hold_down_s=30.0)
POLICIES: tuple[Policy, ...] = (
    _BASE,
    replace(_BASE, inbound=(Level.DIRECT, Level.RESCUE), outbound=(Level.DIRECT,), expiry_s=20.0, open_at_most_s=25.0),
    replace(_BASE, inbound=(Level.DIRECT,), mtls=Mtls.STRICT),
    replace(_BASE, inbound=(Level.DIRECT, Level.HOLD), mtls=Mtls.STRICT, mtls_by_port={APP: Mtls.PERMISSIVE}),
    replace(_BASE, mtls_by_port={APP: Mtls.STRICT, 9000: Mtls.DISABLE}),
    replace(_BASE, inbound=(Level.DIRECT,), mtls_by_port={9000: Mtls.STRICT, 9001: Mtls.STRICT}),
    replace(_BASE, mtls=Mtls.STRICT, strict_granted=True, never_direct=frozenset({9000})),
    replace(_BASE, inbound=(Level.DIRECT,), never_direct=frozenset({APP, 9001})),
    replace(_BASE, inbound=(Level.RESCUE,), outbound=(Level.HOLD, Level.DIRECT), hold_down_max_s=100.0),
    replace(_BASE, open_at_most_s=400.0),
    replace(_BASE, outbound=(Level.DIRECT,), outbound_free=True),
    replace(_BASE, dependencies=dict.fromkeys(Dependency, Reaction.PAGE)),
    replace(_BASE, mode=Mode.OBSERVE),
    replace(_BASE, mode=Mode.OFF),
)


class Refused(Exception):
    """The gate was told something with a generation it has seen already (I6)."""


@dataclass
class Gate:
    """The kernel's side: what is open, until when, by which generation."""

    generation: int = 0
    openings: Mapping[Direction, Opening] = field(default_factory=dict)
    opened_s: float = 0.0
    expires_s: float = 0.0

    @property
    def is_open(self) -> bool:
        return bool(self.openings)

    def pass_time(self, now_s: float) -> None:
        if self.is_open and now_s >= self.expires_s:
            self.openings = {}

    def tell(self, decision: Decision, now_s: float) -> None:
        if decision.generation <= self.generation:
            raise Refused(f"{decision.code}: generation {decision.generation} after {self.generation}")
        self.generation = decision.generation
        if decision.act is Act.CUT:
            return
        if not self.is_open:
            self.opened_s = now_s
        self.openings = dict(decision.openings)
        self.expires_s = now_s + decision.expiry_s

    def level(self, direction: Direction, port: Port) -> Level:
        opening = self.openings.get(direction, CLOSED)
        level = opening.ports.get(port, opening.level)
        return level if level in OPEN else Level.HOLD

    def flows(self) -> Iterator[tuple[Direction, Port, Level]]:
        """Everything that is open, port by port."""
        for direction in self.openings:
            for port in PORTS:
                if (level := self.level(direction, port)) in OPEN:
                    yield direction, port, level


@dataclass
class Pod:
    name: str
    workload: str
    proxy: Proxy = Proxy.WELL
    since_s: float = 0.0
    app: App = App.WELL
    app_since_s: float = 0.0
    ever_ready: bool = True
    terminating: bool = False
    identity_until_s: float | None = 1e9
    certificate_until_s: float = 1e9
    rescue: bool = True
    rescue_deaths: int = 0
    foreign_nat: bool = False
    supply: Supply | None = None
    exec_ends: bool = False  # a command that somebody ran in the proxy's container is on its way out
    blind: frozenset[str] = frozenset()
    policy: Policy = _BASE
    gate: Gate = field(default_factory=Gate)
    standing: Standing = field(default_factory=Standing)
    sent: list[Decision] = field(default_factory=list)  # what was told to the gate, for late repeats
    forged: Facts | None = None  # facts that lie, for one step
    looks_faulty: bool = False
    known_ready: bool = False  # the living agent has seen it ready, or found its gate open
    closing: bool = False  # the living agent has seen the proxy close down, and nothing better since
    closed_down_s: float = 0.0
    last_end_s: float = float("-inf")  # when an episode ended, as far as the living agent has seen

    @property
    def ref(self) -> PodRef:
        return PodRef(self.name, "shop", PodUid(f"uid-{self.name}"), self.workload)

    # ---- what observe/ would see ----

    def facts(self, now_s: float) -> Facts:
        if self.forged is not None:
            return replace(self.forged, at_s=now_s)
        seen = self._seen(now_s)
        return replace(seen, **{name: _UNSEEN[name] for name in self.blind}) if self.blind else seen

    def _seen(self, now_s: float) -> Facts:
        age_s = now_s - self.since_s
        proxied, direct = self._path()
        well_s = age_s if self.proxy is Proxy.WELL else 0.0
        return Facts(
            at_s=now_s,
            tripwire=Tripwire.REFUSED if self._refuses(age_s) else Tripwire.HELD,
            tripwire_since_s=self.since_s,
            tripwire_cut_s=self.since_s if self.proxy is Proxy.DEAD else None,
            listeners=Listeners(now_s, self._queues(age_s)),
            probes=self._probes(now_s, age_s),
            pressure=_PRESSURE.get(self.proxy, _CALM),
            path=PathComparison(now_s, proxied, direct),
            path_streak=1 + int(min(age_s, now_s - self.app_since_s) / 0.3),
            path_passes=int(well_s / 0.8) if self.app is App.WELL else 0,
            app_ports=frozenset({APP}),
            identity_expires_in_s=None if self.identity_until_s is None else self.identity_until_s - now_s,
            proxy_certificate_expires_in_s=self.certificate_until_s - now_s,
            supply=self.supply,
            proxy_exiting=self.exec_ends or (self.proxy is Proxy.DEAD and age_s < 0.01),
            envoy_exiting=self.proxy is Proxy.DEAD and age_s < 0.01,
            envoy_doomed_s=self.since_s if self.proxy is Proxy.DEAD else None,
            container_running=not (self.proxy is Proxy.DEAD and age_s > 0.2),
            ever_ready=self.ever_ready,
            terminating=self.terminating,
        )

    def _refuses(self, age_s: float) -> bool:
        return self.proxy is Proxy.DRAINED or (self.proxy is Proxy.DEAD and age_s >= 0.001)

    def _path(self) -> tuple[ProbeOutcome, ProbeOutcome]:
        direct = {App.WELL: ProbeOutcome.OK, App.GONE: ProbeOutcome.REFUSED, App.HUNG: ProbeOutcome.TIMEOUT}[self.app]
        proxied = _PROXIED.get(self.proxy, direct)
        return proxied, direct

    def _queues(self, age_s: float) -> tuple[AcceptQueue, ...]:
        closed = _CLOSED_PORTS.get(self.proxy, frozenset())
        if self.proxy is Proxy.DEAD and age_s < 0.001:
            closed = frozenset({15000, 15001, 15006})
        if self.app is App.GONE:
            closed |= {APP}
        stuck = {Proxy.HALF_STUCK: 1}.get(self.proxy, 2 if self.proxy in _SILENT else 0)
        return _queues(closed, stuck, min(age_s, 5.0) if stuck else 0.0)

    def _probes(self, now_s: float, age_s: float) -> tuple[Probe, ...]:
        count = min(8, int(age_s / 0.25))
        bad = _ANSWER.get(self.proxy, ProbeOutcome.OK)
        kinds = [ProbeOutcome.OK] * 2 + [bad] * count
        if self.proxy is Proxy.HALF_STUCK:
            kinds = [bad if place % 2 else ProbeOutcome.OK for place in range(count)]
        ended_s = now_s if self.proxy is not Proxy.DEAD else self.since_s
        return tuple(_probe(ended_s - 0.25 * place, kind) for place, kind in enumerate(reversed(kinds)))[::-1]

    def capabilities(self) -> Capabilities:
        return Capabilities(gate=not self.foreign_nat, rescue=self.rescue, rescue_deaths=self.rescue_deaths)


def _probe(ended_s: float, outcome: ProbeOutcome) -> Probe:
    return Probe(ended_s - 0.25, ended_s, outcome)


@cache
def _queues(closed: frozenset[Port], stuck: int, stuck_s: float) -> tuple[AcceptQueue, ...]:
    """Two sockets per port; `stuck` of them stand on 15021."""
    queues = []
    for port in (15000, 15001, 15006, 15020, 15021, 15090, APP):
        for worker in range(2):
            if port not in closed:
                stands = stuck_s if port == 15021 and worker < stuck else 0.0
                queues.append(AcceptQueue(port, 10 * port + worker, 2 if stands else 0, stands))
    return tuple(queues)


_CALM = Pressure(known=True)
_SILENT = frozenset({Proxy.HUNG, Proxy.STOPPED, Proxy.THROTTLED, Proxy.OVERWORKED, Proxy.DUMPING})
_PRESSURE: Mapping[Proxy, Pressure] = {
    Proxy.DUMPING: Pressure(known=True, dumping=True),
    Proxy.STOPPED: Pressure(known=True, stopped=True),
    Proxy.THROTTLED: Pressure(known=True, throttled=True),
    Proxy.OVERWORKED: Pressure(known=True, still_workers=0, busy=True),
}
_ANSWER: Mapping[Proxy, ProbeOutcome] = {
    **dict.fromkeys((*_SILENT, Proxy.HALF_STUCK), ProbeOutcome.TIMEOUT),
    Proxy.DRAINED: ProbeOutcome.REFUSED,
    **dict.fromkeys((Proxy.CLOSING, Proxy.BARE, Proxy.SAYS_503, Proxy.SAYS_503_AND_FAILS), ProbeOutcome.UNREADY),
}
_PROXIED: Mapping[Proxy, ProbeOutcome] = {
    **dict.fromkeys(_SILENT, ProbeOutcome.TIMEOUT),
    **dict.fromkeys(
        (Proxy.DEAD, Proxy.DRAINED, Proxy.DRAINED_INBOUND, Proxy.CLOSING, Proxy.BARE), ProbeOutcome.REFUSED
    ),
    Proxy.BAD_LISTENER: ProbeOutcome.RESET,
    Proxy.SAYS_503_AND_FAILS: ProbeOutcome.UNREADY,
}
_CLOSED_PORTS: Mapping[Proxy, frozenset[Port]] = {
    Proxy.DEAD: frozenset({15000, 15001, 15006, 15021, 15090}),
    Proxy.DRAINED: frozenset({15001, 15006, 15021, 15090}),
    Proxy.DRAINED_INBOUND: frozenset({15006}),
    Proxy.CLOSING: frozenset({15006}),
    Proxy.BARE: frozenset({15001, 15006}),
}
_UNSEEN: Mapping[str, Any] = {
    "tripwire": Tripwire.UNARMED,
    "listeners": None,
    "probes": (),
    "pressure": Pressure(),
    "path": None,
    "path_passes": None,
    "container_running": None,
    "envoy_doomed_s": None,
    "identity_expires_in_s": None,
    "proxy_certificate_expires_in_s": None,
}
UNSEEN_NAMES = tuple(_UNSEEN)


@dataclass
class World:
    now_s: float = 100.0
    pods: list[Pod] = field(
        default_factory=lambda: [
            Pod("a0", "deploy/a"),
            Pod("a1", "deploy/a"),
            Pod("b0", "deploy/b"),
            Pod("b1", "deploy/b"),
        ]
    )
    agent_alive: bool = True
    agent_since_s: float = 100.0
    last_alive_s: float = 100.0
    node_budget: int = 2
    workload_budget: int = 1

    def pass_time(self, seconds: float) -> None:
        self.now_s += seconds
        for pod in self.pods:
            pod.gate.pass_time(self.now_s)

    def others(self, pod: Pod) -> list[Pod]:
        return [other for other in self.pods if other is not pod]

    def siblings(self, pod: Pod) -> list[Pod]:
        return [other for other in self.others(pod) if other.workload == pod.workload]

    def surroundings(self, pod: Pod) -> Surroundings:
        """As the agent would fill it in: from its standings, those of this tick included."""
        began = [at for other in self.siblings(pod) for at in other.standing.recent_faults_s]
        return Surroundings(
            open_on_node=sum(other.standing.is_open for other in self.others(pod)),
            open_of_workload=sum(other.standing.is_open for other in self.siblings(pod)),
            node_budget=self.node_budget,
            workload_budget=self.workload_budget,
            pods_on_node=len(self.pods),
            faulty_on_node=1 + sum(other.looks_faulty for other in self.others(pod)),
            workload_fault_ages_s=tuple(self.now_s - at for at in began),
        )

    def view(self, pod: Pod) -> View:
        return View(
            now_s=self.now_s,
            pod=pod.ref,
            policy=pod.policy,
            facts=pod.facts(self.now_s),
            standing=pod.standing,
            capabilities=pod.capabilities(),
            surroundings=self.surroundings(pod),
        )

    def crash_agent(self) -> None:
        self.agent_alive = False

    def start_agent(self) -> None:
        """A new agent knows only what the kernel's gates say, and that it is not the first."""
        self.agent_alive, self.agent_since_s = True, self.now_s
        for pod in self.pods:
            pod.standing = read_back(pod.gate)
            pod.closing, pod.known_ready = False, pod.gate.is_open
            pod.last_end_s = float("-inf") if pod.gate.is_open else self.now_s


def read_back(gate: Gate) -> Standing:
    levels = dict.fromkeys(Direction, Level.CAPTURE)
    levels |= {direction: level for direction, _, level in gate.flows()}
    return Standing(
        generation=Generation(gate.generation),
        levels=levels,
        openings=dict(gate.openings),
        expires_s=gate.expires_s if gate.is_open else None,
        rebuilt=True,
    )
