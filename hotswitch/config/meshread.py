"""Raw Istio objects, as the API server gives them, to the mesh's values (I2). Tolerant, and never silent.

Fields that mean nothing to a bypass are ignored. What cannot be understood becomes a `Doubt`, which refuses for every
pod that the object may concern; a kind of Istio's that is not known is one too. What is no policy at all (Telemetry,
WorkloadEntry, other groups' objects) is passed over.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any

from hotswitch.capture.fields import SpecError
from hotswitch.config import meshfields, meshsecurity, meshtraffic
from hotswitch.config.meshfields import Object
from hotswitch.mesh import MeshConfig, MeshView
from hotswitch.mesh.objects import Doubt, Labels, MeshObject, Ref

_Reader = Callable[[Object, str], MeshObject | None]
SECURITY, TRAFFIC, EXTENSIONS, GATEWAY_API = (
    "security.istio.io",
    "networking.istio.io",
    "extensions.istio.io",
    "gateway.networking.k8s.io",
)

READERS: Mapping[tuple[str, str], _Reader] = {
    (SECURITY, "PeerAuthentication"): lambda found, _: meshsecurity.peer_authentication(found),
    (SECURITY, "AuthorizationPolicy"): lambda found, _: meshsecurity.authorization(found),
    (SECURITY, "RequestAuthentication"): lambda found, _: meshsecurity.request_authentication(found),
    (TRAFFIC, "EnvoyFilter"): lambda found, _: meshsecurity.envoy_filter(found),
    (EXTENSIONS, "WasmPlugin"): lambda found, _: meshsecurity.plugin("WasmPlugin", found),
    (EXTENSIONS, "TrafficExtension"): lambda found, _: meshsecurity.plugin("TrafficExtension", found),
    (TRAFFIC, "DestinationRule"): meshtraffic.destination_rule,
    (TRAFFIC, "Sidecar"): lambda found, _: meshtraffic.sidecar(found),
    (TRAFFIC, "ServiceEntry"): lambda found, _: meshtraffic.service_entry(found),
    (TRAFFIC, "VirtualService"): meshtraffic.virtual_service,
    ("", "Service"): lambda found, _: meshtraffic.service(found),
    **{
        (GATEWAY_API, kind): partial(meshtraffic.gateway_route, kind)
        for kind in ("HTTPRoute", "GRPCRoute", "TLSRoute", "TCPRoute")
    },
}
"""Group and kind to reader. A controller that lacks one of these kinds must say so in `read_mesh`'s `unread`."""

NO_POLICY: frozenset[tuple[str, str]] = frozenset(
    {
        ("telemetry.istio.io", "Telemetry"),
        (TRAFFIC, "Gateway"),
        (TRAFFIC, "WorkloadEntry"),
        (TRAFFIC, "WorkloadGroup"),
        (TRAFFIC, "ProxyConfig"),  # its effects are read from the pod, where it was injected
        ("install.istio.io", "IstioOperator"),
        ("sailoperator.io", "Istio"),
    }
)
_READ_BY_ALL = frozenset({"DestinationRule", "VirtualService", "ServiceEntry", "AuthorizationPolicy"})
"""Of other namespaces too: their traffic, or what they deny, may concern any pod, whatever they select."""


def read_object(
    found: Mapping[str, Any], *, api_version: str = "", kind: str = "", cluster_domain: str = "cluster.local"
) -> MeshObject | Doubt | None:
    """`api_version` and `kind`: of the list that it came in, whose items do not say. None: it says nothing to a bypass.
    Never raises."""
    kind = kind or str(found.get("kind", ""))
    group = (api_version or str(found.get("apiVersion", ""))).rpartition("/")[0]
    reader = READERS.get((group, kind))
    if reader is None:
        return _unknown(group, kind, found)
    try:
        return reader(found, cluster_domain)
    except SpecError as failure:
        return _doubt(kind, found, str(failure))


def read_mesh(
    objects: Iterable[Mapping[str, Any]], config: MeshConfig | None = None, unread: Iterable[str] = ()
) -> MeshView:
    """`unread`: kinds that could not be listed. Never raises."""
    config = config or MeshConfig()
    return assemble((read_object(found, cluster_domain=config.cluster_domain) for found in objects), config, unread)


def assemble(read: Iterable[MeshObject | Doubt | None], config: MeshConfig, unread: Iterable[str] = ()) -> MeshView:
    """From objects read one by one, as a watch brings them."""
    found = tuple(read)
    return MeshView(
        config=config,
        objects=tuple(item for item in found if isinstance(item, MeshObject)),
        doubts=tuple(item for item in found if isinstance(item, Doubt)),
        unread=tuple(unread),
    )


def _unknown(group: str, kind: str, found: Object) -> Doubt | None:
    istios = group == "istio.io" or group.endswith(".istio.io")
    if not istios or (group, kind) in NO_POLICY:
        return None
    return Doubt(_ref(kind, found), f"{group} {kind}: what it means is not known", unknown_kind=True)


def _doubt(kind: str, found: Object, why: str) -> Doubt:
    spec = found.get("spec")
    private = isinstance(spec, Mapping) and spec.get("exportTo") == ["."]
    for_all = kind in _READ_BY_ALL
    return Doubt(_ref(kind, found), why, {} if for_all else _selector(spec), everywhere=for_all and not private)


def _ref(kind: str, found: Object) -> Ref:
    """A namespace that is none is everybody's, as far as a doubt goes."""
    about = found.get("metadata")
    about = about if isinstance(about, Mapping) else {}
    namespace, name = (value if isinstance(value, str) else "" for value in map(about.get, ("namespace", "name")))
    return Ref(kind, namespace, name)


def _selector(spec: object) -> Labels:
    """What narrows a doubt down must be beyond doubt itself; else it concerns all."""
    body = spec if isinstance(spec, Mapping) else {}
    try:
        return meshfields.chosen("selector", body.get("selector", body.get("workloadSelector")))
    except SpecError:
        return {}
