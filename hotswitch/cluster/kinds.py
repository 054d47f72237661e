"""The kinds of objects hotswitch reads and writes, and where the API server keeps them.

Versions are those that every supported release serves; a custom kind that may be older is looked up with
`Cluster.served`.
"""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import quote


@dataclass(frozen=True, slots=True)
class Kind:
    """`group` "": the core group."""

    group: str
    version: str
    plural: str
    kind: str
    namespaced: bool = True

    @property
    def api_version(self) -> str:
        return f"{self.group}/{self.version}" if self.group else self.version

    @property
    def root(self) -> str:
        """Where the group's version is served."""
        return f"/apis/{self.group}/{self.version}" if self.group else f"/api/{self.version}"

    def path(self, namespace: str | None = None, name: str | None = None, sub: str = "") -> str:
        """Of one object, or of all of them (in a namespace, or everywhere). Raises ValueError when a namespace is
        needed and not given."""
        if name and self.namespaced and not namespace:
            raise ValueError(f"a {self.kind} named {name} is in which namespace?")
        words = ["namespaces", namespace] if self.namespaced and namespace else []
        words += [self.plural, *([name] if name else []), *(sub.split("/") if sub else [])]
        return "/".join((self.root, *(quote(word, safe="") for word in words)))

    def __str__(self) -> str:
        return f"{self.plural}.{self.group}" if self.group else self.plural


PODS = Kind("", "v1", "pods", "Pod")
SERVICES = Kind("", "v1", "services", "Service")
NAMESPACES = Kind("", "v1", "namespaces", "Namespace", namespaced=False)
NODES = Kind("", "v1", "nodes", "Node", namespaced=False)
SECRETS = Kind("", "v1", "secrets", "Secret")
CONFIGMAPS = Kind("", "v1", "configmaps", "ConfigMap")
EVENTS = Kind("", "v1", "events", "Event")
LEASES = Kind("coordination.k8s.io", "v1", "leases", "Lease")
ENDPOINTSLICES = Kind("discovery.k8s.io", "v1", "endpointslices", "EndpointSlice")
DEPLOYMENTS = Kind("apps", "v1", "deployments", "Deployment")
REPLICASETS = Kind("apps", "v1", "replicasets", "ReplicaSet")
STATEFULSETS = Kind("apps", "v1", "statefulsets", "StatefulSet")
DAEMONSETS = Kind("apps", "v1", "daemonsets", "DaemonSet")
CRDS = Kind("apiextensions.k8s.io", "v1", "customresourcedefinitions", "CustomResourceDefinition", namespaced=False)
ACCESS_REVIEWS = Kind(
    "authorization.k8s.io", "v1", "selfsubjectaccessreviews", "SelfSubjectAccessReview", namespaced=False
)
TOKEN_REVIEWS = Kind("authentication.k8s.io", "v1", "tokenreviews", "TokenReview", namespaced=False)
ENDPOINTS = Kind("", "v1", "endpoints", "Endpoints")
POLICIES = Kind("hotswitch.io", "v1alpha1", "hotswitchpolicies", "HotSwitchPolicy")

PEER_AUTHENTICATIONS = Kind("security.istio.io", "v1", "peerauthentications", "PeerAuthentication")
AUTHORIZATION_POLICIES = Kind("security.istio.io", "v1", "authorizationpolicies", "AuthorizationPolicy")
REQUEST_AUTHENTICATIONS = Kind("security.istio.io", "v1", "requestauthentications", "RequestAuthentication")
DESTINATION_RULES = Kind("networking.istio.io", "v1", "destinationrules", "DestinationRule")
VIRTUAL_SERVICES = Kind("networking.istio.io", "v1", "virtualservices", "VirtualService")
SERVICE_ENTRIES = Kind("networking.istio.io", "v1", "serviceentries", "ServiceEntry")
SIDECARS = Kind("networking.istio.io", "v1", "sidecars", "Sidecar")
ENVOY_FILTERS = Kind("networking.istio.io", "v1alpha3", "envoyfilters", "EnvoyFilter")
WASM_PLUGINS = Kind("extensions.istio.io", "v1alpha1", "wasmplugins", "WasmPlugin")
TRAFFIC_EXTENSIONS = Kind("extensions.istio.io", "v1alpha1", "trafficextensions", "TrafficExtension")
TELEMETRIES = Kind("telemetry.istio.io", "v1", "telemetries", "Telemetry")
HTTP_ROUTES = Kind("gateway.networking.k8s.io", "v1", "httproutes", "HTTPRoute")
GRPC_ROUTES = Kind("gateway.networking.k8s.io", "v1", "grpcroutes", "GRPCRoute")
TLS_ROUTES = Kind("gateway.networking.k8s.io", "v1alpha2", "tlsroutes", "TLSRoute")
TCP_ROUTES = Kind("gateway.networking.k8s.io", "v1alpha2", "tcproutes", "TCPRoute")

ISTIO: tuple[Kind, ...] = (
    PEER_AUTHENTICATIONS,
    AUTHORIZATION_POLICIES,
    REQUEST_AUTHENTICATIONS,
    DESTINATION_RULES,
    VIRTUAL_SERVICES,
    SERVICE_ENTRIES,
    SIDECARS,
    ENVOY_FILTERS,
    WASM_PLUGINS,
    TRAFFIC_EXTENSIONS,
    HTTP_ROUTES,
    GRPC_ROUTES,
    TLS_ROUTES,
    TCP_ROUTES,
)
"""What the preflight looks at. Of a kind that a cluster does not serve it has no objects; one that may not be listed is
a doubt."""
