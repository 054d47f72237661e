"""What Envoy and gRPC are given to take their endpoints from an xDS server: their bootstraps (S2.5).

Envoy over EDS only (its cluster and route are its own), or over ADS (clusters and routes come from the server, too).
Both state of the world and incremental. Every client says where it is in its node's metadata.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hotswitch.model import ADMIN, Port
from hotswitch.sandbox.envoy import Config, address, extension, http_manager, only_h2, route_to

SERVER = "xds"


@dataclass(frozen=True, slots=True)
class XdsClientSpec:
    """`server`: host and port; `more`: others, of which one leads and listens. `where`: pod_ip, node, zone, cluster.
    `listen`: ports on 127.0.0.1, by Service name."""

    name: str
    server: tuple[str, Port]
    where: Mapping[str, str] = field(default_factory=dict)
    incremental: bool = False
    listen: Mapping[Port, str] = field(default_factory=dict)
    tls: Config | None = None  # transport socket towards the server
    more: tuple[tuple[str, Port], ...] = ()

    @property
    def api_type(self) -> str:
        return "DELTA_GRPC" if self.incremental else "GRPC"

    def grpc_bootstrap(self) -> dict[str, Any]:
        """The file that GRPC_XDS_BOOTSTRAP names."""
        return {
            "xds_servers": [
                {
                    "server_uri": self._uri(),
                    "channel_creds": [{"type": "insecure"}],
                    "server_features": ["xds_v3"],
                }
            ],
            "node": self._node(),
        }

    def _uri(self) -> str:
        """All of them behind one name."""
        is_v6 = ":" in self.server[0]
        every = [f"[{host}]:{port}" if is_v6 else f"{host}:{port}" for host, port in (self.server, *self.more)]
        return f"ipv{6 if is_v6 else 4}:{','.join(every)}"

    def envoy_eds(self) -> Config:
        """Own clusters and routes; endpoints from the server."""
        clusters = [self._server_cluster(), *(self._cluster(name) for name in self.listen.values())]
        listeners = [_listener(port, http_manager(name, [route_to(name)]), name) for port, name in self.listen.items()]
        return self._envoy(clusters, listeners)

    def envoy_ads(self) -> Config:
        """Clusters, endpoints and routes from the server, on one stream."""
        listeners = [_listener(port, _by_rds(name), name) for port, name in self.listen.items()]
        api = {"api_type": self.api_type, "transport_api_version": "V3", "grpc_services": [_SERVICE]}
        sources = {"ads_config": api, "cds_config": {"ads": {}, "resource_api_version": "V3"}}
        return self._envoy([self._server_cluster()], listeners) | {"dynamic_resources": sources}

    def save(self, path: Path, content: Mapping[str, Any]) -> None:
        path.write_text(json.dumps(content))

    def _node(self) -> Config:
        return {"id": self.name, "cluster": "sandbox", "metadata": dict(self.where)}

    def _envoy(self, clusters: list[Config], listeners: list[Config]) -> Config:
        return {
            "node": self._node(),
            "admin": {"address": address("127.0.0.1", ADMIN)},
            "static_resources": {"clusters": clusters, "listeners": listeners},
            "cluster_manager": {
                "load_stats_config": {
                    "api_type": "GRPC",
                    "transport_api_version": "V3",
                    "grpc_services": [_SERVICE],
                }
            },
        }

    def _server_cluster(self) -> Config:
        every = [{"endpoint": {"address": address(*each)}} for each in (self.server, *self.more)]
        secure = {"transport_socket": self.tls} if self.tls else {}
        return {
            "name": SERVER,
            "type": "STATIC",
            "connect_timeout": "1s",
            "load_assignment": {"cluster_name": SERVER, "endpoints": [{"lb_endpoints": every}]},
            **only_h2(),
            **secure,
        }

    def _cluster(self, name: str) -> Config:
        api = {"api_type": self.api_type, "transport_api_version": "V3", "grpc_services": [_SERVICE]}
        source = {"api_config_source": api, "resource_api_version": "V3"}
        return {
            "name": name,
            "type": "EDS",
            "connect_timeout": "1s",
            "eds_cluster_config": {"eds_config": source},
            "common_lb_config": {"locality_weighted_lb_config": {}},
        }


_SERVICE = {"envoy_grpc": {"cluster_name": SERVER}}


def _listener(port: Port, filter_: Config, name: str) -> Config:
    return {"name": name, "address": address("127.0.0.1", port), "filter_chains": [{"filters": [filter_]}]}


def _by_rds(name: str) -> Config:
    router = extension("envoy.filters.http.router", "extensions.filters.http.router.v3.Router")
    rds = {"route_config_name": name, "config_source": {"ads": {}, "resource_api_version": "V3"}}
    kind = "extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"
    return extension("http", kind, stat_prefix=name, rds=rds, http_filters=[router])
