"""Istio's custom resources as definitions without schemas: what the preflight reads, in all versions that are served.

Names, scopes and versions are those of Istio 1.2x to 1.30; their schemas are Istio's own and not wanted here. The same
definitions can be applied to any API server.
"""

from __future__ import annotations

from hotswitch.sandbox.kubeapi.failure import Obj

_NETWORKING, _SECURITY = ("v1", "v1beta1", "v1alpha3"), ("v1", "v1beta1")
_KINDS: tuple[tuple[str, str, str, tuple[str, ...]], ...] = (
    ("networking.istio.io", "DestinationRule", "destinationrules", _NETWORKING),
    ("networking.istio.io", "Gateway", "gateways", _NETWORKING),
    ("networking.istio.io", "ServiceEntry", "serviceentries", _NETWORKING),
    ("networking.istio.io", "Sidecar", "sidecars", _NETWORKING),
    ("networking.istio.io", "VirtualService", "virtualservices", _NETWORKING),
    ("networking.istio.io", "WorkloadEntry", "workloadentries", _NETWORKING),
    ("networking.istio.io", "WorkloadGroup", "workloadgroups", _NETWORKING),
    ("networking.istio.io", "EnvoyFilter", "envoyfilters", ("v1alpha3",)),
    ("networking.istio.io", "ProxyConfig", "proxyconfigs", ("v1beta1",)),
    ("security.istio.io", "AuthorizationPolicy", "authorizationpolicies", _SECURITY),
    ("security.istio.io", "PeerAuthentication", "peerauthentications", _SECURITY),
    ("security.istio.io", "RequestAuthentication", "requestauthentications", _SECURITY),
    ("extensions.istio.io", "WasmPlugin", "wasmplugins", ("v1alpha1",)),
    ("telemetry.istio.io", "Telemetry", "telemetries", ("v1", "v1alpha1")),
)


def definitions() -> list[Obj]:
    return [_definition(*kind) for kind in _KINDS]


def _definition(group: str, kind: str, plural: str, versions: tuple[str, ...]) -> Obj:
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{plural}.{group}"},
        "spec": {
            "group": group,
            "scope": "Namespaced",
            "names": {"plural": plural, "singular": kind.lower(), "kind": kind, "listKind": f"{kind}List"},
            "versions": [_version(name, stored=name == versions[0]) for name in versions],
        },
    }


def _version(name: str, *, stored: bool) -> Obj:
    free = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    schema = {"type": "object", "properties": {"spec": free, "status": free}}
    return {
        "name": name,
        "served": True,
        "storage": stored,
        "subresources": {"status": {}},
        "schema": {"openAPIV3Schema": schema},
    }
