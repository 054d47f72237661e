"""The configuration file of a standalone agent (YAML): which namespaces to protect, and how far it may go (S4.2, I2).

Whoever writes this file is the authority: nothing that a workload says can widen it. The defaults give nothing away:
mode observe, STRICT, inbound rescue or hold, outbound hold.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from msgspec import Meta, field

from hotswitch.config.told import Address, ConfigError, Network, Strict, parse_as
from hotswitch.model import ACTED_ON, Dependency, Level, Mode, Mtls, PodRef, PodUid, Policy, Reaction, Thresholds

PortNumber = Annotated[int, Meta(ge=1, le=65535)]
Seconds = Annotated[float, Meta(gt=0, le=7 * 86400)]
Name = Annotated[str, Meta(pattern=r"^[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?$")]

CA_ROOTS, CA_TOKEN = Path("/var/run/secrets/istio/root-cert.pem"), Path("/var/run/secrets/tokens/istio-token")
"""Where Istio's own containers have them."""

FAST = Thresholds(probe_timeout_s=0.1, hung_probes=1, hung_queue_s=0.02, loop_lag_s=0.01)
"""The opt-in profile: a hang is acted on after about 100 ms, at the risk of a needless switch on a busy machine."""


class CaptureSource(Strict, frozen=True, kw_only=True):
    """How Istio captures in this pod: a manifest (pod or workload), or the arguments and environment of istio-init."""

    manifest: Path | None = None
    args: tuple[str, ...] | None = None
    env: dict[str, str] = field(default_factory=dict)
    ipv6: bool = False  # has the pod a global IPv6 address? Istio finds it out when it writes the rules
    dns_servers: tuple[Address, ...] = ()  # of the pod's resolv.conf, where DNS is captured server by server

    def __post_init__(self) -> None:
        """Raises ValueError."""
        if (self.manifest is None) == (self.args is None):
            raise ValueError("give exactly one of manifest and args")


class IdentitySource(Strict, frozen=True, kw_only=True):
    """Where the pod's certificate comes from while its proxy is well, and whose it must be. `output_certs`: the
    directory of pilot-agent's OUTPUT_CERTS, read where the socket gives nothing."""

    socket: Path
    output_certs: Path | None = None
    spiffe_id: Annotated[str, Meta(pattern=r"^spiffe://[^/]+/ns/[^/]+/sa/[^/]+$")] | None = None
    trust_domains: tuple[str, ...] = ("cluster.local",)


class NodeAccountSource(Strict, frozen=True, kw_only=True):
    """istiod's certificate service, asked in the agent's own name for the identities of pods: see
    rescue.node_account.NodeAccount."""

    address: Annotated[str, Meta(pattern=r"^[^:/]+:[0-9]+$|^\[[0-9a-fA-F:]+\]:[0-9]+$")]
    roots: Path = CA_ROOTS
    token: Path = CA_TOKEN
    server_name: str = ""


class AppProbeSettings(Strict, frozen=True, kw_only=True):
    """The app's own declared probe; `path` None: a TCP connection."""

    port: PortNumber
    path: Annotated[str, Meta(pattern=r"^/[!-~]*$")] | None = None
    timeout_s: Seconds = 1.0


class App(Strict, frozen=True, kw_only=True):
    """`probers`: what Istio sends to pilot-agent, as in ISTIO_KUBE_APP_PROBERS; None: read from the manifest."""

    ports: tuple[PortNumber, ...] = ()
    probe: AppProbeSettings | None = None
    stand_in: bool = True
    status_port: PortNumber | None = None  # pilot-agent's; None: by the manifest, else 15020
    probers: dict[str, dict[str, Any]] | None = None


class PolicySettings(Strict, frozen=True, kw_only=True):
    """See model.Policy; times in seconds."""

    mode: Mode = Mode.OBSERVE
    inbound: tuple[Literal["rescue", "direct", "hold"], ...] = ("rescue", "hold")
    outbound: tuple[Literal["rescue", "direct", "hold"], ...] = ("hold",)
    outbound_free: bool = False
    mtls: Mtls = Mtls.STRICT
    mtls_by_port: dict[PortNumber, Mtls] = field(default_factory=dict)
    expiry_s: Seconds = 300.0
    open_at_most_s: Seconds = 3600.0
    hold_down_s: Seconds = 30.0
    hold_down_max_s: Seconds = 3600.0
    profile: Literal["default", "fast"] = "default"
    dependencies: dict[Dependency, Reaction] = field(default_factory=dict)
    stale_after_s: Seconds = 300.0
    certificate_ends_s: Seconds = 3600.0
    recover_probes: Annotated[int, Meta(ge=1, le=100)] = 3
    recover_after_s: Seconds = 1.0

    def __post_init__(self) -> None:
        """Raises ValueError."""
        for name in ("inbound", "outbound"):
            levels = getattr(self, name)
            if len(set(levels)) != len(levels):
                raise ValueError(f"{name} {list(levels)} names a level twice")
        if self.expiry_s > self.open_at_most_s:
            raise ValueError(f"expiry_s {self.expiry_s} is longer than open_at_most_s {self.open_at_most_s}")
        if self.hold_down_s > self.hold_down_max_s:
            raise ValueError(f"hold_down_s {self.hold_down_s} is longer than hold_down_max_s {self.hold_down_max_s}")
        for dependency, reaction in self.dependencies.items():
            if reaction is Reaction.ACT and dependency not in ACTED_ON:
                raise ValueError(f"dependencies: {dependency} is never acted on; say or page")

    def policy(self) -> Policy:
        base = FAST if self.profile == "fast" else Thresholds()
        values = {name: getattr(base, name) for name in base.__dataclass_fields__}
        values |= {"recover_probes": self.recover_probes, "recover_after_s": self.recover_after_s}
        return Policy(
            mode=self.mode,
            inbound=tuple(Level(level) for level in self.inbound),
            outbound=tuple(Level(level) for level in self.outbound),
            outbound_free=self.outbound_free,
            mtls=self.mtls,
            mtls_by_port=dict(self.mtls_by_port),
            expiry_s=self.expiry_s,
            open_at_most_s=self.open_at_most_s,
            hold_down_s=self.hold_down_s,
            hold_down_max_s=self.hold_down_max_s,
            thresholds=Thresholds(**values),
            dependencies=dict(self.dependencies),
            stale_after_s=self.stale_after_s,
            certificate_ends_s=self.certificate_ends_s,
        )


class Pod(Strict, frozen=True, kw_only=True):
    name: Name
    namespace: Name = "default"
    uid: Annotated[str, Meta(min_length=1, max_length=128)]
    workload: str = ""
    netns: Path
    addresses: Annotated[tuple[Address, ...], Meta(min_length=1)]
    cgroups: tuple[Path, ...] = ()  # of the proxy's container: one directory on v2; cpu and memory on v1
    capture: CaptureSource
    identity: IdentitySource | None = None
    app: App = App()
    policy: PolicySettings = PolicySettings()
    authorization: tuple[dict[str, Any], ...] = ()  # AuthorizationPolicy specs (L4 parts) that select this pod
    mesh_networks: tuple[Network, ...] = ()  # outbound rescue speaks mTLS to these
    terminating: bool = False
    dependencies_s: Seconds | None = None  # how often Envoy is asked what it lacks; None: never
    logs: tuple[str, ...] = ()  # glob patterns of the proxy container's log files, kept with the evidence of a fault
    termination_message: Path | None = None
    drill: bool = True  # may be drilled in its turn, where the file says `drill`

    @property
    def ref(self) -> PodRef:
        return PodRef(self.name, self.namespace, PodUid(self.uid), self.workload)


class RescueSettings(Strict, frozen=True, kw_only=True):
    enabled: bool = True
    directory: Path = Path("/run/hotswitch/rescue")
    envoy: Path | None = None  # None: found beside the interpreter or on PATH
    drain_s: Annotated[int, Meta(ge=1, le=3600)] = 30  # after a restore: what a connection through the rescue has left


class EvidenceSettings(Strict, frozen=True, kw_only=True):
    """What is kept of a fault, and how much of it (S4.7)."""

    enabled: bool = True
    directory: Path = Path("/var/lib/hotswitch/evidence")
    faults: Annotated[int, Meta(ge=1, le=10_000)] = 32
    mebibytes: Annotated[int, Meta(ge=1, le=65536)] = 128
    log_kib: Annotated[int, Meta(ge=0, le=4096)] = 64


class Budget(Strict, frozen=True, kw_only=True):
    """How many pods may be open at once (I3)."""

    node: Annotated[int, Meta(ge=0)] = 10
    workload: Annotated[int, Meta(ge=0)] = 1


class DrillSettings(Strict, frozen=True, kw_only=True):
    """How often one pod of each workload is led to its rescue for `for_s`, to know that it would work (S4.4)."""

    every_s: Annotated[float, Meta(ge=60, le=90 * 86400)] = 86400.0
    for_s: Annotated[float, Meta(gt=0, le=60)] = 5.0
    jitter: Annotated[float, Meta(ge=0, le=0.5)] = 0.1


class Endpoint(Strict, frozen=True, kw_only=True):
    address: Address
    port: PortNumber


class PaceSettings(Strict, frozen=True, kw_only=True):
    """How often to ask, in seconds; see observe.pace.Pace."""

    idle_s: Seconds = 0.8
    fresh_s: Seconds = 8.0
    fast_s: Seconds = 0.05
    alert_s: Seconds = 0.25
    path_idle_s: Seconds = 30.0
    path_fast_s: Seconds = 0.3


class AgentFile(Strict, frozen=True, kw_only=True):
    node: str = "standalone"
    journal: Path = Path("/var/log/hotswitch/journal.jsonl")
    socket: Path = Path("/run/hotswitch/agent.sock")
    metrics: Endpoint | None = None
    rescue: RescueSettings = RescueSettings()
    evidence: EvidenceSettings = EvidenceSettings()
    budget: Budget = Budget()
    pace: PaceSettings = PaceSettings()
    node_account: NodeAccountSource | None = None  # None: istiod is not asked for pods' identities
    drill: DrillSettings | None = None  # None: only by hand
    pods: tuple[Pod, ...] = ()

    def __post_init__(self) -> None:
        """Raises ValueError."""
        for what in ("uid", "netns"):
            values = [str(getattr(pod, what)) for pod in self.pods]
            twice = sorted({value for value in values if values.count(value) > 1})
            if twice:
                raise ValueError(f"pods: {what} {twice[0]} is given twice")


def load(path: Path) -> AgentFile:
    """Read and check the file. Raises ConfigError; OSError when it cannot be read."""
    try:
        content = yaml.safe_load(path.read_text())
    except yaml.YAMLError as failure:
        raise ConfigError(f"{path}: not YAML: {failure}") from failure
    return parse(content, str(path))


def parse(content: object, source: str = "configuration") -> AgentFile:
    """Check what was read. Raises ConfigError naming the first wrong field and its value."""
    return parse_as(AgentFile, content, source)
