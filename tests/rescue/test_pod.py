"""Pods and their encodings: what cannot be used is refused by name, and templates say what direct encoding says."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from envoy_data_plane.envoy.config.cluster.v3 import Cluster
from envoy_data_plane.envoy.config.listener.v3 import Listener
from envoy_data_plane.envoy.service.discovery.v3 import DeltaDiscoveryResponse
from hypothesis import given, settings
from hypothesis import strategies as st

from hotswitch.model import NEVER_OPENED, Mtls
from hotswitch.rescue.authorization import Action, AuthorizationPolicy, Rule, Source
from hotswitch.rescue.clusters import clusters
from hotswitch.rescue.listeners import listeners
from hotswitch.rescue.pod import MeshDestination, PodRefused, RescuePod
from hotswitch.rescue.resources import Kind, encode_pod, end_of, generation_of
from hotswitch.rescue.tls import downstream_tls
from tests.rescue.authority import Authority, spiffe

pytestmark = pytest.mark.unit

POD = RescuePod("shop/web", "/var/run/netns/web", ("10.0.0.1", "fd00::1"))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("key", "shop|web"),
        ("key", ""),
        ("key", "\x01\x01"),
        ("netns", "web"),
        ("addresses", ()),
        ("addresses", ("10.0.0.0/8",)),
        ("trust_domains", ()),
        ("trust_domains", ("cluster.local/ns",)),
        ("mtls_by_port", {0: Mtls.STRICT}),
        ("mtls_by_port", {65536: Mtls.STRICT}),
    ],
)
def test_pod_that_cannot_be_is_refused_by_name(field: str, value: Any) -> None:
    change: dict[str, Any] = {field: value}
    with pytest.raises(PodRefused, match=f"^{field}: "):
        replace(POD, **change)


def test_destination_that_cannot_be_is_refused_by_name() -> None:
    with pytest.raises(PodRefused, match=r"outbound_mtls\.network: '10\.0\.0\.1/8'"):
        MeshDestination("10.0.0.1/8")
    with pytest.raises(PodRefused, match=r"outbound_mtls\.port: 0"):
        MeshDestination("10.0.0.0/8", 0)


def decoded(pod: RescuePod, kind: Kind, generation: int) -> list[bytes]:
    """What Envoy finds in a response that is joined from the pod's encodings."""
    wires = [encoded.wire for encoded in encode_pod(pod, None, generation).of(kind).values()]
    response = DeltaDiscoveryResponse.FromString(bytes(DeltaDiscoveryResponse(nonce="7")) + b"".join(wires))
    assert response.nonce == "7"
    found = []
    for resource in response.resources:
        assert resource.resource is not None and resource.resource.type_url == kind
        assert resource.name.startswith(f"{pod.key}|")
        found.append(resource.resource.value)
    return found


names = st.text("abckxyz0123456789.-", min_size=1, max_size=30)
modes = st.sampled_from(Mtls)
pods = st.builds(
    RescuePod,
    key=st.builds("{}/{}".format, names, names),
    netns=names.map(lambda name: f"/var/run/netns/{name}"),
    addresses=st.sampled_from((("10.0.0.1",), ("fd00::1",), ("10.0.0.1", "fd00::1"))),
    mtls=modes,
    mtls_by_port=st.dictionaries(st.sampled_from((80, 443, 3306)), modes, max_size=2),
    authorization=st.sampled_from(
        ((), (AuthorizationPolicy("k/k", Action.ALLOW, (Rule((Source(namespaces=("kkk",)),)),)),))
    ),
    outbound_mtls=st.sampled_from(((), (MeshDestination("10.0.0.0/8"), MeshDestination("10.1.0.0/16", 80)))),
)


@settings(max_examples=12, deadline=None)
@given(pods, st.integers(0, 10**10 - 1))
def test_template_says_what_direct_encoding_says(pod: RescuePod, generation: int) -> None:
    assert decoded(pod, Kind.CLUSTER, generation) == [bytes(cluster) for cluster in clusters(pod)]
    assert decoded(pod, Kind.LISTENER, generation) == [bytes(one) for one in listeners(pod, f"{generation:010d}")]


@settings(max_examples=12, deadline=None)
@given(pods)
def test_plaintext_gets_in_only_where_it_is_allowed(pod: RescuePod) -> None:  # I2: by construction
    inbound = Listener.FromString(decoded(pod, Kind.LISTENER, 0)[0])
    asked = [None, 80, 443, 3306, 9999]
    for chain in inbound.filter_chains:
        match = chain.filter_chain_match
        assert match is not None
        port = match.destination_port
        assert port in (*asked, *NEVER_OPENED, 15001, 15006)
        if chain.filters and chain.transport_socket is None:
            mode = pod.mtls if port is None else pod.mtls_by_port.get(port, pod.mtls)
            assert mode is not Mtls.STRICT
        if chain.transport_socket is not None:
            assert chain.transport_socket == downstream_tls(pod)
        if port in NEVER_OPENED:
            assert not chain.filters


def test_no_port_of_istio_is_opened_by_an_exception() -> None:
    pod = replace(POD, mtls_by_port={15020: Mtls.DISABLE, 15106: Mtls.PERMISSIVE})
    inbound = Listener.FromString(decoded(pod, Kind.LISTENER, 0)[0])
    opened = {
        c.filter_chain_match.destination_port for c in inbound.filter_chains if c.filters and c.filter_chain_match
    }
    assert opened == {None}


def test_version_changes_with_the_content_and_only_with_it() -> None:
    versions = {name: one.version for name, one in encode_pod(POD, None).listeners.items()}
    assert versions == {name: one.version for name, one in encode_pod(replace(POD), None).listeners.items()}
    changed = encode_pod(replace(POD, mtls=Mtls.PERMISSIVE), None).listeners
    assert changed["shop/web|in"].version != versions["shop/web|in"]
    assert changed["shop/web|out"].version == versions["shop/web|out"]
    assert generation_of(encode_pod(POD, None, 12).listeners["shop/web|in"].version) == 12
    assert generation_of("") == generation_of("somebody else's") == 0


def test_secrets_version_tells_the_end_and_nothing_of_the_key() -> None:
    identity = Authority().issue(spiffe()).identity()
    secrets = encode_pod(POD, identity).secrets
    assert set(secrets) == {"shop/web|identity", "shop/web|roots"}
    assert end_of(secrets["shop/web|identity"].version) == round(identity.not_after_unix_s)
    assert repr(identity.key.reveal()[40:60]) not in repr(secrets)
    assert identity.key.reveal() in secrets["shop/web|identity"].wire
    assert encode_pod(replace(POD, mtls=Mtls.DISABLE), identity).secrets == {}  # what is not needed is not sent


def test_connection_limits_are_istios() -> None:
    for wire in decoded(POD, Kind.CLUSTER, 0):
        breakers = Cluster.FromString(wire).circuit_breakers
        assert breakers is not None and breakers.thresholds[0].max_connections == 2**32 - 1
