"""Every code of the preflight, with one sentence each (I8). Stable: a number is never used again. One page per code
says what was found, why it matters, what to do, and what is given away by accepting it (docs/reference/preflight).

    HSW01xx  mutual TLS                        HSW05xx  the way out
    HSW02xx  authorization                     HSW06xx  the pod itself
    HSW03xx  extensions of the proxy           HSW09xx  doubt: something was not understood
    HSW04xx  how clients reach the pod
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum


class Code(StrEnum):
    NOTHING_LOST = "HSW0000"

    STRICT_MTLS = "HSW0101"

    AUTHORIZATION = "HSW0201"
    REQUEST_AUTHORIZATION = "HSW0202"
    EXTERNAL_AUTHORIZATION = "HSW0203"
    REQUEST_AUTHENTICATION = "HSW0204"

    ENVOY_FILTER = "HSW0301"
    WASM_PLUGIN = "HSW0302"
    TRAFFIC_EXTENSION = "HSW0303"

    HEADLESS = "HSW0401"
    SEVERAL_NETWORKS = "HSW0402"
    CLIENTS_FORCE_MTLS = "HSW0403"
    CLIENTS_USE_TLS = "HSW0404"

    REGISTRY_ONLY = "HSW0501"
    EGRESS_ROUTE = "HSW0502"
    TLS_ORIGINATION = "HSW0503"
    IDENTITY_DENIED = "HSW0504"
    STRICT_DESTINATIONS = "HSW0505"
    MESH_ONLY_NAMES = "HSW0506"
    ROUTES = "HSW0507"
    MTLS_ORIGINATION = "HSW0508"

    NOT_CAPTURED = "HSW0601"
    ENVOY_DISABLED = "HSW0602"
    HOST_NETWORK = "HSW0603"
    GATEWAY = "HSW0604"
    NO_SIDECAR = "HSW0605"
    HBONE = "HSW0606"
    TRUSTS_HEADERS = "HSW0607"
    PROXY_ONLY_PORT = "HSW0608"
    LOCALHOST_ONLY = "HSW0609"

    OBJECT_NOT_UNDERSTOOD = "HSW0901"
    KIND_NOT_KNOWN = "HSW0902"
    POD_NOT_UNDERSTOOD = "HSW0903"
    MESH_NOT_READ = "HSW0904"


MEANING: Mapping[Code, str] = {
    Code.NOTHING_LOST: "The proxy enforces nothing here: a bypass loses telemetry and nothing else.",
    Code.STRICT_MTLS: "mTLS is STRICT: `direct` would take plaintext where policy forbids it.",
    Code.AUTHORIZATION: "An AuthorizationPolicy selects the pod: `direct` would not enforce it.",
    Code.REQUEST_AUTHORIZATION: "An AuthorizationPolicy looks into requests: the rescue sees connections only.",
    Code.EXTERNAL_AUTHORIZATION: "An external authorizer decides about requests: no bypass would ask it.",
    Code.REQUEST_AUTHENTICATION: "A RequestAuthentication checks tokens: no bypass would.",
    Code.ENVOY_FILTER: "An EnvoyFilter changes this proxy: what it enforces is not known, and a bypass loses it.",
    Code.WASM_PLUGIN: "A WasmPlugin runs in this proxy: what it enforces is not known, and a bypass loses it.",
    Code.TRAFFIC_EXTENSION: "A TrafficExtension runs in this proxy: what it enforces is not known, and is lost.",
    Code.HEADLESS: "A headless Service leads here: relabelling one pod turns the whole Service to plaintext.",
    Code.SEVERAL_NETWORKS: "The mesh spans several networks: a relabelled pod is no endpoint for the others.",
    Code.CLIENTS_FORCE_MTLS: "A DestinationRule makes clients use Istio's mTLS whatever the pod's label says.",
    Code.CLIENTS_USE_TLS: "A DestinationRule makes clients use TLS, and who ends it is not known.",
    Code.REGISTRY_ONLY: "Unknown hosts are forbidden on the way out (REGISTRY_ONLY): no bypass would forbid them.",
    Code.EGRESS_ROUTE: "Routes lead outbound traffic elsewhere (an egress gateway): a bypass would go past it.",
    Code.TLS_ORIGINATION: "A DestinationRule makes this proxy speak TLS to a server: a bypass would send plaintext.",
    Code.IDENTITY_DENIED: "A policy tells clients apart by identity and lets through who has none: as a bypass has.",
    Code.STRICT_DESTINATIONS: "Destinations that demand mTLS refuse what comes without it.",
    Code.MESH_ONLY_NAMES: "Hosts that only a ServiceEntry knows stay unreachable while the proxy is away.",
    Code.ROUTES: "Routes, retries and splits of outbound traffic are not followed by a bypass.",
    Code.MTLS_ORIGINATION: "A DestinationRule makes this proxy use Istio's mTLS: a bypass would send plaintext.",
    Code.NOT_CAPTURED: "Interception is NONE: nothing is captured, so there is nothing to bypass.",
    Code.ENVOY_DISABLED: "The sidecar runs no Envoy (DISABLE_ENVOY).",
    Code.HOST_NETWORK: "The pod lives in the node's network: its rules are not its own.",
    Code.GATEWAY: "A gateway or waypoint: its proxy is the service itself.",
    Code.NO_SIDECAR: "No sidecar: the pod is not in the mesh, or in its ambient part.",
    Code.HBONE: "Clients come by HBONE (port 15008), which only the proxy can take.",
    Code.TRUSTS_HEADERS: "The workload has not said that its app does not trust headers set by the proxy.",
    Code.PROXY_ONLY_PORT: "A Sidecar listener: the app is not reached at this port without the proxy.",
    Code.LOCALHOST_ONLY: "The proxy reaches the app by 127.0.0.1: whether anything else can is not known.",
    Code.OBJECT_NOT_UNDERSTOOD: "A policy object was not understood.",
    Code.KIND_NOT_KNOWN: "An object of Istio's is of a kind that hotswitch does not know.",
    Code.POD_NOT_UNDERSTOOD: "The pod was not understood.",
    Code.MESH_NOT_READ: "A part of the mesh's configuration could not be read.",
}

NEVER_ACCEPTED: frozenset[Code] = frozenset(
    {
        Code.HEADLESS,  # the harm is other pods', whom nobody asked
        Code.SEVERAL_NETWORKS,  # likewise: the remote networks lose the pod
        Code.NOT_CAPTURED,
        Code.ENVOY_DISABLED,
        Code.HOST_NETWORK,
        Code.GATEWAY,
        Code.NO_SIDECAR,
        Code.TRUSTS_HEADERS,  # said by those who know the app, on the workload
        Code.OBJECT_NOT_UNDERSTOOD,  # nobody can accept what nobody has read
        Code.POD_NOT_UNDERSTOOD,
        Code.MESH_NOT_READ,
    }
)

ONLY_SAID: frozenset[Code] = frozenset({Code.NOTHING_LOST, Code.STRICT_DESTINATIONS, Code.MESH_ONLY_NAMES, Code.ROUTES})
"""These refuse nothing, so there is nothing to accept."""


def acceptable(code: str) -> bool:
    """Whether a policy in the root namespace may grant it; false for what is no code of ours."""
    return code in set(Code) - NEVER_ACCEPTED - ONLY_SAID
