"""Value types that every room speaks. No I/O, no clock, no logging: only frozen values and their names.

observe/ fills `Facts`; decide/ turns facts into a `Diagnosis` and, with the pod's `Standing` and `Policy`, into
`Decision`s; act/ carries decisions out; report/ writes them down (I8). All times are seconds; `*_s` that are instants
come from one monotonic clock, wall-clock instants are named `*_unix_s`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NewType

PodUid = NewType("PodUid", str)
NetnsCookie = NewType("NetnsCookie", int)  # SO_NETNS_COOKIE: never reused while the machine is up, unlike inode numbers
Generation = NewType("Generation", int)  # grows with every act on a pod; fences repeated and late acts (I6)
Port = int

# Istio's ports (facts: sidecar bootstrap and istio-iptables defaults)
ENVOY_OUTBOUND: Port = 15001
ENVOY_INBOUND: Port = 15006
TUNNEL: Port = 15008
ADMIN: Port = 15000
AGENT_STATUS: Port = 15020
HEALTH: Port = 15021
STATS: Port = 15090
# Ours: where the rescue Envoy listens inside a pod's namespace
RESCUE_OUTBOUND: Port = 15101
RESCUE_INBOUND: Port = 15106
RESCUE_UID = 15107
"""The rescue Envoy's own user: the outbound gate lets its connections out while it leads everyone else's to it."""
STAND_IN: Port = 15120
"""Where the app's rewritten probes are answered while pilot-agent, to whom they go, is away."""
STAND_IN_UID = 15120
"""As whom the stand-in asks the app: nobody whom Istio's rules know, so the way is straight."""
DRILL_MARK, TRIAL_MARK = 0x68730001, 0x68730002
"""On the requests of a drill, made inside the namespace: the first lets one go as the inbound gate says, as though it
came from outside; the second to the rescue whatever the gate says. A mark needs NET_ADMIN, which no app has."""

AGENT_CONTAINER = "hotswitch-agent"
"""Ours, where Istio's injector puts it into a pod (istio-addon/): neither the proxy nor an app."""

NEVER_OPENED: frozenset[Port] = frozenset(
    {TUNNEL, AGENT_STATUS, HEALTH, STATS, RESCUE_OUTBOUND, RESCUE_INBOUND, STAND_IN}
)
"""Inbound ports the gate never touches: HBONE, probes, metrics, and our own doors (S4.3a)."""

MESH_ONLY_NETWORKS: tuple[str, ...] = ("240.240.0.0/16", "2001:2::/48")
"""Addresses that exist only inside the mesh (auto-allocated ServiceEntries): opened, a refusal would become a hang."""


class Direction(StrEnum):
    INBOUND = "inbound"
    OUTBOUND = "outbound"


class Level(StrEnum):
    """Where new flows of one direction go."""

    CAPTURE = "capture"  # through the proxy: nothing of ours is active
    RESCUE = "rescue"  # to the spare Envoy: identity and L4 policy kept
    DIRECT = "direct"  # straight to the app, or straight out (S4.3)
    HOLD = "hold"  # a fault is known, capture is left alone, people are told


OPEN_LEVELS: frozenset[Level] = frozenset({Level.RESCUE, Level.DIRECT})


class Mode(StrEnum):
    AUTO = "auto"
    OBSERVE = "observe"  # say what would be done, do nothing
    OFF = "off"


class Mtls(StrEnum):
    STRICT = "STRICT"
    PERMISSIVE = "PERMISSIVE"
    DISABLE = "DISABLE"


@dataclass(frozen=True, slots=True)
class PodRef:
    """Which pod, beyond doubt: a name can be reused, a uid and a namespace cookie cannot (I6)."""

    name: str
    namespace: str
    uid: PodUid
    workload: str = ""  # owner, e.g. "deploy/web": budgets and the induced-bypass rule count per workload (I3)

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"


# ---- what was seen (observe/) ------------------------------------------------------------------------------------


class ProbeOutcome(StrEnum):
    OK = "ok"  # 2xx
    UNREADY = "unready"  # an answer, not 2xx
    TIMEOUT = "timeout"  # connected (or not), no answer in time
    REFUSED = "refused"
    RESET = "reset"  # closed before an answer
    TLS = "tls"  # a TLS server answered (the far end wants mTLS and is alive)
    INVALID = "invalid"  # our own loop was late: says nothing


@dataclass(frozen=True, slots=True)
class Probe:
    """One question on a fresh connection, and what came back."""

    started_s: float
    ended_s: float
    outcome: ProbeOutcome
    detail: str = ""


@dataclass(frozen=True, slots=True)
class AcceptQueue:
    """One LISTEN socket (an Envoy worker has one each, per family): how many connections wait, and since when the head
    stands."""

    port: Port
    inode: int
    waiting: int
    stuck_s: float = 0.0  # how long it has been non-empty without shrinking
    ipv6: bool = False


@dataclass(frozen=True, slots=True)
class Listeners:
    """All LISTEN sockets of the namespace at one instant, from one sock_diag dump."""

    at_s: float
    queues: tuple[AcceptQueue, ...] = ()

    @property
    def ports(self) -> frozenset[Port]:
        return frozenset(queue.port for queue in self.queues)

    def on(self, port: Port) -> tuple[AcceptQueue, ...]:
        return tuple(queue for queue in self.queues if queue.port == port)


class Tripwire(StrEnum):
    """The connection held open to 15021: it breaks the moment the proxy's process loses its sockets."""

    HELD = "held"
    REFUSED = "refused"  # it broke, and a reconnect was refused
    UNANSWERED = "unanswered"  # it broke, and a reconnect neither succeeded nor failed at once
    UNARMED = "unarmed"  # never connected yet


@dataclass(frozen=True, slots=True)
class Pressure:
    """Why a proxy may be slow without being broken, over the window that the probes cover."""

    throttled: bool = False  # cgroup cpu.stat nr_throttled rose
    memory: bool = False  # cgroup memory.pressure (or v1 failcnt) rose
    starved: bool = False  # a worker wanted a CPU for more than half of the window and had none (schedstat, state)
    dumping: bool = False  # /proc/PID/status CoreDumping: it will not come back
    stopped: bool = False  # every thread in state T (SIGSTOP, ptrace): hung, whatever else is said
    workers: int = 0  # threads that accept and serve, as far as they are known
    still_workers: int | None = None  # of them neither ran nor wanted to; 0: all are at work. None: not known (yet)
    busy: bool = False  # every worker had or wanted a CPU for at least half of the time: what it answers may be late
    known: bool = False  # False: no cgroup or pid was given, so nothing can be excluded

    @property
    def explains_slowness(self) -> bool:
        return (self.throttled or self.memory or self.starved) and not self.stopped

    @property
    def overworked(self) -> bool:
        """Every worker runs, however little: a queue that stands is not stuck for want of anybody who would accept."""
        return self.still_workers == 0 and not self.stopped

    @property
    def undecided(self) -> bool:
        """Its workers have not been watched for long enough to say whether they work."""
        return self.workers > 0 and self.still_workers is None and not self.stopped


@dataclass(frozen=True, slots=True)
class PathComparison:
    """The app's own declared probe, once through the proxy and once straight to the app, from inside the namespace."""

    at_s: float
    proxied: ProbeOutcome
    direct: ProbeOutcome

    @property
    def blames_proxy(self) -> bool:
        failed = {ProbeOutcome.UNREADY, ProbeOutcome.TIMEOUT, ProbeOutcome.REFUSED, ProbeOutcome.RESET}
        return self.direct is ProbeOutcome.OK and self.proxied in failed

    @property
    def blames_app(self) -> bool:
        return self.direct not in {ProbeOutcome.OK, ProbeOutcome.TLS, ProbeOutcome.INVALID}


@dataclass(frozen=True, slots=True)
class Supply:
    """What the proxy is given by others, as its admin interface tells it (S4.2c)."""

    at_s: float
    cut_off: tuple[str, ...] = ()  # sources of configuration that it is not connected to
    cut_off_s: float = 0.0  # for how long, as far as it was looked at
    rejected: tuple[str, ...] = ()  # kinds whose newest update it rejected
    missing: tuple[str, ...] = ()  # secrets that never came
    certificate_ends_in_s: float | None = None


@dataclass(frozen=True, slots=True)
class Facts:
    """Everything known about one pod's proxy and app at `at_s`. None: not known, which is never a fault."""

    at_s: float
    tripwire: Tripwire = Tripwire.UNARMED
    tripwire_since_s: float = 0.0  # when the tripwire took its present state
    tripwire_cut_s: float | None = None  # when a held connection was last cut, whatever became of the next one
    admin_closed_s: float | None = None  # when the connection held to Envoy's admin port was last closed, not reset
    listeners: Listeners | None = None
    probes: tuple[Probe, ...] = ()  # GET 15021/healthz/ready, each on a fresh connection, oldest first
    pressure: Pressure = Pressure()
    path: PathComparison | None = None
    path_streak: int = 1  # comparisons in a row, `path` included, that came to the same verdict (proxy, app, neither)
    path_passes: int | None = None  # end-to-end passes through the proxy in a row; None: no path to test on this pod
    app_ports: frozenset[Port] = frozenset()  # ports the app declares
    identity_expires_in_s: float | None = None  # the pod identity we hold for the rescue; None: none held
    proxy_certificate_expires_in_s: float | None = None  # what the proxy itself presents, where seen
    supply: Supply | None = None
    proxy_exiting: bool = False  # the kernel says that a process of the container is on its way out (PF_EXITING)
    envoy_exiting: bool = False  # and that it is Envoy itself
    envoy_doomed_s: float | None = None  # since when the kernel has been ending Envoy as a whole, as its threads go
    container_running: bool | None = None  # second, independent source (container state or pid)
    ever_ready: bool = False  # 15021 answered 200 at least once in this pod's life (I2)
    terminating: bool = False  # somebody said so: deletion, eviction, node shutdown (I2)
    judged: Diagnosis | None = None  # what several observers agree on (decide.agree), in place of reading the rest


@dataclass(frozen=True, slots=True)
class Opinion:
    """What came of questions to 15021 that were asked from elsewhere, each on a connection of its own. `asked` 0:
    whoever was to ask cannot tell, because it has never had an answer from this proxy, or has too much to do."""

    asked: int = 0
    answered: int = 0  # ready or not: somebody there reads and writes
    silent: int = 0


class Fault(StrEnum):
    """What is wrong, named as users would; WELL is the absence of a fault."""

    WELL = "well"
    UNKNOWN = "unknown"  # too little is known to say anything
    STARTING = "starting"  # never ready yet
    DEAD = "dead"
    CORE_DUMPING = "core-dumping"
    HUNG = "hung"
    STUCK_WORKER = "stuck-worker"
    THROTTLED = "throttled"  # slow for a reason that is not the proxy's own
    DRAINED = "drained"  # by an operator, on purpose
    TERMINATING = "terminating"
    UNCONFIGURED = "unconfigured"  # alive, but LDS never arrived (istiod absent at start)
    UNREADY = "unready"  # answers, but says it is not healthy (S4.2b)
    MISROUTING = "misrouting"  # ready, yet what passes it fails and the direct way works
    CERTIFICATE_EXPIRED = "certificate-expired"  # S4.2c
    APP_SICK = "app-sick"  # the app itself is the problem


class Grade(StrEnum):
    """How sure we are; the bar depends on what an act gives away."""

    NONE = "none"
    SUSPECTED = "suspected"  # look faster, do nothing
    CONFIRMED = "confirmed"  # enough for acts that give no policy away
    CORROBORATED = "corroborated"  # a second independent source agrees, and enough time has passed: `direct` inbound


@dataclass(frozen=True, slots=True)
class Diagnosis:
    fault: Fault
    grade: Grade
    sentence: str
    evidence: Mapping[str, str] = field(default_factory=dict)
    since_s: float | None = None  # the oldest evidence of it


# ---- what is allowed (config/) ----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Thresholds:
    """When evidence is enough. Defaults: architecture.md "Confirmation"; the fast profile is opt-in."""

    probe_timeout_s: float = 0.25
    hung_probes: int = 3  # timeouts in a row, on fresh connections
    hung_queue_s: float = 0.25  # accept queue's head not moving for this long
    loop_lag_s: float = 0.02  # a probe during which our own loop was later than this says nothing
    direct_after_s: float = 0.25  # `direct` inbound: the fault has stood at least this long, and a second source agrees
    recover_probes: int = 3  # end-to-end passes through the proxy before capture comes back
    recover_after_s: float = 1.0  # and well for at least this long
    second_within_s: float = 1.0  # a controller that is asked about a hang is waited for so long, from the question


class Dependency(StrEnum):
    """What a proxy depends on can be wrong in these ways (S4.2c)."""

    CERTIFICATE_EXPIRED = "certificate-expired"
    NO_CONFIGURATION = "no-configuration"
    CONFIGURATION_REJECTED = "configuration-rejected"
    CONTROL_PLANE_LOST = "control-plane-lost"
    CERTIFICATE_MISSING = "certificate-missing"
    CERTIFICATE_ENDS = "certificate-ends"


class Reaction(StrEnum):
    ACT = "act"  # as the levels allow
    PAGE = "page"
    SAY = "say"


ACTED_ON: frozenset[Dependency] = frozenset({Dependency.CERTIFICATE_EXPIRED, Dependency.NO_CONFIGURATION})
"""Those that stop traffic; the others are never a reason to open anything."""


@dataclass(frozen=True, slots=True)
class Policy:
    """What hotswitch may do for one pod: the result of intersecting all safety fields (I2)."""

    mode: Mode = Mode.OBSERVE
    inbound: tuple[Level, ...] = (Level.RESCUE, Level.HOLD)  # tried in this order
    outbound: tuple[Level, ...] = (Level.HOLD,)
    outbound_free: bool = False  # preflight: nothing is enforced outbound, so `direct` gives nothing away there (I3)
    mtls: Mtls = Mtls.STRICT
    mtls_by_port: Mapping[Port, Mtls] = field(default_factory=dict)
    strict_granted: bool = False  # the mesh's administrators accept `direct` where mTLS is STRICT (I2)
    never_direct: frozenset[Port] = frozenset()  # inbound ports that the preflight refuses to open to `direct`
    expiry_s: float = 300.0  # kernel timeout of an opening; renewed while the fault lasts
    open_at_most_s: float = 3600.0  # no renewal beyond this
    hold_down_s: float = 30.0  # after a restore; doubles on every further fault, up to hold_down_max_s
    hold_down_max_s: float = 3600.0
    thresholds: Thresholds = Thresholds()
    dependencies: Mapping[Dependency, Reaction] = field(default_factory=dict)
    stale_after_s: float = 300.0  # without its control plane for so long
    certificate_ends_s: float = 3600.0  # Istio renews at half of a life of 24 h

    def reaction(self, dependency: Dependency) -> Reaction:
        return self.dependencies.get(dependency, Reaction.ACT if dependency in ACTED_ON else Reaction.SAY)

    def mtls_on(self, port: Port) -> Mtls:
        return self.mtls_by_port.get(port, self.mtls)


# ---- what was decided (decide/) and is done (act/) ---------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Opening:
    """What the gate is to do in one direction; `ports` are exceptions to `level`, e.g. {9000: HOLD}."""

    level: Level
    ports: Mapping[Port, Level] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Override:
    """A person's order, always with an end and a reason (I4)."""

    levels: Mapping[Direction, Level]
    until_s: float
    reason: str
    by: str


@dataclass(frozen=True, slots=True)
class Standing:
    """What hotswitch has done for a pod so far. A new one is made at every step; the old one stays true of its time."""

    generation: Generation = Generation(0)
    levels: Mapping[Direction, Level] = field(
        default_factory=lambda: {Direction.INBOUND: Level.CAPTURE, Direction.OUTBOUND: Level.CAPTURE}
    )
    opened_s: float | None = None  # first opening of the present episode
    expires_s: float | None = None  # kernel expiry of what is open
    fault: Fault = Fault.WELL
    fault_since_s: float | None = None
    well_since_s: float | None = None
    hold_down_s: float = 0.0  # present length
    hold_down_until_s: float = 0.0
    recent_faults_s: tuple[float, ...] = ()  # instants at which confirmed faults began
    override: Override | None = None
    openings: Mapping[Direction, Opening] = field(default_factory=dict)  # what the gate was last told, ports included
    ordered: frozenset[Direction] = frozenset()  # directions that are open by a person's order, not by evidence
    induced: bool = False  # this episode hit the induced-bypass rule: no `direct` until it ends (I3)
    ever_ready: bool = False  # remembered for good: facts say it only as far back as this agent saw (I2)
    closing_since_s: float | None = None  # the proxy was seen to close down; a death after that is no fault (I2)
    said: frozenset[str] = frozenset()  # what people were told already: nothing is said at every step
    rebuilt: bool = False  # read back from the kernel's gate after the agent lost its own; the next step clears it

    @property
    def is_open(self) -> bool:
        return any(level in OPEN_LEVELS for level in self.levels.values())


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What could be done for this pod right now, and why not."""

    gate: bool = True
    gate_refusal: str = ""  # e.g. foreign NAT in the namespace
    rescue: bool = False  # spare Envoy listening in the namespace with a valid identity (seen in the kernel)
    rescue_refusal: str = ""
    rescue_deaths: int = 0  # deaths of the rescue inside the hold-down; two: hold


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What happens around the pod: budgets and mass failure (I3)."""

    open_on_node: int = 0  # other pods that are open at this moment, those of the same tick included
    open_of_workload: int = 0  # likewise
    node_budget: int = 1
    workload_budget: int = 1
    open_in_namespace: int = 0  # likewise
    namespace_budget: int | None = None  # None: not counted
    pods_on_node: int = 1
    faulty_on_node: int = 0  # includes this one
    workload_fault_ages_s: tuple[float, ...] = ()  # how long ago other pods of the workload fell ill
    open_until_s: float | None = None  # no opening lasts longer, none begins later; None: nobody set an end
    frozen: str = ""  # why nothing new may be opened: somebody who sees more than this node says so


@dataclass(frozen=True, slots=True)
class View:
    """One consistent picture of one pod, the whole input of a decision."""

    now_s: float
    pod: PodRef
    policy: Policy
    facts: Facts
    standing: Standing
    capabilities: Capabilities
    surroundings: Surroundings = Surroundings()


class Act(StrEnum):
    OPEN = "open"  # write the gate: `openings` is its whole new state
    RENEW = "renew"  # same state, new expiry
    CLOSE = "close"  # restore capture
    CUT = "cut"  # end flows that are stuck in a hung proxy
    HOLD = "hold"  # nothing in the kernel; say so
    PAGE = "page"  # a person is needed


@dataclass(frozen=True, slots=True)
class Decision:
    """One thing to do. `code` is stable (HSD...), `sentence` is for a human, `evidence` is why (I8)."""

    act: Act
    pod: PodRef
    generation: Generation
    code: str
    sentence: str
    openings: Mapping[Direction, Opening] = field(default_factory=dict)
    expiry_s: float = 0.0
    evidence: Mapping[str, str] = field(default_factory=dict)
