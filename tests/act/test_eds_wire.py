"""Our few fields against the library's whole messages, and against what is no message."""

from __future__ import annotations

import contextlib
import warnings

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hotswitch.act import eds_wire
from hotswitch.act.eds_wire import Answer, Endpoint
from hotswitch.protowire import Malformed

with warnings.catch_warnings():  # its own modules warn about pydantic when they are first imported
    warnings.simplefilter("ignore")
    from envoy_data_plane.envoy.config.endpoint.v3 import ClusterLoadAssignment
    from envoy_data_plane.envoy.service.discovery.v3 import DiscoveryRequest, DiscoveryResponse
    from envoy_data_plane.google.protobuf import Any as Packed

pytestmark = pytest.mark.k8s

EDS = "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment"


def endpoint(address: str, mode: str | None = None, more: str = "") -> dict[str, object]:
    at = {"socketAddress": {"address": address, "portValue": 8080}}
    others = [{"address": {"socketAddress": {"address": more, "portValue": 8080}}}] if more else []
    labels = {"tlsMode": mode} if mode is not None else {}
    matches = {"envoy.transport_socket_match": labels, "istio": {"workload": "web;default;web;;"}}
    return {
        "endpoint": {"address": at, "additionalAddresses": others, "hostname": "h"},
        "healthStatus": "HEALTHY",
        "metadata": {"filterMetadata": matches},
        "loadBalancingWeight": 1,
    }


def assignment(name: str, *endpoints: dict[str, object]) -> Packed:
    groups = [{"locality": {"region": "r"}, "lbEndpoints": [each], "priority": 1} for each in endpoints]
    message = ClusterLoadAssignment.from_dict({"clusterName": name, "endpoints": groups, "policy": {}})
    return Packed(type_url=EDS, value=bytes(message))


def test_answer_is_read_as_the_library_writes_it() -> None:
    resources = [assignment("a", endpoint("10.1.2.3", "istio", "fd00::3"), endpoint("10.1.2.4")), assignment("b")]
    said = DiscoveryResponse(version_info="v7", resources=resources, canary=True, type_url=EDS, nonce="n9")
    found = eds_wire.answer(bytes(said))
    assert found == Answer(
        "v7", "n9", {"a": (Endpoint(("10.1.2.3", "fd00::3"), "istio"), Endpoint(("10.1.2.4",))), "b": ()}
    )


def test_request_is_written_as_the_library_reads_it() -> None:
    node = eds_wire.node("sidecar~127.0.0.1~hotswitch.x~x.svc", {"NAMESPACE": "x", "CLUSTER_ID": "Kubernetes"})
    first = DiscoveryRequest.FromString(eds_wire.request(EDS, ("a", "b"), node=node))
    assert (first.type_url, first.resource_names, first.version_info) == (EDS, ["a", "b"], "")
    assert first.node is not None and first.node.id == "sidecar~127.0.0.1~hotswitch.x~x.svc"
    assert first.node.metadata is not None
    fields = {name: value.string_value for name, value in first.node.metadata.fields.items()}
    assert fields == {"NAMESPACE": "x", "CLUSTER_ID": "Kubernetes"}
    taken = DiscoveryRequest.FromString(eds_wire.request(EDS, ("a",), version="v7", nonce="n9"))
    assert (taken.version_info, taken.response_nonce, taken.node) == ("v7", "n9", None)


@given(st.binary(max_size=64))
def test_garbage_is_no_message_or_an_empty_one(data: bytes) -> None:
    with contextlib.suppress(Malformed):
        eds_wire.answer(data)


@given(st.integers(min_value=0, max_value=200))
def test_message_that_was_cut_off(kept: int) -> None:
    whole = bytes(DiscoveryResponse(version_info="v", resources=[assignment("a", endpoint("10.1.2.3", "istio"))]))
    try:
        found = eds_wire.answer(whole[:kept])
    except Malformed:
        return
    assert kept >= len(whole) or found.clusters == {}
