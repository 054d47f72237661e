"""The rescue's two doors in a pod's namespace, as Envoy listeners (S4.3, I2).

A raw filter chain exists only for destination ports where plaintext is allowed, so STRICT is kept by construction.
Where it is (PERMISSIVE), Istio's ALPNs tell mTLS from everything else, the app's own TLS included; under STRICT every
TLS client must prove itself, whatever it offers, as in the sidecar. The generation in a chain's name makes a drain:
chains that are new in name replace the old ones in place, and old connections get Envoy's drain time to finish.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterable, Iterator, Mapping

from envoy_data_plane.envoy.config.core.v3 import Address, SocketAddress, TrafficDirection
from envoy_data_plane.envoy.config.listener.v3 import (
    AdditionalAddress,
    Filter,
    FilterChain,
    FilterChainMatch,
    Listener,
    ListenerFilter,
    ListenerFilterChainMatchPredicate,
    ListenerFilterChainMatchPredicateMatchSet,
)
from envoy_data_plane.envoy.extensions.filters.listener.original_dst.v3 import OriginalDst
from envoy_data_plane.envoy.extensions.filters.listener.tls_inspector.v3 import TlsInspector
from envoy_data_plane.envoy.extensions.filters.network.tcp_proxy.v3 import TcpProxy
from envoy_data_plane.envoy.type.v3 import Int32Range
from envoy_data_plane.google.protobuf import Any

from hotswitch.model import ENVOY_INBOUND, ENVOY_OUTBOUND, NEVER_OPENED, RESCUE_INBOUND, RESCUE_OUTBOUND, Mtls, Port
from hotswitch.rescue.pod import IN, OUT, OUT_MTLS, RescuePod
from hotswitch.rescue.rbac import cidr, rbac_filters
from hotswitch.rescue.tls import downstream_tls

ISTIO_ALPN = ("istio", "istio-peer-exchange", "istio-http/1.0", "istio-http/1.1", "istio-h2")
REFUSED_PORTS = NEVER_OPENED | {ENVOY_INBOUND, ENVOY_OUTBOUND}
"""The gate never leads to these; should anything else do, it is turned away before it can go in circles."""
FIRST_BYTES_TIMEOUT = datetime.timedelta(seconds=1)
"""How long a PERMISSIVE port waits for a client to speak before it counts as plaintext with a server that speaks first
(MySQL, SMTP). It is those clients' extra latency, so short; a ClientHello lost twice (retransmitted after 0.2 and
0.4 s) still comes in time. Istio waits for ever (protocolDetectionTimeout 0) and such clients with it."""
HANDSHAKE_TIMEOUT = datetime.timedelta(seconds=10)
BUFFER_LIMIT_BYTES = 32768  # per connection and direction, as Istio's proxies have it


def listeners(pod: RescuePod, generation: str) -> tuple[Listener, ...]:
    """Inbound and outbound; a new `generation` drains the connections of the one before."""
    return _inbound(pod, generation), _outbound(pod, generation)


def _inbound(pod: RescuePod, generation: str) -> Listener:
    return _listener(
        pod,
        IN,
        RESCUE_INBOUND,
        ("0.0.0.0", "::"),
        traffic_direction=TrafficDirection.INBOUND,
        listener_filters=[_original_dst(), *_inspector(pod)],
        filter_chains=[*_refusals(), *_inbound_chains(pod, generation)],
    )


def _inbound_chains(pod: RescuePod, generation: str) -> Iterator[FilterChain]:
    filters = [*rbac_filters(pod.authorization, pod.trust_domains), _proxy(pod, IN)]
    tls = downstream_tls(pod)
    for port, mode in pod.modes:
        if port in REFUSED_PORTS:
            continue
        if mode is not Mtls.DISABLE:
            alpn = [] if mode is Mtls.STRICT else list(ISTIO_ALPN)
            yield FilterChain(
                name=f"mtls {port or 'any'} {generation}",
                filter_chain_match=FilterChainMatch(
                    destination_port=port, transport_protocol="tls", application_protocols=alpn
                ),
                filters=filters,
                transport_socket=tls,
                transport_socket_connect_timeout=HANDSHAKE_TIMEOUT,
            )
        if mode is not Mtls.STRICT:
            for protocol in _raw_protocols(mode):
                yield FilterChain(
                    name=f"raw {protocol or 'text'} {port or 'any'} {generation}",
                    filter_chain_match=FilterChainMatch(destination_port=port, transport_protocol=protocol),
                    filters=filters,
                )


def _raw_protocols(mode: Mtls) -> tuple[str, ...]:
    """Where some TLS is taken for mTLS, other TLS needs a chain of its own: Envoy does not turn back from "tls"."""
    return ("tls", "") if mode is Mtls.PERMISSIVE else ("",)


def _refusals() -> Iterator[FilterChain]:
    """A chain without filters closes what matches it."""
    for port in sorted(REFUSED_PORTS):
        yield FilterChain(name=f"refused {port}", filter_chain_match=FilterChainMatch(destination_port=port))


def _outbound(pod: RescuePod, generation: str) -> Listener:
    """A redirect in the output hook goes to loopback, so nobody else has to reach this door."""
    passing = FilterChain(name=f"passing {generation}", filters=[_proxy(pod, OUT)])
    return _listener(
        pod,
        OUT,
        RESCUE_OUTBOUND,
        ("127.0.0.1", "::1"),
        traffic_direction=TrafficDirection.OUTBOUND,
        listener_filters=[_original_dst()],
        filter_chains=[*_own_doors(), *_mesh_chains(pod, generation)],
        default_filter_chain=passing,
    )


def _own_doors() -> Iterator[FilterChain]:
    loopback = [cidr("127.0.0.0/8"), cidr("::1")]
    for port in (RESCUE_OUTBOUND, RESCUE_INBOUND):
        match = FilterChainMatch(destination_port=port, prefix_ranges=loopback)
        yield FilterChain(name=f"refused {port}", filter_chain_match=match)


def _mesh_chains(pod: RescuePod, generation: str) -> Iterator[FilterChain]:
    """Envoy looks for a port first and never turns back: a port's chain repeats the networks meant for every port."""
    for port, networks in _networks_by_port(pod).items():
        yield FilterChain(
            name=f"mesh {port or 'any'} {generation}",
            filter_chain_match=FilterChainMatch(destination_port=port, prefix_ranges=[cidr(n) for n in networks]),
            filters=[_proxy(pod, OUT_MTLS)],
        )


def _networks_by_port(pod: RescuePod) -> Mapping[Port | None, tuple[str, ...]]:
    anywhere = [to.network for to in pod.outbound_mtls if to.port is None]
    ports = {to.port for to in pod.outbound_mtls}
    if anywhere:
        ports |= {RESCUE_OUTBOUND, RESCUE_INBOUND}
    return {
        port: tuple(dict.fromkeys([*anywhere, *(to.network for to in pod.outbound_mtls if to.port == port)]))
        for port in sorted(ports, key=lambda port: port or 0)
    }


def _listener(
    pod: RescuePod,
    part: str,
    port: Port,
    hosts: tuple[str, str],
    *,
    traffic_direction: TrafficDirection,
    listener_filters: list[ListenerFilter],
    filter_chains: list[FilterChain],
    default_filter_chain: FilterChain | None = None,
) -> Listener:
    first, *more = _addresses(pod, port, hosts)
    return Listener(
        name=pod.name(part),
        address=first,
        additional_addresses=[AdditionalAddress(address=address) for address in more],
        traffic_direction=traffic_direction,
        per_connection_buffer_limit_bytes=BUFFER_LIMIT_BYTES,
        listener_filters=listener_filters,
        listener_filters_timeout=FIRST_BYTES_TIMEOUT,
        continue_on_listener_filters_timeout=True,
        filter_chains=filter_chains,
        default_filter_chain=default_filter_chain,
    )


def _addresses(pod: RescuePod, port: Port, hosts: tuple[str, str]) -> Iterable[Address]:
    for host, wanted in zip(hosts, (pod.has_ipv4, pod.has_ipv6), strict=True):
        if wanted:
            place = SocketAddress(address=host, port_value=port, network_namespace_filepath=pod.netns)
            yield Address(socket_address=place)


def _original_dst() -> ListenerFilter:
    return ListenerFilter(name="envoy.filters.listener.original_dst", typed_config=Any.pack(OriginalDst()))


def _inspector(pod: RescuePod) -> Iterator[ListenerFilter]:
    """Ports without mTLS are not inspected: their clients need not speak first, and are not kept waiting."""
    if not any(mode is not Mtls.DISABLE for _, mode in pod.modes):
        return
    disabled = _uninspected(pod.modes)
    inspector = Any.pack(TlsInspector())
    yield ListenerFilter(name="envoy.filters.listener.tls_inspector", typed_config=inspector, filter_disabled=disabled)


def _uninspected(modes: Iterable[tuple[Port | None, Mtls]]) -> ListenerFilterChainMatchPredicate | None:
    (_, default), *others = modes
    if default is Mtls.DISABLE:
        inspected = _one_of([port for port, _ in others if port is not None])
        return ListenerFilterChainMatchPredicate(not_match=inspected)
    ports = [port for port, mode in others if port is not None and mode is Mtls.DISABLE]
    return _one_of(ports) if ports else None


def _one_of(ports: list[Port]) -> ListenerFilterChainMatchPredicate:
    """Envoy wants two rules at least in a set."""
    rules = [_is_port(port) for port in ports]
    if len(rules) == 1:
        return rules[0]
    return ListenerFilterChainMatchPredicate(or_match=ListenerFilterChainMatchPredicateMatchSet(rules=rules))


def _is_port(port: Port) -> ListenerFilterChainMatchPredicate:
    return ListenerFilterChainMatchPredicate(destination_port_range=Int32Range(start=port, end=port + 1))


def _proxy(pod: RescuePod, part: str) -> Filter:
    proxy = TcpProxy(stat_prefix=part, cluster=pod.name(part))
    return Filter(name="envoy.filters.network.tcp_proxy", typed_config=Any.pack(proxy))
