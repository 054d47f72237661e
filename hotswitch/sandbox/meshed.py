"""The meshed client's Envoy: auto-mTLS, Istio's default retries, endpoints by EDS; one listener per Service.

A client in the mesh is what a bypass must not hurt: it goes on sending mTLS to a pod whose sidecar is dead, and it
retries only what Istio's default policy covers (facts/istio.md 7.2; review of the design, 0.1).
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from hotswitch.model import ADMIN
from hotswitch.sandbox.envoy import (
    Config,
    address,
    client_tls,
    extension,
    http_manager,
    only_h2,
    publish,
    raw_socket,
    route_to,
    tcp_proxy,
    typed,
    watched,
)
from hotswitch.sandbox.registry import Service

ALPN = {  # what Istio's client side offers, by what it will speak
    "http": ("istio-http/1.1", "istio", "http/1.1"),
    "h2": ("istio-h2", "istio", "h2"),
    "tcp": ("istio-peer-exchange", "istio"),
}
RETRY_ON = "connect-failure,refused-stream,unavailable,cancelled,retriable-status-codes"


@dataclass(frozen=True, slots=True)
class MeshedSpec:
    """`certificates`: folder with cert-chain.pem, key.pem, root-cert.pem."""

    name: str
    directory: Path
    certificates: Path

    @property
    def bootstrap(self) -> Path:
        return self.directory / "envoy.json"

    def write(self, services: list[Service], version: int) -> None:
        """Clusters first: a listener may only name a cluster that is there."""
        publish(self.directory / "cds.json", [_cluster(self, service) for service in services], version)
        publish(self.directory / "lds.json", [_listener(service) for service in services], version)
        if not self.bootstrap.exists():
            self.bootstrap.write_text(json.dumps(self._bootstrap()))

    def _bootstrap(self) -> Config:
        return {
            "node": {"id": f"sidecar~{self.name}", "cluster": self.name},
            "admin": {"address": address("127.0.0.1", ADMIN)},
            "dynamic_resources": {
                "cds_config": watched(self.directory / "cds.json"),
                "lds_config": watched(self.directory / "lds.json"),
            },
        }


def _cluster(spec: MeshedSpec, service: Service) -> Config:
    sni = f"outbound_.{service.port}_._.{service.name}.default.svc.cluster.local"
    mesh = client_tls(ALPN[service.protocol], spec.certificates, service.accepted, sni)
    cluster = typed(
        "config.cluster.v3.Cluster",
        name=service.name,
        type="EDS",
        connect_timeout="10s",
        eds_cluster_config={"eds_config": watched(service.eds)},
        transport_socket_matches=[
            {"name": "tlsMode-istio", "match": {"tlsMode": "istio"}, "transport_socket": mesh},
            {"name": "tlsMode-disabled", "match": {}, "transport_socket": raw_socket()},
        ],
    )
    if service.protocol == "h2":
        cluster |= only_h2()
    return cluster


def _listener(service: Service) -> Config:
    if service.protocol == "tcp":
        filters = tcp_proxy(service.name)
    else:
        filters = http_manager(service.name, [route_to(service.name, retry_policy=_retries())])
    return typed(
        "config.listener.v3.Listener",
        name=service.name,
        address=address("127.0.0.1", service.client_port),
        filter_chains=[{"filters": [filters]}],
    )


def _retries() -> Config:
    """Istio's default policy (pilot/pkg/networking/core/route/retry)."""
    previous = extension(
        "envoy.retry_host_predicates.previous_hosts",
        "extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate",
    )
    return {
        "retry_on": RETRY_ON,
        "num_retries": 2,
        "retry_host_predicate": [previous],
        "host_selection_retry_max_attempts": "5",
        "retriable_status_codes": [503],
    }
