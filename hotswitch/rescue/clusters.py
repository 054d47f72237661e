"""Where the rescue sends what it has accepted: the original destination, from inside the pod's namespace.

Inbound connections to the app come from 127.0.0.6 and ::6, as the sidecar's do: Istio's rules let those pass, and the
app sees the peer it is used to. (Istio's own set-up adds ::6 to lo where the pod has IPv6.) Outbound ones come from any
address of the pod; those to the mesh carry the pod's identity.
"""

from __future__ import annotations

import datetime

from envoy_data_plane.envoy.config.cluster.v3 import (
    CircuitBreakers,
    CircuitBreakersThresholds,
    Cluster,
    ClusterDiscoveryType,
    ClusterLbPolicy,
)
from envoy_data_plane.envoy.config.core.v3 import BindConfig, ExtraSourceAddress, SocketAddress, TransportSocket

from hotswitch.rescue.pod import IN, OUT, OUT_MTLS, RescuePod
from hotswitch.rescue.tls import upstream_tls

CONNECT_TIMEOUT = datetime.timedelta(seconds=10)  # Istio's meshConfig.connectTimeout
UNLIMITED = 2**32 - 1  # as Istio: Envoy's own default refuses connection 1,025 to a pod
_INBOUND_SOURCES, _ANY_SOURCE = ("127.0.0.6", "::6"), ("0.0.0.0", "::")


def clusters(pod: RescuePod) -> tuple[Cluster, ...]:
    found = [_cluster(pod, IN, _INBOUND_SOURCES), _cluster(pod, OUT, _ANY_SOURCE)]
    if pod.outbound_mtls:
        found.append(_cluster(pod, OUT_MTLS, _ANY_SOURCE, upstream_tls(pod)))
    return tuple(found)


def _cluster(
    pod: RescuePod, part: str, sources: tuple[str, str], transport_socket: TransportSocket | None = None
) -> Cluster:
    return Cluster(
        name=pod.name(part),
        type=ClusterDiscoveryType.ORIGINAL_DST,
        lb_policy=ClusterLbPolicy.CLUSTER_PROVIDED,
        connect_timeout=CONNECT_TIMEOUT,
        upstream_bind_config=_bind(pod, sources),
        circuit_breakers=CircuitBreakers(
            thresholds=[CircuitBreakersThresholds(max_connections=UNLIMITED, max_pending_requests=UNLIMITED)]
        ),
        transport_socket=transport_socket,
    )


def _bind(pod: RescuePod, sources: tuple[str, str]) -> BindConfig:
    """The namespace belongs to the source address: without one, Envoy connects from its own."""
    ipv4, ipv6 = (SocketAddress(address=a, port_value=0, network_namespace_filepath=pod.netns) for a in sources)
    if not pod.has_ipv6:
        return BindConfig(source_address=ipv4)
    if not pod.has_ipv4:
        return BindConfig(source_address=ipv6)
    return BindConfig(source_address=ipv4, extra_source_addresses=[ExtraSourceAddress(address=ipv6)])
