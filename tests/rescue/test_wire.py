"""Our few discovery messages and secrets against the library's whole ones, and against what is no message."""

from __future__ import annotations

import contextlib

import pytest
from envoy_data_plane.envoy.config.core.v3 import DataSource, Node
from envoy_data_plane.envoy.extensions.transport_sockets.tls.v3 import (
    CertificateValidationContext,
    Secret,
    TlsCertificate,
)
from envoy_data_plane.envoy.service.discovery.v3 import (
    DeltaDiscoveryRequest,
    DeltaDiscoveryResponse,
    DiscoveryRequest,
    DiscoveryResponse,
    Resource,
)
from envoy_data_plane.google.protobuf import Any as Packed
from envoy_data_plane.google.rpc import Status
from hypothesis import given, settings
from hypothesis import strategies as st

from hotswitch.protowire import Malformed
from hotswitch.rescue import wire
from hotswitch.rescue.wire import DeltaRequest

pytestmark = pytest.mark.unit

TYPE = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret"
names = st.text(max_size=20)
lists = st.lists(names, max_size=3)


@given(names, st.binary(max_size=50), st.binary(max_size=50))
def test_secrets_that_we_write(name: str, some: bytes, other: bytes) -> None:
    certificate = TlsCertificate(certificate_chain=DataSource(inline_bytes=some), private_key=_of(other))
    assert Secret.FromString(wire.pair(name, some, other)) == Secret(name=name, tls_certificate=certificate)
    trust = CertificateValidationContext(trusted_ca=DataSource(inline_bytes=some))
    assert Secret.FromString(wire.roots(name, some)) == Secret(name=name, validation_context=trust)


def _of(content: bytes) -> DataSource:
    return DataSource(inline_bytes=content)


def test_secrets_that_we_are_given() -> None:
    pair = TlsCertificate(certificate_chain=_of(b"chain"), private_key=DataSource(inline_string="key"))
    assert wire.secret(bytes(Secret(name="default", tls_certificate=pair))) == wire.Secret("default", b"chain", b"key")
    trust = CertificateValidationContext(trusted_ca=_of(b"roots"))
    assert wire.secret(bytes(Secret(name="ROOTCA", validation_context=trust))) == wire.Secret(
        "ROOTCA", roots_pem=b"roots"
    )
    elsewhere = TlsCertificate(certificate_chain=DataSource(filename="/etc/passwd"), private_key=_of(b"key"))
    assert wire.secret(bytes(Secret(name="default", tls_certificate=elsewhere))) == wire.Secret("default", b"", b"key")
    assert "key" not in repr(wire.Secret("default", b"chain", b"key"))


@given(names.filter(bool), names)
def test_workload_socket_is_asked(node: str, name: str) -> None:
    asked = DiscoveryRequest.FromString(wire.discovery_request(node, TYPE, name))
    wanted = DiscoveryRequest(node=Node(id=node), type_url=TYPE, resource_names=[name] if name else [])
    assert asked == wanted


@given(st.lists(st.binary(max_size=30), max_size=3))
def test_workload_socket_answers(contents: list[bytes]) -> None:
    resources = [Packed(type_url=TYPE, value=content) for content in contents]
    assert wire.discovered(bytes(DiscoveryResponse(version_info="1", resources=resources, nonce="n"))) == contents


@given(lists, lists, st.dictionaries(names, names, max_size=3), names, st.none() | names)
def test_envoy_speaks(
    subscribe: list[str], unsubscribe: list[str], held: dict[str, str], nonce: str, refusal: str | None
) -> None:
    said = DeltaDiscoveryRequest(
        node=Node(id="rescue", cluster="c"),
        type_url=TYPE,
        resource_names_subscribe=subscribe,
        resource_names_unsubscribe=unsubscribe,
        initial_resource_versions=held,
        response_nonce=nonce,
        error_detail=None if refusal is None else Status(code=13, message=refusal),
    )
    assert wire.delta_request(bytes(said)) == DeltaRequest(
        TYPE, tuple(subscribe), tuple(unsubscribe), held, nonce, refusal
    )


@given(names, lists, names)
def test_envoy_is_told(nonce: str, removed: list[str], name: str) -> None:
    resource = Resource(name=name, version="7", resource=Packed(type_url=TYPE, value=b"content"))
    entry = bytes(DeltaDiscoveryResponse(resources=[resource]))
    told = DeltaDiscoveryResponse.FromString(wire.delta_response(TYPE, nonce, removed, [entry]))
    assert told == DeltaDiscoveryResponse(type_url=TYPE, nonce=nonce, removed_resources=removed, resources=[resource])


@settings(max_examples=300)
@given(st.binary(max_size=200))
def test_what_is_no_message(data: bytes) -> None:
    """A stranger's bytes: an answer, or Malformed, and nothing else."""
    for read in (wire.secret, wire.discovered, wire.delta_request):
        with contextlib.suppress(Malformed):
            read(data)
