"""Parts that need no machine: figures from rows, certificates, and the hand-made secret discovery messages."""

from __future__ import annotations

import time

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from envoy_data_plane.envoy.extensions.transport_sockets.tls.v3 import Secret
from envoy_data_plane.envoy.service.discovery.v3 import DiscoveryRequest, DiscoveryResponse

from hotswitch.sandbox import sds
from hotswitch.sandbox.ca import CertificateAuthority, spiffe_id
from hotswitch.sandbox.outcome import Kind, Results, Row

pytestmark = pytest.mark.unit

WELL, BAD = Kind.VIA_PROXY, Kind.REFUSED


def _results(*kinds: Kind) -> Results:
    """One request each millisecond from 10.000 s, answered within half of one."""
    return Results(tuple(Row(10 + at / 1000, 10.0005 + at / 1000, kind) for at, kind in enumerate(kinds)))


def test_outage_ends_with_the_first_request_after_which_nothing_fails() -> None:
    summary = _results(WELL, WELL, BAD, WELL, BAD, Kind.DIRECT, Kind.DIRECT).summary(10.0016)
    assert (summary.requests, summary.failed, summary.still_failing) == (5, 2, False)
    assert summary.outage_s == pytest.approx(0.0034)
    assert summary.kinds == {BAD: 2, WELL: 1, Kind.DIRECT: 2}


def test_no_failure_is_no_outage() -> None:
    assert _results(WELL, WELL).summary(10.0).outage_s == 0.0


def test_outage_without_end_is_said() -> None:
    summary = _results(WELL, BAD, BAD).summary(10.0)
    assert summary.still_failing
    assert summary.outage_s == pytest.approx(0.0025)


def test_request_under_way_at_the_fault_counts() -> None:
    rows = Results((Row(9.0, 9.1, BAD), Row(9.9, 10.5, Kind.TIMEOUT), Row(10.1, 10.2, WELL)))
    assert rows.summary(10.0).failed == 1


def test_nothing_sent_is_nothing_failed() -> None:
    assert Results(()).summary(10.0).requests == 0


def test_identity_is_what_istiod_issues() -> None:
    ca = CertificateAuthority()
    identity = ca.issue(spiffe_id("default", "web"), lifetime_s=100)
    certificate = x509.load_pem_x509_certificate(identity.chain_pem)
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    assert names.critical and not certificate.subject.rdns
    assert names.value.get_values_for_type(x509.UniformResourceIdentifier) == [
        "spiffe://cluster.local/ns/default/sa/web"
    ]
    assert isinstance(certificate.public_key(), ec.EllipticCurvePublicKey)
    assert certificate.not_valid_after_utc.timestamp() == pytest.approx(time.time() + 100, abs=5)
    certificate.verify_directly_issued_by(x509.load_pem_x509_certificate(identity.root_pem))
    assert b"PRIVATE" in identity.key_pem and "PRIVATE" not in repr(identity)


def test_identity_may_have_expired() -> None:
    certificate = x509.load_pem_x509_certificate(CertificateAuthority().issue("spiffe://x/y", -60).chain_pem)
    assert certificate.not_valid_before_utc < certificate.not_valid_after_utc
    assert certificate.not_valid_after_utc.timestamp() < time.time()


def test_secret_messages_are_read_by_the_real_library() -> None:
    secrets = {"default": sds.encode_identity(b"chain", b"key" * 100), "ROOTCA": sds.encode_roots(b"root")}
    response = DiscoveryResponse.parse(sds.encode_response("7", secrets, "n1"))
    assert (response.version_info, response.nonce, response.type_url) == ("7", "n1", sds.SECRET_TYPE)
    assert {resource.type_url for resource in response.resources} == {sds.SECRET_TYPE}
    identity, roots = (Secret.parse(resource.value) for resource in response.resources)
    assert (identity.name, roots.name) == ("default", "ROOTCA")
    assert identity.tls_certificate is not None and roots.validation_context is not None
    assert identity.tls_certificate.certificate_chain.inline_bytes == b"chain"
    assert identity.tls_certificate.private_key.inline_bytes == b"key" * 100
    assert roots.validation_context.trusted_ca.inline_bytes == b"root"


def test_request_of_the_real_library_is_read() -> None:
    request = DiscoveryRequest(version_info="3", resource_names=["default", "ROOTCA"], response_nonce="n" * 200)
    question = sds.parse_request(bytes(request))
    assert question == sds.Question(("default", "ROOTCA"), "n" * 200, error=False)


def test_foreign_wire_type_is_refused() -> None:
    with pytest.raises(ValueError, match="wire type 5"):
        list(sds.fields(b"\x0d\x00\x00\x00\x00"))
