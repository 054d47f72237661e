"""gRPC through the rescue, end to end: plain client, Envoy as its sidecar with mTLS, rescue, gRPC server (S4.3)."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from hotswitch.kernel.netns import inside
from hotswitch.model import Mtls
from hotswitch.precheck.tools import find_envoy
from tests.rescue.authority import spiffe
from tests.rescue.world import ISTIO_H2, POD4, World, eventually, world

pytestmark = pytest.mark.envoy

PORT = 50051


@contextlib.asynccontextmanager
async def grpc_app(w: World) -> AsyncIterator[None]:
    """Says the caller's address and what it was sent, three times."""

    async def three(request: bytes, context: grpc.aio.ServicerContext) -> AsyncIterator[bytes]:
        for _ in range(3):
            yield context.peer().encode() + b" " + request

    server = grpc.aio.server()
    method = grpc.unary_stream_rpc_method_handler(three)
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("app", {"Three": method}),))
    with inside(w.pod_ns):
        server.add_insecure_port(f"{POD4}:{PORT}")
    await server.start()
    try:
        yield
    finally:
        await server.stop(None)


def sidecar(w: World, folder: Path) -> dict[str, Any]:
    """A client's sidecar in the clients' namespace: HTTP/2 from a unix socket, mTLS with Istio's ALPN to the pod."""
    pair = w.authority.issue(spiffe("shop", "cart"))
    for name, content in (("chain", pair.chain), ("key", pair.key), ("roots", pair.roots)):
        Path(folder, name).write_bytes(content)
    prefix = "type.googleapis.com/envoy.extensions"
    tls = {
        "alpn_protocols": list(ISTIO_H2),
        "tls_certificates": [
            {"certificate_chain": {"filename": f"{folder}/chain"}, "private_key": {"filename": f"{folder}/key"}}
        ],
        "validation_context": {"trusted_ca": {"filename": f"{folder}/roots"}},
    }
    here = {"address": "0.0.0.0", "port_value": 0, "network_namespace_filepath": w.client_ns}
    pod = {"endpoint": {"address": {"socket_address": {"address": POD4, "port_value": PORT}}}}
    http2: dict[str, Any] = {"explicit_http_config": {"http2_protocol_options": {}}}
    cluster = {
        "name": "pod",
        "type": "STATIC",
        "upstream_bind_config": {"source_address": here},
        "load_assignment": {"cluster_name": "pod", "endpoints": [{"lb_endpoints": [pod]}]},
        "transport_socket": {
            "name": "tls",
            "typed_config": {
                "@type": f"{prefix}.transport_sockets.tls.v3.UpstreamTlsContext",
                "common_tls_context": tls,
            },
        },
        "typed_extension_protocol_options": {
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                "@type": f"{prefix}.upstreams.http.v3.HttpProtocolOptions",
                **http2,
            }
        },
    }
    route = {"match": {"prefix": "/"}, "route": {"cluster": "pod"}}
    manager = {
        "@type": f"{prefix}.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "in",
        "codec_type": "HTTP2",
        "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [route]}]},
        "http_filters": [{"name": "router", "typed_config": {"@type": f"{prefix}.filters.http.router.v3.Router"}}],
    }
    listener = {
        "name": "in",
        "address": {"pipe": {"path": f"{folder}/in.sock"}},
        "filter_chains": [{"filters": [{"name": "http", "typed_config": manager}]}],
    }
    return {"static_resources": {"listeners": [listener], "clusters": [cluster]}}


@contextlib.asynccontextmanager
async def client_sidecar(w: World, folder: Path) -> AsyncIterator[str]:
    Path(folder, "envoy.json").write_text(json.dumps(sidecar(w, folder)))
    options = ("--concurrency", "1", "--disable-hot-restart", "--log-level", "error")
    process = await asyncio.create_subprocess_exec(
        str(find_envoy()), "-c", f"{folder}/envoy.json", *options, start_new_session=True
    )
    try:
        await eventually(Path(folder, "in.sock").exists, "client's sidecar listens")
        yield f"unix:{folder}/in.sock"
    finally:
        process.kill()
        await process.wait()


@pytest.mark.parametrize("mode", [Mtls.STRICT, Mtls.PERMISSIVE])
def test_grpc_of_a_meshed_client(tmp_path: Path, mode: Mtls) -> None:
    async def scenario() -> None:
        async with world(mtls=mode) as w, grpc_app(w), client_sidecar(w, tmp_path) as target:
            async with grpc.aio.insecure_channel(target) as channel:
                call = channel.unary_stream("/app/Three")
                answers = [answer async for answer in call(b"hello", wait_for_ready=True, timeout=8)]
            assert len(answers) == 3
            assert all(answer.startswith(b"ipv4:127.0.0.6:") and answer.endswith(b" hello") for answer in answers)

    asyncio.run(scenario())
