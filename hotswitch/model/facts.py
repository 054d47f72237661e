"""What was seen of a pod's proxy and app (observe/)."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from hotswitch.model.diagnosis import Diagnosis
from hotswitch.model.ports import Port


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
