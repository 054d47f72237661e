"""What a sandbox pod is to be, and what its istio-init is told (S4.3a)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from hotswitch.capture.options import parse
from hotswitch.capture.spec import CaptureSpec, Interception
from hotswitch.model import Mtls
from hotswitch.sandbox.app import GRPC_PORT, HTTP_PORT, TCP_PORT
from hotswitch.sandbox.ca import DEFAULT_LIFETIME_S
from hotswitch.sandbox.kubelet import Restart, Timings
from hotswitch.sandbox.network import RESOLVERS

INIT_ARGS = (
    "-p", "15001", "-z", "15006", "-u", "1337", "-i", "*", "-x", "", "-b", "*", "-d", "15090,15021,15020",
)  # fmt: skip
_BACKENDS = {
    "iptables-nft": {"FORCE_IPTABLES_BINARY": "nft"},
    "iptables-legacy": {"FORCE_IPTABLES_BINARY": "legacy"},
    "nftables": {},
}


@dataclass(frozen=True, slots=True, kw_only=True)
class PodSpec:
    """What a pod is to be. `backend`: "iptables-nft", "iptables-legacy" or "nftables". `interception`: "REDIRECT",
    "TPROXY" or "NONE". `dns`: the name servers that are captured: "" none, "servers" the network's own, "all".
    `readiness_*`: the sidecar's probe, Istio's by default. `liveness`: the kubelet restarts an app whose (rewritten)
    liveness probe fails `app_failures` times. `probe`: what the app's probes are, httpGet, tcpSocket or grpc (with
    `tcp` or `grpc`). `native`: the sidecar is an init container that keeps running. `restart`: the pod's restartPolicy.
    `app` False: somebody else brings one. `configured` False: istiod has never answered its sidecar, so it never
    becomes ready."""

    workload: str = ""
    namespace: str = "default"
    account: str = ""
    families: tuple[str, ...] = ("v4", "v6")
    backend: str = "iptables-nft"
    interception: str = "REDIRECT"
    dns: Literal["", "servers", "all"] = ""
    mtls: Mtls = Mtls.PERMISSIVE
    sidecar: bool = True
    app: bool = True
    tcp: bool = False
    grpc: bool = False
    readiness_period_s: float = 15.0
    readiness_timeout_s: float = 3.0
    readiness_failures: int = 4
    app_period_s: float = 10.0
    app_failures: int = 3
    liveness: bool = False
    probe: str = "httpGet"
    termination_drain_s: float = 5.0
    lifetime_s: float = DEFAULT_LIFETIME_S
    timings: Timings = field(default_factory=Timings)
    native: bool = False
    restart: Restart = Restart.ALWAYS
    configured: bool = True

    @property
    def init_args(self) -> tuple[str, ...]:
        """What the injector tells istio-init (S4.3a)."""
        native = ("--native-nftables",) if self.backend == "nftables" else ()
        return (*INIT_ARGS, "-m", self.interception, *native)

    @property
    def init_env(self) -> dict[str, str]:
        dual = {"ISTIO_DUAL_STACK": "true"} if len(self.families) == 2 else {}
        dns = {"ISTIO_META_DNS_CAPTURE": "true"} if self.dns else {}
        everything = {"CAPTURE_ALL_DNS": "true"} if self.dns == "all" else {}
        return {**_BACKENDS[self.backend], **dual, **dns, **everything}

    @property
    def tproxy(self) -> bool:
        return self.interception == "TPROXY"

    @property
    def resolvers(self) -> tuple[str, ...]:
        """What resolv.conf says: the network's name server, in the pod's families."""
        return tuple(RESOLVERS[family] for family in self.families) if self.dns else ()

    @property
    def prober(self) -> dict[str, Any]:
        """The app's probe as it was before the rewrite: an entry of ISTIO_KUBE_APP_PROBERS."""
        every: dict[str, dict[str, Any]] = {
            "httpGet": {"path": "/healthz", "port": HTTP_PORT},
            "tcpSocket": {"port": TCP_PORT},
            "grpc": {"port": GRPC_PORT, "service": ""},
        }
        return {self.probe: every[self.probe], "timeoutSeconds": 1}

    def capture(self) -> CaptureSpec:
        if self.interception == "NONE":  # then there is no istio-init
            return CaptureSpec(mode=Interception.NONE, ipv6="v6" in self.families)
        return parse(self.init_args, self.init_env, ipv6="v6" in self.families, dns_servers=self.resolvers)
