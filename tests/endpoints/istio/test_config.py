"""A published Service in Istio's words, and that these mean the order that was asked for (S0.5, S2.5 to S2.7, I7)."""

from __future__ import annotations

from dataclasses import replace
from itertools import groupby
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hotswitch.api import service as said
from hotswitch.api.values import InvalidValue
from hotswitch.backends import (
    Backend,
    BackendPort,
    Conditions,
    Locality,
    Output,
    Published,
    PublishedEndpoint,
    Role,
    Rotation,
    ServiceMode,
    ServicePort,
    Staleness,
)
from hotswitch.decide.endpoints import everyone, failover
from hotswitch.decide.endpoints.place import Distance, Order, distance
from hotswitch.endpoints import assemble, objects
from hotswitch.endpoints.istio import config
from hotswitch.model import Generation, Level
from tests.endpoints.make import backend, service

pytestmark = pytest.mark.unit

SERVING = Conditions(ready=True, serving=True, terminating=False)
NOT = Conditions(ready=False, serving=False, terminating=False)
NEAREST = service(ServiceMode.NEAREST)


def published(*backends: Backend, mode: ServiceMode = ServiceMode.NEAREST, **fields: Any) -> Published:
    return Published(service(mode, **fields), tuple(PublishedEndpoint(each, SERVING) for each in backends))


def endpoints(of: Published) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = config.service_entry(of)["spec"]["endpoints"]
    return found


def test_a_service_and_its_backend() -> None:
    one = backend("db-0", 1, spiffe="spiffe://cluster.local/ns/shop/sa/db", proxied=True, weight=3)
    two = backend("db-1", 2, locality=Locality("east", "south", "south-1", "node-e", "net-2"))
    of = published(one, two)
    entry = config.service_entry(of)
    assert entry["metadata"]["name"] == "db-hotswitch" and entry["metadata"]["namespace"] == "shop"
    (owner,) = entry["metadata"]["ownerReferences"]
    assert owner["uid"] == "service-uid" and "blockOwnerDeletion" not in owner, "it would take services/finalizers"
    spec = entry["spec"]
    assert spec["hosts"] == ["db.shop.hotswitch.internal"]
    assert (spec["location"], spec["resolution"]) == ("MESH_INTERNAL", "STATIC")
    assert spec["ports"] == [{"number": 5432, "name": "sql", "protocol": "TCP"}]
    assert spec["endpoints"] == [
        {
            "address": "10.0.0.1",
            "ports": {"sql": 5432},
            "labels": {
                "security.istio.io/tlsMode": "istio",
                "endpoints.hotswitch.io/heard": "yes",
                "endpoints.hotswitch.io/home": "yes",
                "kubernetes.io/hostname": "node-a",
                "topology.kubernetes.io/zone": "north-1",
                "topology.kubernetes.io/region": "north",
            },
            "locality": "north/north-1",
            "weight": 3,
            "serviceAccount": "db",
        },
        {
            "address": "10.0.0.2",
            "ports": {"sql": 5432},
            "labels": {
                "security.istio.io/tlsMode": "disabled",
                "endpoints.hotswitch.io/heard": "yes",
                "endpoints.hotswitch.io/home": "no",
                "kubernetes.io/hostname": "node-e",
                "topology.kubernetes.io/zone": "south-1",
                "topology.kubernetes.io/region": "south",
            },
            "locality": "south/south-1",
            "network": "net-2",
            "weight": 1,
        },
    ]


@pytest.mark.parametrize(
    ("level", "mode"), [(Level.CAPTURE, "istio"), (Level.RESCUE, "istio"), (Level.DIRECT, "disabled")]
)
def test_a_bypassed_pod_is_spoken_to_as_it_hears(level: Level, mode: str) -> None:  # S4.4
    (found,) = endpoints(published(backend("db-0", proxied=True, inbound=level)))
    assert found["labels"]["security.istio.io/tlsMode"] == mode


def test_nobody_but_the_active_one_is_an_endpoint() -> None:  # S0.5, I7
    active = replace(backend("db-0", 1), role=Role.ACTIVE)
    standby = replace(backend("db-1", 2), role=Role.STANDBY)
    of = Published(
        service(),
        (PublishedEndpoint(active, SERVING), PublishedEndpoint(standby, SERVING)),  # whatever its conditions say
        Generation(7),
    )
    assert [each["address"] for each in endpoints(of)] == ["10.0.0.1"]
    assert config.service_entry(of)["metadata"]["annotations"] == {"endpoints.hotswitch.io/generation": "7"}
    assert config.destination_rule(of) is None  # nothing may eject the only one


def test_who_may_not_serve_is_no_endpoint() -> None:
    of = Published(NEAREST, (PublishedEndpoint(backend("db-0"), NOT),))
    assert endpoints(of) == []


def test_rotation_and_lost_clusters_are_followed() -> None:  # S2.4
    away = [
        replace(backend("db-1", 2, cluster="east"), staleness=Staleness.LOST),
        replace(backend("db-2", 3, cluster="east"), staleness=Staleness.STALE),
        replace(backend("db-3", 4), rotation=Rotation.OUT),
    ]
    found = endpoints(everyone.published(NEAREST, [backend("db-0", 1), *away]))
    assert [each["address"] for each in found] == ["10.0.0.1", "10.0.0.3"]
    assert found[1]["labels"]["endpoints.hotswitch.io/heard"] == "no"


def test_a_pod_without_the_port_is_left_out() -> None:
    """istiod would take the Service's own number for it, where nobody listens, or somebody else."""
    odd = backend("db-1", 2, ports=(BackendPort("other", 1),))
    assert [each["address"] for each in endpoints(published(backend("db-0", 1), odd))] == ["10.0.0.1"]


@pytest.mark.parametrize(
    ("port", "name", "protocol"),
    [
        (ServicePort("", 80, 8080, app_protocol="http"), "http-80", "HTTP"),
        (ServicePort("grpc-api", 80, 8080), "grpc-api", "GRPC"),
        (ServicePort("web", 80, 8080, app_protocol="kubernetes.io/h2c"), "web", "HTTP2"),
        (ServicePort("", 80, 8080), "tcp-80", "TCP"),
    ],
)
def test_ports_have_names_and_protocols_as_istio_reads_them(port: ServicePort, name: str, protocol: str) -> None:
    of = published(backend("db-0", ports=(BackendPort(port.name, 8080),)), ports=(port,))
    assert config.service_entry(of)["spec"]["ports"] == [{"number": 80, "name": name, "protocol": protocol}]
    assert endpoints(of)[0]["ports"] == {name: 8080}


def test_what_cannot_be_said_is_refused() -> None:
    udp = (ServicePort("dns", 53, 53, "UDP"),)
    with pytest.raises(config.Unsaid, match="TCP"):
        config.service_entry(published(ports=udp))


def test_of_more_than_one_object_bears_always_the_same_are_told_the_own_cluster_first() -> None:
    crowd = [backend(f"db-{number}", number) for number in range(config.AT_MOST)]
    assert len(endpoints(published(*crowd))) == config.AT_MOST and config.left_out(published(*crowd)) == 0
    far = backend("far", 5000, cluster="east")
    assert far.locality.cluster == "east"
    more = published(far, *crowd, backend("one-more", 5001))
    told = {each["address"] for each in endpoints(more)}
    assert len(told) == config.AT_MOST and config.left_out(more) == 2
    assert far.addresses[0] not in told
    without = {each["address"] for each in endpoints(published(*crowd[1:], backend("one-more", 5001)))}
    assert len(told - without) <= 1, "who goes changes one"


# ---- orders ----


@pytest.mark.parametrize(
    ("order", "labels"),
    [
        ("own-pod,same-host,same-zone,same-cluster,other-cluster", ("heard", "home", "zone", "hostname")),
        ("same-host,same-cluster", ("heard", "home", "hostname")),
        ("same-zone", ("heard", "home", "zone")),
        ("same-cluster", ("heard", "home")),
    ],
)
def test_labels_of_an_order(order: str, labels: tuple[str, ...]) -> None:
    found = failover.labels(Order.parse(order))
    assert tuple(each.partition("=")[0].rpartition("/")[2] for each in found) == labels


@pytest.mark.parametrize(
    ("order", "why"),
    [
        ("other-cluster,same-cluster", "near to far"),
        ("same-host,own-pod", "near to far"),
        ("only:same-cluster", "leaves out"),
    ],
)
def test_orders_that_have_no_words_there(order: str, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        failover.labels(Order.parse(order))


def asks(order: str, output: str = "istio", **more: str) -> Any:
    words = {said.MODE: "nearest", said.SELECTOR: "app=db", said.OUTPUT: output, said.ORDER: order}
    metadata = objects.Metadata(name="db", namespace="shop", annotations=words | more)
    ports = (objects.Port(port=80),)
    return assemble.service(objects.Service(metadata=metadata, spec=objects.ServiceSpec(ports=ports)))


def test_an_annotation_that_asks_for_what_has_no_words_is_named() -> None:
    with pytest.raises(InvalidValue) as found:
        asks("other-cluster,same-cluster")
    assert (found.value.field, found.value.value) == (said.ORDER, "other-cluster,same-cluster")
    with pytest.raises(InvalidValue) as found:
        asks("same-host", **{said.ROUTES: "batch header x-batch=1 other-cluster"})
    assert found.value.field == said.ROUTES
    with pytest.raises(InvalidValue) as found:
        asks("same-host", output="istio,files")
    assert (found.value.field, found.value.value) == (said.OUTPUT, "istio,files")
    assert asks("other-cluster,same-cluster", output="slices,xds").options.outputs == {Output.SLICES, Output.XDS}


def rank(labels: tuple[str, ...], caller: dict[str, str], endpoint: dict[str, str]) -> int:
    """As istiod reckons a priority: of a list, how many from its beginning are alike; `label=value` is compared with
    the value instead of the caller's own."""
    for number, label in enumerate(labels):
        name, fixed, value = label.partition("=")
        if (value if fixed else caller.get(name, "")) != endpoint.get(name, ""):
            return len(labels) - number
    return 0


CLUSTERS = st.sampled_from(["", "east"])
NODES = st.sampled_from(["a-1", "a-2", "b-1"])
ORDERS = st.lists(st.sampled_from(list(Distance)), unique=True).map(lambda each: Order(tuple(each)))


def place(cluster: str, node: str) -> Locality:
    """Nodes of the two clusters may be called the same; a zone is in one region."""
    return Locality(cluster, "north", f"zone-{node[0]}", node)


@given(
    order=ORDERS,
    here=NODES,
    there=st.lists(st.tuples(CLUSTERS, NODES, st.booleans()), min_size=1, max_size=8),
)
def test_endpoints_are_asked_in_the_order_that_was_asked_for(
    order: Order, here: str, there: list[tuple[str, str, bool]]
) -> None:  # S2.5, S2.6
    """For every order that can be said, and a caller of the home cluster: nearer is nearer, and alike is alike."""
    try:
        labels = failover.labels(order)
    except ValueError:
        return
    backends = [
        backend(
            f"db-{number}",
            number + 1,
            locality=place(cluster, node),
            staleness=Staleness.STALE if cluster and stale else Staleness.FRESH,
        )
        for number, (cluster, node, stale) in enumerate(there)
    ]
    caller = place("", here)
    proxy = {failover.HOST: caller.node, failover.ZONE: caller.zone, "topology.kubernetes.io/region": caller.region}
    turns = order.turns()
    wanted = {
        each.addresses[0]: turns[distance(caller, each.locality, each.staleness is Staleness.STALE)]
        for each in backends
    }
    found = {each["address"]: rank(labels, proxy, each["labels"]) for each in endpoints(published(*backends))}

    def grouped(ranks: dict[str, int]) -> list[set[str]]:
        ordered = sorted(ranks, key=lambda each: ranks[each])
        return [set(group) for _, group in groupby(ordered, key=lambda each: ranks[each])]

    assert grouped(found) == grouped(wanted)


def test_a_rule_has_what_istiod_needs_to_follow_an_order() -> None:
    rule = config.destination_rule(published(backend("db-0")))
    assert rule is not None and rule["spec"]["host"] == "db.shop.hotswitch.internal"
    policy = rule["spec"]["trafficPolicy"]
    assert policy["loadBalancer"]["localityLbSetting"]["failoverPriority"][0] == "endpoints.hotswitch.io/heard=yes"
    assert policy["outlierDetection"]["maxEjectionPercent"] == 100  # else the last of a level is never given up


def test_only_what_is_ours_to_say_is_a_difference() -> None:
    wanted = config.service_entry(published(backend("db-0")))
    known = {**wanted, "metadata": {**wanted["metadata"], "uid": "u", "annotations": {"a": "b"}}, "status": {}}
    assert not config.differs(wanted, known)
    assert config.differs(wanted, {**known, "spec": {**known["spec"], "hosts": ["x"]}})
    assert config.differs(wanted, {**known, "metadata": {**known["metadata"], "ownerReferences": []}})
