"""The sidecar's Envoy configuration, shaped like Istio's: a bootstrap with static health, stats and admin, and
15001/15006 by LDS, so that "restarted without LDS" and "bad listener" are the real thing (facts/istio.md 5).

Whatever passes the sidecar says so in a response header: `x-via: sidecar` (inbound), `sidecar-outbound`.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from hotswitch.model import ADMIN, AGENT_STATUS, ENVOY_INBOUND, ENVOY_OUTBOUND, HEALTH, STATS, Mtls, Port
from hotswitch.sandbox.ca import TRUST_DOMAIN
from hotswitch.sandbox.envoy import (
    ISTIO_ALPNS,
    Config,
    address,
    either_http,
    http_manager,
    listener_filter,
    magic_bind,
    only_h2,
    original_dst_cluster,
    publish,
    route_to,
    server_tls,
    tcp_proxy,
    typed,
    watched,
    wildcard,
)

PROXY_UID = PROXY_GID = 1337
TPROXY_MARK = 1337
INSPECTION_S = 1.0  # how long a listener waits for first bytes before it takes the connection for server-first
PLAIN_HTTP = ("http/1.0", "http/1.1", "h2c")  # what http_inspector finds
HTTP_TLS_ALPNS = ("h2", "http/1.1")


@dataclass(frozen=True, slots=True)
class SidecarSpec:
    """One sidecar: where its files are, and what it accepts. `tcp_ports`: app ports that do not speak HTTP.
    `tproxy`: it takes connections with their addresses, and calls the app from the client's."""

    pod: str
    namespace: str
    directory: Path
    sds_socket: Path
    families: tuple[str, ...] = ("v4", "v6")
    mtls: Mtls = Mtls.PERMISSIVE
    tcp_ports: tuple[Port, ...] = ()
    tproxy: bool = False

    @property
    def uid(self) -> int:
        """As whom pilot-agent and Envoy run."""
        return 0 if self.tproxy else PROXY_UID

    @property
    def bootstrap(self) -> Path:
        return self.directory / "envoy.json"

    @property
    def lds(self) -> Path:
        return self.directory / "lds.json"

    def write(self) -> None:
        """Write the bootstrap, and a first LDS file with both capture listeners."""
        self.bootstrap.write_text(json.dumps(bootstrap(self)))
        publish(self.lds, [inbound(self), outbound(self)], version=1)

    def withhold(self) -> None:
        """Take the LDS file's content away: an Envoy that starts now was never told anything (istiod unreachable)."""
        fresh = self.lds.with_name(".lds.json")
        fresh.write_text("not yet")
        fresh.rename(self.lds)


def bootstrap(spec: SidecarSpec) -> Config:
    return {
        "node": {"id": f"sidecar~{spec.pod}.{spec.namespace}", "cluster": spec.pod},
        "admin": {"address": address("127.0.0.1", ADMIN)},
        "dynamic_resources": {"lds_config": watched(spec.lds)},
        "static_resources": {"listeners": [_health(spec), _stats(spec)], "clusters": _clusters(spec)},
    }


def _health(spec: SidecarSpec) -> Config:
    """15021 has no traffic_direction, so a drain of inbound only leaves it alone."""
    route = {"match": {"path": "/healthz/ready"}, "route": {"cluster": "agent"}}
    filters = [http_manager("agent", [route])]
    return {"name": "health", **wildcard(HEALTH, spec.families), "filter_chains": [{"filters": filters}]}


def _stats(spec: SidecarSpec) -> Config:
    route = {"match": {"prefix": "/stats/prometheus"}, "route": {"cluster": "prometheus_stats"}}
    filters = [http_manager("stats", [route])]
    return {"name": "stats", **wildcard(STATS, spec.families), "filter_chains": [{"filters": filters}]}


def _clusters(spec: SidecarSpec) -> list[Config]:
    sds = _static("sds-grpc", {"pipe": {"path": str(spec.sds_socket)}}) | only_h2()
    inbound_bind = {"upstream_bind_config": magic_bind(spec.families)}
    return [
        _static("agent", address("127.0.0.1", AGENT_STATUS)),
        _static("prometheus_stats", address("127.0.0.1", ADMIN)),
        sds,
        original_dst_cluster("InboundPassthroughCluster", **inbound_bind, **either_http()),
        original_dst_cluster("PassthroughCluster", **either_http()),
        {"name": "BlackHoleCluster", "type": "STATIC", "connect_timeout": "1s"},
    ]


def _static(name: str, where: Config) -> Config:
    endpoints = [{"lb_endpoints": [{"endpoint": {"address": where}}]}]
    assignment = {"cluster_name": name, "endpoints": endpoints}
    return {"name": name, "type": "STATIC", "connect_timeout": "1s", "load_assignment": assignment}


def inbound(spec: SidecarSpec, cluster: str = "InboundPassthroughCluster") -> Config:
    """15006: mTLS where the client speaks it; anything else too, unless STRICT. `cluster`: where the app is."""
    http = http_manager(
        "inbound",
        [route_to(cluster)],
        via="sidecar",
        forward_client_cert_details="APPEND_FORWARD",  # a forged XFCC of a plaintext client is removed
        set_current_client_cert_details={"subject": True, "uri": True, "dns": True},
    )
    chains = [{"filter_chain_match": {"destination_port": ENVOY_INBOUND}, "filters": [tcp_proxy("BlackHoleCluster")]}]
    for port in spec.tcp_ports:
        chains += _doors(spec, {"destination_port": port}, tcp_proxy(cluster), ("istio-peer-exchange", *HTTP_TLS_ALPNS))
    chains += _doors(spec, {}, http, HTTP_TLS_ALPNS)
    original_src = [listener_filter("original_src", mark=TPROXY_MARK)] if spec.tproxy else []
    inspectors = [listener_filter("original_dst"), *original_src, listener_filter("tls_inspector")]
    where = {**wildcard(ENVOY_INBOUND, spec.families), "transparent": spec.tproxy}
    return _capturing("virtualInbound", "INBOUND", where, inspectors, chains)


def _capturing(name: str, direction: str, where: Config, inspectors: list[Config], chains: list[Config]) -> Config:
    return typed(
        "config.listener.v3.Listener",
        name=name,
        traffic_direction=direction,
        **where,
        listener_filters=inspectors,
        listener_filters_timeout=f"{INSPECTION_S}s",
        continue_on_listener_filters_timeout=True,
        filter_chains=chains,
    )


def _doors(spec: SidecarSpec, match: Config, filters: Config, alpn: tuple[str, ...]) -> list[Config]:
    """The mTLS chain and, unless STRICT, the raw one."""
    mesh = {**match, "transport_protocol": "tls"}
    if spec.mtls is not Mtls.STRICT:
        mesh["application_protocols"] = list(ISTIO_ALPNS)
    tls = {"filter_chain_match": mesh, "transport_socket": server_tls(alpn, TRUST_DOMAIN), "filters": [filters]}
    raw = {"filter_chain_match": match, "filters": [filters]}
    match spec.mtls:
        case Mtls.STRICT:
            return [tls]
        case Mtls.DISABLE:
            return [raw]
    return [tls, raw]


def outbound(spec: SidecarSpec) -> Config:
    """15001: to wherever the app wanted; HTTP is marked on its way back, the rest passes as bytes."""
    http = http_manager("outbound", [route_to("PassthroughCluster")], via="sidecar-outbound")
    inspector = listener_filter("http_inspector")
    if spec.tcp_ports:
        inspector["filter_disabled"] = _any_port(spec.tcp_ports)
    chains: list[Config] = [
        {"filter_chain_match": {"destination_port": ENVOY_OUTBOUND}, "filters": [tcp_proxy("BlackHoleCluster")]},
        {"filter_chain_match": {"application_protocols": list(PLAIN_HTTP)}, "filters": [http]},
        {"filters": [tcp_proxy("PassthroughCluster")]},
    ]
    inspectors = [listener_filter("original_dst"), inspector]
    return _capturing("virtualOutbound", "OUTBOUND", wildcard(ENVOY_OUTBOUND, spec.families), inspectors, chains)


def _any_port(ports: tuple[Port, ...]) -> Config:
    ranges = [{"destination_port_range": {"start": port, "end": port + 1}} for port in ports]
    return ranges[0] if len(ranges) == 1 else {"or_match": {"rules": ranges}}
