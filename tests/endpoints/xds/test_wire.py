"""What is written and read by hand, against the library's whole messages, and against what is no message."""

from __future__ import annotations

import contextlib
import warnings

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hotswitch.backends import BackendId, Locality, ServiceId
from hotswitch.decide.endpoints.nearest import Ladder, Part, Rung
from hotswitch.decide.endpoints.place import Caller, Distance
from hotswitch.endpoints.xds import assignment, loads
from hotswitch.endpoints.xds.kinds import Kind
from hotswitch.endpoints.xds.names import parse
from hotswitch.endpoints.xds.request import incremental, state_of_the_world
from hotswitch.endpoints.xds.resource import Resource, incremental_answer, whole_answer
from hotswitch.model import Level, PodUid
from hotswitch.protowire import Malformed
from hotswitch.sandbox.eds_service import backend

with warnings.catch_warnings():  # its own modules warn about pydantic when they are first imported
    warnings.simplefilter("ignore")
    from envoy_data_plane.envoy.config.core.v3 import HealthStatus, Node
    from envoy_data_plane.envoy.config.endpoint.v3 import ClusterLoadAssignment, LbEndpoint
    from envoy_data_plane.envoy.service.discovery.v3 import (
        DeltaDiscoveryRequest,
        DeltaDiscoveryResponse,
        DiscoveryRequest,
        DiscoveryResponse,
    )
    from envoy_data_plane.envoy.service.load_stats.v3 import LoadStatsRequest, LoadStatsResponse
    from envoy_data_plane.google.rpc import Status

pytestmark = pytest.mark.k8s

ROOM = Locality("c", "north", "north-1", "node-a")
NODE = {
    "id": "sidecar~10.0.0.9~web-0.shop~shop.svc.cluster.local",
    "cluster": "web.shop",
    "metadata": {"NAMESPACE": "shop", "NAME": "web-0", "LABELS": {"app": "web"}, "INTERCEPTION": 4, "NODE_NAME": "n1"},
    "locality": {"region": "north", "zone": "north-1"},
}


def rung(distance: Distance, share: int) -> Rung:
    return Rung(distance, (Part(0, only=BackendId("c", PodUid(distance))),), 1, 1, None, 100, share)


def decoded(body: bytes) -> ClusterLoadAssignment:
    return ClusterLoadAssignment.FromString(assignment.named("db.shop:1", body))


def test_assignment_is_read_by_the_library_as_it_was_meant() -> None:
    rungs = (rung(Distance.HOST, 70), rung(Distance.ZONE, 30), rung(Distance.OTHER, 0))
    caller = Caller(locality=ROOM)
    one = assignment.endpoint(backend("a", "10.0.0.1", weight=3), 8080, "IPv4")
    found = decoded(assignment.assignment(caller, Ladder(rungs), lambda part: one))
    assert found.cluster_name == "db.shop:1"
    groups = [
        (each.priority, each.locality and each.locality.sub_zone, each.load_balancing_weight, len(each.lb_endpoints))
        for each in found.endpoints
    ]
    assert groups == [(0, "same-host", 70, 1), (0, "same-zone", 30, 1), (1, "other-cluster", 1, 1)]
    assert found.endpoints[0].locality is not None and found.endpoints[0].locality.zone == "north-1"
    assert found.endpoints[2].locality is not None and found.endpoints[2].locality.zone == ""


def test_while_nobody_serves_the_nearest_place_is_told_of_without_endpoints() -> None:
    """S0.7: by that gRPC lets go of addresses that it cannot reach, and tries them at once when they come back."""
    nobody = [Rung(each, (Part(0),), 0, 1, None, 0, 0) for each in (Distance.CLUSTER, Distance.OTHER)]
    found = decoded(assignment.assignment(Caller(locality=ROOM), Ladder(tuple(nobody)), lambda parts: b""))
    assert [
        (each.priority, each.locality and each.locality.sub_zone, each.load_balancing_weight, len(each.lb_endpoints))
        for each in found.endpoints
    ] == [(0, "same-cluster", 1, 0)]
    assert decoded(assignment.assignment(Caller(locality=ROOM), Ladder(), lambda parts: b"")).endpoints == []


def lb_endpoint(data: bytes) -> LbEndpoint:
    """`data`: an entry of a group."""
    found = decoded(assignment.message(2, data))
    return found.endpoints[0].lb_endpoints[0]


def test_endpoint_has_address_port_weight_and_health() -> None:
    found = lb_endpoint(assignment.endpoint(backend("a", "10.0.0.1", weight=300), 65535, "IPv4"))
    assert found.endpoint is not None and found.endpoint.address is not None
    socket = found.endpoint.address.socket_address
    assert socket is not None and (socket.address, socket.port_value) == ("10.0.0.1", 65535)
    assert (found.load_balancing_weight, found.health_status) == (300, HealthStatus.HEALTHY)
    assert found.metadata is None


def test_endpoint_of_another_family_only_is_left_out() -> None:
    assert assignment.endpoint(backend("a", "fd00::1"), 8080, "IPv4") == b""


@pytest.mark.parametrize(
    ("proxied", "inbound", "mtls"),
    [
        (True, Level.CAPTURE, True),
        (True, Level.RESCUE, True),
        (True, Level.DIRECT, False),
        (False, Level.CAPTURE, False),
    ],
)
def test_sidecars_speak_mtls_to_proxied_backends_that_are_not_bypassed(
    proxied: bool, inbound: Level, mtls: bool
) -> None:
    found = lb_endpoint(assignment.endpoint(backend("a", "10.0.0.1", proxied=proxied, inbound=inbound), 80, "IPv4"))
    fields = found.metadata.filter_metadata["envoy.transport_socket_match"].fields if found.metadata else {}
    assert {name: value.string_value for name, value in fields.items()} == ({"tlsMode": "istio"} if mtls else {})


def test_request_of_the_whole_state_is_read_as_the_library_writes_it() -> None:
    said = DiscoveryRequest(
        version_info="3",
        node=Node.from_dict(NODE),
        resource_names=["a", "b"],
        type_url=Kind.ENDPOINTS,
        response_nonce="7",
        error_detail=Status(code=3, message="no good"),
    )
    found = state_of_the_world(bytes(said))
    assert (found.kind, found.nonce, found.names, found.error) == (Kind.ENDPOINTS, "7", ("a", "b"), "no good")
    assert found.node is not None
    assert (found.node.id, found.node.region, found.node.zone) == (NODE["id"], "north", "north-1")
    assert found.node.metadata == {"NAMESPACE": "shop", "NAME": "web-0", "NODE_NAME": "n1"}


def test_incremental_request_is_read_as_the_library_writes_it() -> None:
    said = DeltaDiscoveryRequest(
        type_url=Kind.CLUSTER,
        resource_names_subscribe=["a"],
        resource_names_unsubscribe=["b"],
        initial_resource_versions={"c": "v1", "d": "v2"},
        response_nonce="7",
    )
    found = incremental(bytes(said))
    assert (found.names, found.dropped, found.held) == (("a",), ("b",), {"c": "v1", "d": "v2"})
    assert (found.node, found.error, found.nonce) == (None, None, "7")


def test_refusal_without_words_is_a_refusal() -> None:
    found = state_of_the_world(bytes(DiscoveryRequest(response_nonce="7", error_detail=Status(code=3))))
    assert found.error == ""


def test_answers_are_read_by_the_library_as_they_were_meant() -> None:
    one, two = (Resource.of(Kind.ENDPOINTS, name, assignment.named(name, b"")) for name in ("a", "b"))
    whole = DiscoveryResponse.FromString(whole_answer(Kind.ENDPOINTS, "v", "n", [one, two]))
    assert (whole.version_info, whole.nonce, whole.type_url) == ("v", "n", Kind.ENDPOINTS)
    assert [ClusterLoadAssignment.FromString(each.value).cluster_name for each in whole.resources] == ["a", "b"]
    delta = DeltaDiscoveryResponse.FromString(incremental_answer(Kind.ENDPOINTS, "n", [one], ["b", "c"]))
    assert [(each.name, each.version) for each in delta.resources] == [("a", one.version)]
    assert delta.resources[0].resource is not None and delta.resources[0].resource.type_url == Kind.ENDPOINTS
    assert delta.removed_resources == ["b", "c"]


def test_load_report_is_read_as_the_library_writes_it() -> None:
    locality = {"locality": {"subZone": "same-host"}, "totalSuccessfulRequests": 7, "totalErrorRequests": 1}
    first_place = {**locality, "totalRequestsInProgress": 300, "priority": 1}
    second = {"locality": {"subZone": "same-zone"}, "totalRequestsInProgress": 5, "totalIssuedRequests": 9}
    stats = {
        "clusterName": "db.shop:1#batch",
        "upstreamLocalityStats": [first_place, second],
        "loadReportInterval": "2s",
    }
    said = LoadStatsRequest.from_dict({"node": NODE, "clusterStats": [stats, {"clusterName": "another"}]})
    found = loads.reports(bytes(said))
    assert [(str(each.target), each.under_way, dict(each.ended)) for each in found] == [
        ("db.shop:1#batch", 305, {"same-host": 8, "same-zone": 0})
    ]


def test_of_services_that_are_not_ours_no_load_is_kept() -> None:
    """A client may report what it likes, for ever."""
    told: list[ServiceId] = []
    ours = ServiceId("shop", "db")
    kept = loads.Loads(lambda service, demand: told.append(service), lambda caller: caller, ours=lambda s: s == ours)
    reporter = loads.Reporter(Caller())
    stats = [
        {"clusterName": f"{name}.shop:1", "upstreamLocalityStats": [{"totalRequestsInProgress": 5}]}
        for name in ("db", *(f"made-up-{number}" for number in range(100)))
    ]
    kept.hear(reporter, bytes(LoadStatsRequest.from_dict({"clusterStats": stats})))
    assert set(reporter.under_way) == {ours} == set(told)
    for _ in range(20):
        kept.hear(reporter, b"")
    assert not reporter.under_way


@pytest.mark.parametrize(
    "name", ["db.shop:080", "db.shop:0", "db.shop:\u0668", "db.shop:123456", "outbound|080||db.shop.svc.x"]
)
def test_a_port_has_one_spelling(name: str) -> None:
    """Else a client could make the server keep any number of copies of one resource."""
    assert parse(name, "x") is None


def test_client_is_asked_for_all_its_load() -> None:
    said = LoadStatsResponse.FromString(loads.answer())
    assert said.send_all_clusters and said.load_reporting_interval is not None
    assert said.load_reporting_interval.total_seconds() == loads.INTERVAL_S


@given(st.binary(max_size=64))
def test_garbage_is_no_message_or_a_poor_one(data: bytes) -> None:
    for read in (state_of_the_world, incremental):
        with contextlib.suppress(Malformed):
            read(data)
