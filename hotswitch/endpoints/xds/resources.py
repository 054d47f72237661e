"""Clusters, routes and listeners for clients that take those from us, too: Envoy over ADS, and proxyless gRPC (S2.8).

One of each for a Service's port, and one more cluster for each request rule: same backends, another order. They change
only with the Service, seldom, so the library encodes them. Connections to backends are plaintext: sidecars keep
clusters of their own, with Istio's mTLS, and take only endpoints from here.
"""

from __future__ import annotations

import datetime
import warnings
from collections.abc import Iterable

from hotswitch.decide.endpoints.rules import RequestRule
from hotswitch.endpoints.xds.names import Target
from hotswitch.protowire import message

with warnings.catch_warnings():  # its own modules warn about pydantic when they are first imported
    warnings.simplefilter("ignore")
    from envoy_data_plane.envoy.config.cluster.v3 import (
        CircuitBreakers,
        CircuitBreakersThresholds,
        Cluster,
        ClusterCommonLbConfig,
        ClusterCommonLbConfigLocalityWeightedLbConfig,
        ClusterDiscoveryType,
        ClusterEdsClusterConfig,
    )
    from envoy_data_plane.envoy.config.core.v3 import (
        AggregatedConfigSource,
        ApiVersion,
        ConfigSource,
        Http2ProtocolOptions,
    )
    from envoy_data_plane.envoy.config.listener.v3 import ApiListener, Listener
    from envoy_data_plane.envoy.config.route.v3 import (
        HeaderMatcher,
        Route,
        RouteAction,
        RouteConfiguration,
        RouteMatch,
        VirtualHost,
    )
    from envoy_data_plane.envoy.extensions.filters.http.router.v3 import Router
    from envoy_data_plane.envoy.extensions.filters.network.http_connection_manager.v3 import (
        HttpConnectionManager,
        HttpFilter,
        Rds,
    )
    from envoy_data_plane.envoy.extensions.upstreams.http.v3 import (
        HttpProtocolOptions,
        HttpProtocolOptionsExplicitHttpConfig,
    )
    from envoy_data_plane.envoy.type.matcher.v3 import StringMatcher
    from envoy_data_plane.envoy.type.v3 import Percent
    from envoy_data_plane.google.protobuf import Any as Packed

CONNECT_TIMEOUT = datetime.timedelta(seconds=1)
UNLIMITED = 2**32 - 1  # as Istio: Envoy's own default refuses connection 1,025 to a Service
HTTP2 = frozenset({"grpc", "kubernetes.io/h2c", "http2"})  # appProtocol of a Service's port
_REPORT_TO_US = message(42, message(5, b""))  # lrs_server: self. gRPC reports its load to whom the cluster comes from
_OPTIONS = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"


def cluster(name: str, app_protocol: str) -> bytes:
    """Shares of a priority are weights of localities; no panic: only who may serve is told of."""
    found = Cluster(
        name=name,
        type=ClusterDiscoveryType.EDS,
        eds_cluster_config=ClusterEdsClusterConfig(eds_config=_ads()),
        connect_timeout=CONNECT_TIMEOUT,
        common_lb_config=ClusterCommonLbConfig(
            healthy_panic_threshold=Percent(value=0.0),
            locality_weighted_lb_config=ClusterCommonLbConfigLocalityWeightedLbConfig(),
        ),
        circuit_breakers=CircuitBreakers(
            thresholds=[
                CircuitBreakersThresholds(
                    max_connections=UNLIMITED, max_pending_requests=UNLIMITED, max_requests=UNLIMITED
                )
            ]
        ),
    )
    if app_protocol in HTTP2:
        found.typed_extension_protocol_options = {_OPTIONS: _http2()}
    return bytes(found) + _REPORT_TO_US


def _http2() -> Packed:
    explicit = HttpProtocolOptionsExplicitHttpConfig(http2_protocol_options=Http2ProtocolOptions())
    return Packed.pack(HttpProtocolOptions(explicit_http_config=explicit))


def _ads() -> ConfigSource:
    return ConfigSource(ads=AggregatedConfigSource(), resource_api_version=ApiVersion.V3)


def routes(name: str, target: Target, rules: Iterable[RequestRule]) -> bytes:
    """The first rule that matches; else the Service's own order."""
    chosen = [_route(_match(each), str(target._replace(rule=each.name))) for each in rules]
    every = [*chosen, _route(RouteMatch(prefix="/"), str(target))]
    host = VirtualHost(name=str(target), domains=["*"], routes=every)
    return bytes(RouteConfiguration(name=name, virtual_hosts=[host]))


def _match(rule: RequestRule) -> RouteMatch:
    if not rule.header:
        return RouteMatch(prefix=rule.prefix)
    header = HeaderMatcher(name=rule.header, string_match=StringMatcher(exact=rule.value))
    return RouteMatch(prefix=rule.prefix, headers=[header])


def _route(match: RouteMatch, cluster_name: str) -> Route:
    action = RouteAction(cluster=cluster_name, timeout=datetime.timedelta())
    return Route(match=match, route=action)


def listener(name: str, target: Target) -> bytes:
    """What a gRPC client of xds:///`name` asks for first. An Envoy's listeners are its own."""
    manager = HttpConnectionManager(
        stat_prefix=name,
        rds=Rds(route_config_name=str(target), config_source=_ads()),
        http_filters=[HttpFilter(name="router", typed_config=Packed.pack(Router()))],
    )
    return bytes(Listener(name=name, api_listener=ApiListener(api_listener=Packed.pack(manager))))
