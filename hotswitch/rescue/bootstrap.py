"""What the rescue Envoy is started with: where its agent is, its admin socket, and its limits. No secret is in it.

Everything about pods comes over ADS. Envoy keeps what it has when the agent goes away, and looks for it again at once:
an open gate must not notice a restart of the agent.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

NODE_ID = "hotswitch-rescue"
DRAIN_S = 30  # what a drained connection has left; older HTTP connection pools would stay for ever
CONCURRENCY = 2
MAX_HEAP_BYTES = 512 << 20  # one pod's flood must not end in an OOM kill for all pods of the node
MAX_CONNECTIONS = 100_000
STUCK_S = 10  # a thread that has not moved for so long: Envoy ends itself, and is respawned in some 60 ms


def bootstrap(xds_socket: Path, admin_socket: Path) -> str:
    """JSON for --config-path."""
    return json.dumps(
        {
            "node": {"id": NODE_ID, "cluster": "hotswitch"},
            "admin": {"address": _pipe(admin_socket)},
            "dynamic_resources": {
                "ads_config": {
                    "api_type": "DELTA_GRPC",
                    "transport_api_version": "V3",
                    "set_node_on_first_message_only": True,
                    "grpc_services": [{"envoy_grpc": {"cluster_name": "agent", "retry_policy": _reconnect()}}],
                },
                "cds_config": {"ads": {}, "resource_api_version": "V3"},
                "lds_config": {"ads": {}, "resource_api_version": "V3"},
            },
            "static_resources": {"clusters": [_agent(xds_socket)]},
            "stats_config": {"stats_matcher": {"inclusion_list": {"patterns": _kept_stats()}}},
            "overload_manager": _overload(),
            "watchdogs": {"main_thread_watchdog": _watchdog(), "worker_watchdog": _watchdog()},
        }
    )


def _pipe(path: Path) -> dict[str, Any]:
    return {"pipe": {"path": str(path), "mode": 0o600}}


def _reconnect() -> dict[str, Any]:
    return {"retry_back_off": {"base_interval": "0.05s", "max_interval": "1s"}}


def _agent(xds_socket: Path) -> dict[str, Any]:
    endpoint = {"endpoint": {"address": {"pipe": {"path": str(xds_socket)}}}}
    http2 = "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
    return {
        "name": "agent",
        "type": "STATIC",
        "connect_timeout": "1s",
        "load_assignment": {"cluster_name": "agent", "endpoints": [{"lb_endpoints": [endpoint]}]},
        "typed_extension_protocol_options": {
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                "@type": http2,
                "explicit_http_config": {"http2_protocol_options": {}},
            }
        },
    }


def _kept_stats() -> list[dict[str, str]]:
    """Stats of every listener and cluster of 250 pods would cost more memory than the pods themselves."""
    return [{"prefix": "server."}, {"prefix": "listener_manager."}, {"prefix": "cluster_manager."}]


def _overload() -> dict[str, Any]:
    heap = "envoy.resource_monitors.fixed_heap"
    config = {
        "@type": "type.googleapis.com/envoy.extensions.resource_monitors.fixed_heap.v3.FixedHeapConfig",
        "max_heap_size_bytes": MAX_HEAP_BYTES,
    }
    connections = "envoy.resource_monitors.global_downstream_max_connections"
    count = {
        "@type": "type.googleapis.com/envoy.extensions.resource_monitors.downstream_connections.v3"
        ".DownstreamConnectionsConfig",
        "max_active_downstream_connections": MAX_CONNECTIONS,
    }
    return {
        "refresh_interval": "0.25s",
        "resource_monitors": [{"name": heap, "typed_config": config}, {"name": connections, "typed_config": count}],
        "actions": [_at(heap, "shrink_heap", 0.9), _at(heap, "reject_incoming_connections", 0.95)],
    }


def _at(monitor: str, action: str, share: float) -> dict[str, Any]:
    return {"name": f"envoy.overload_actions.{action}", "triggers": [{"name": monitor, "threshold": {"value": share}}]}


def _watchdog() -> dict[str, str]:
    return {"kill_timeout": f"{STUCK_S}s"}
