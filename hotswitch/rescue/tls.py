"""The two TLS contexts of a pod: what the rescue shows and demands as a server, and as a client of the mesh.

Certificates and roots come by SDS, so that they rotate without touching a connection, and a listener is not opened
before they are there (no initial_fetch_timeout). A peer is believed if its chain ends in the pod's roots and its SPIFFE
id lies in a trust domain of the mesh.
"""

from __future__ import annotations

import datetime

from envoy_data_plane.envoy.config.core.v3 import AggregatedConfigSource, ApiVersion, ConfigSource, TransportSocket
from envoy_data_plane.envoy.extensions.transport_sockets.tls.v3 import (
    CertificateValidationContext,
    CommonTlsContext,
    CommonTlsContextCombinedCertificateValidationContext,
    DownstreamTlsContext,
    SdsSecretConfig,
    SubjectAltNameMatcher,
    SubjectAltNameMatcherSanType,
    TlsParameters,
    TlsParametersTlsProtocol,
    UpstreamTlsContext,
)
from envoy_data_plane.envoy.type.matcher.v3 import StringMatcher
from envoy_data_plane.google.protobuf import Any

from hotswitch.rescue.pod import IDENTITY, ROOTS, RescuePod

SERVER_ALPN = ("http/1.1", "h2")
"""Envoy picks the first of these that the client offers. An Istio client offers its own family only (istio-http/1.1,
istio, http/1.1 or istio-h2, istio, h2), so it is answered in what it will speak, and that is what reaches the app. A
client that offers both gets HTTP/1.1: the app cannot be asked, and one that speaks h2 only has clients that offer h2
only (gRPC). Never istio-peer-exchange, though sidecars offer it: a client that sees it chosen sends its metadata first,
and there is nobody here to take them off the stream before the app."""
CLIENT_ALPN = ("istio",)  # what a sidecar says when it does not know the protocol; PERMISSIVE servers tell us by it
_NO_TIMEOUT = datetime.timedelta(0)


def downstream_tls(pod: RescuePod) -> TransportSocket:
    context = DownstreamTlsContext(common_tls_context=_common(pod, SERVER_ALPN), require_client_certificate=True)
    return TransportSocket(name="envoy.transport_sockets.tls", typed_config=Any.pack(context))


def upstream_tls(pod: RescuePod) -> TransportSocket:
    context = UpstreamTlsContext(common_tls_context=_common(pod, CLIENT_ALPN))
    return TransportSocket(name="envoy.transport_sockets.tls", typed_config=Any.pack(context))


def _common(pod: RescuePod, alpn: tuple[str, ...]) -> CommonTlsContext:
    return CommonTlsContext(
        tls_params=TlsParameters(
            tls_minimum_protocol_version=TlsParametersTlsProtocol.TLSv1_2,  # Istio's minimum
            tls_maximum_protocol_version=TlsParametersTlsProtocol.TLSv1_3,
        ),
        tls_certificate_sds_secret_configs=[_secret(pod, IDENTITY)],
        combined_validation_context=CommonTlsContextCombinedCertificateValidationContext(
            default_validation_context=CertificateValidationContext(
                match_typed_subject_alt_names=[_within(domain) for domain in pod.trust_domains]
            ),
            validation_context_sds_secret_config=_secret(pod, ROOTS),
        ),
        alpn_protocols=list(alpn),
    )


def _within(trust_domain: str) -> SubjectAltNameMatcher:
    prefix = StringMatcher(prefix=f"spiffe://{trust_domain}/")
    return SubjectAltNameMatcher(san_type=SubjectAltNameMatcherSanType.URI, matcher=prefix)


def _secret(pod: RescuePod, part: str) -> SdsSecretConfig:
    source = ConfigSource(
        ads=AggregatedConfigSource(), initial_fetch_timeout=_NO_TIMEOUT, resource_api_version=ApiVersion.V3
    )
    return SdsSecretConfig(name=pod.name(part), sds_config=source)
