"""Istio's own clusters take endpoints from us: the shipped EnvoyFilter's patches, in a real Envoy."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from hotswitch.backends import Locality
from hotswitch.sandbox.app import HTTP_PORT
from hotswitch.sandbox.clients import EnvoyClient
from hotswitch.sandbox.eds_service import SERVICE, backend, published
from hotswitch.sandbox.envoy import client_tls, raw_socket
from tests.endpoints.xds.world import LISTEN, World, world

pytestmark = pytest.mark.envoy

FILTER = Path(__file__).parents[3] / "istio-addon/endpoints-from-hotswitch.yaml"
NAME = f"outbound|{HTTP_PORT}||db.shop.svc.cluster.local"


def patches() -> dict[str, dict[str, Any]]:
    """By operation."""
    found = yaml.safe_load(FILTER.read_text())["spec"]["configPatches"]
    return {each["patch"]["operation"]: each["patch"]["value"] for each in found}


def merged(base: dict[str, Any], more: dict[str, Any]) -> dict[str, Any]:
    """As protobuf merges messages; of a choice (ads or api_config_source) the newer stays."""
    found = {key: value for key, value in base.items() if not (key == "ads" and "api_config_source" in more)}
    for key, value in more.items():
        found[key] = merged(found[key], value) if isinstance(found.get(key), dict) else value
    return found


def test_patch_is_for_the_cluster_as_istio_names_it() -> None:
    every = yaml.safe_load(FILTER.read_text())["spec"]["configPatches"]
    assert every[1]["match"]["cluster"]["name"] == "outbound|5432||db.shop.svc.cluster.local"


def bootstrap(made: World, client: EnvoyClient) -> dict[str, Any]:
    """A sidecar's: its cluster as istiod sends it, with the patches; the server's address is the sandbox's."""
    spec = made.spec(client.name, {}, listen={LISTEN: NAME})
    whole = spec.envoy_eds()
    istios = {
        **whole["static_resources"]["clusters"][1],
        "eds_cluster_config": {"eds_config": {"ads": {}, "resource_api_version": "V3"}, "service_name": NAME},
        "transport_socket_matches": [
            {
                "name": "tlsMode-istio",
                "match": {"tlsMode": "istio"},
                "transport_socket": client_tls(("istio",), client.directory / "certs", ("spiffe://nobody",), "db"),
            },
            {"name": "tlsMode-disabled", "match": {}, "transport_socket": raw_socket()},
        ],
    }
    added = patches()["ADD"]
    socket = added["load_assignment"]["endpoints"][0]["lb_endpoints"][0]["endpoint"]["address"]["socket_address"]
    socket["address"], socket["port_value"] = spec.server
    whole["static_resources"]["clusters"] = [added, merged(istios, patches()["MERGE"])]
    del whole["cluster_manager"]  # sidecars report no load
    place = {"NAMESPACE": "shop", "NAME": "web-0", "NODE_NAME": "node-a", "CLUSTER_ID": "Kubernetes"}
    whole["node"] = {
        "id": f"sidecar~{client.place.ipv4}~web-0.shop~shop.svc.cluster.local",
        "cluster": "web.shop",
        "metadata": place,
    }
    return whole


def test_sidecars_cluster_takes_its_endpoints_from_us_nearest_first() -> None:
    """S2.5; facts of a backend with a sidecar: mTLS, unless it is bypassed."""

    async def story() -> None:
        async with world() as made:
            await made.backend("near", Locality(node="node-a"))
            await made.backend("far", Locality(node="node-b"))
            await made.backend("meshed", Locality(node="node-b"))
            made.publish("near", "far")
            client = EnvoyClient(made.box.estate, await made.box.network.attach("sidecar"), "sidecar")
            made.box.clients["sidecar"] = client
            made.box.ca.issue("spiffe://cluster.local/ns/shop/sa/web").write(client.directory / "certs", 0, 0)
            client.bootstrap.write_text(json.dumps(bootstrap(made, client)))
            await client.restart()
            asking = made.ask_http(client)
            await asking.answered_by("near")
            made.publish("far")
            await asking.answered_by("far")
            assert asking.failures() == []
            proxied = backend("meshed", made.pods["meshed"].ip, Locality(node="node-b"), proxied=True)
            made.publisher.publish(published(made.record, [proxied]))  # its app speaks no TLS, so clients fail
            await asking.until(lambda asked: all(each.failure == "503" for each in asked[-5:]), "mTLS to be spoken")
            assert made.publisher.services[SERVICE].problem == ""

    asyncio.run(story())
