"""What a controller is told at its start: by options, or by variables of the same names (HOTSWITCH_*)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

SYSTEM_NAMESPACE = "hotswitch-system"
ROOT_NAMESPACE = "istio-system"
LEASE = "hotswitch-controller"


@dataclass(frozen=True, slots=True, kw_only=True)
class ControllerSettings:
    """`kubeconfig` None: the pod's service account, or what kubectl would take. `namespace`: its own. `helper_image`:
    of the ephemeral container; "": that actuator is not offered. `istiod`: host:port of the xDS by which `direct`
    inbound is checked; "": not checked, and not offered to meshed clients. `istiod_roots` (PEM) and `istiod_token`: how
    it is known, and we are known to it; None: its plaintext port. `address`: where it listens; "":
    on every address. `journal` None: standard output. `cluster`: its name, for people who have several. `docs_url`:
    where a code's page is, with `{code}` in it; alerts link to it. `endpoints`: whether Services are published;
    pods ask their role at `roles_port`, and `keepers` are the accounts whose confirmations count. `clusters`: further
    ones by name, each a kubeconfig and a context; `misnamed`: registered under what is no name, and not heard.
    `agents_port`: where agents are served; None: they are not.
    `agents_tls`: a folder with tls.crt and tls.key, as a Secret is mounted; None: plaintext, on loopback only.
    `agents_clients`: PEM of the CA that agents' own certificates must come from; None: none is asked for.
    `agents_namespace`: where agents of nodes are. `agents_life_s`: how long an agent may act without hearing from a
    controller. `agents_per_address`: whose tokens may wait to be looked at at once. `xds_port`: where Envoy and gRPC
    clients subscribe to endpoints; None: nowhere. `xds_certificate`, `xds_key`: PEM files, None: plaintext;
    `xds_clients`: roots of those who may subscribe, None: everybody. `domain`: the cluster's."""

    kubeconfig: Path | None = None
    context: str | None = None
    namespace: str = SYSTEM_NAMESPACE
    root_namespace: str = ROOT_NAMESPACE
    identity: str = "controller"
    helper_image: str = ""
    istiod: str = ""
    istiod_roots: Path | None = None
    istiod_token: Path | None = None
    address: str = ""
    port: int = 8080
    agents_port: int | None = None
    agents_tls: Path | None = None
    agents_clients: Path | None = None
    agents_namespace: str = "hotswitch-agents"
    agents_life_s: float = 600.0
    agents_per_address: int = 64
    journal: Path | None = None
    cluster: str = ""
    docs_url: str = ""
    lease_s: int = 15
    renew_s: float = 5.0
    retry_s: float = 2.0
    stale_after_s: float = 180.0  # a watch silent for longer: not alive (bookmarks come each minute)
    probe_idle_s: float = 2.0
    probe_fast_s: float = 0.1
    endpoints: bool = False
    roles_port: int = 8081
    keepers: tuple[str, ...] = ()
    trust_domain: str = "cluster.local"
    clusters: Mapping[str, tuple[Path | None, str | None]] = field(default_factory=dict)
    misnamed: tuple[str, ...] = ()
    xds_port: int | None = None
    xds_certificate: Path | None = None
    xds_key: Path | None = None
    xds_clients: Path | None = None
    domain: str = "cluster.local"
