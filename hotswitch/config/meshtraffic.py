"""Istio's traffic objects, Gateway API routes of Services, and Services, read: how the pod is reached and where its own
traffic is led (I2)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from hotswitch.api.adopt import kept_selector
from hotswitch.api.values import InvalidValue
from hotswitch.capture import manifest
from hotswitch.capture.fields import SpecError
from hotswitch.config.meshfields import Object, common, complete, labels, metadata, port, spec, text, word
from hotswitch.mesh.objects import (
    ClientTls,
    DestinationRule,
    Ingress,
    Route,
    Service,
    ServiceEntry,
    ServicePort,
    Sidecar,
    TlsUse,
)

_TLS = frozenset(ClientTls)
_OUTBOUND = frozenset({"REGISTRY_ONLY", "ALLOW_ANY"})
_RESOLUTIONS = frozenset({"NONE", "STATIC", "DNS", "DNS_ROUND_ROBIN", "DYNAMIC_DNS"})
_ROUTE_FIELDS = ("http", "tls", "tcp")
_INSTEAD = {"directResponse": "an answer of the proxy itself", "delegate": "a delegate, which is not followed"}


def destination_rule(found: Object, cluster_domain: str) -> DestinationRule:
    body = spec(found)
    base = common("DestinationRule", found, "workloadSelector")
    host = manifest.string("spec.host", body.get("host"))
    uses = list(_tls_uses("spec.trafficPolicy", body.get("trafficPolicy"), ""))
    for subset in manifest.objects("spec.subsets", body.get("subsets")):
        name = manifest.string("subsets.name", subset.get("name"))
        uses += _tls_uses(f"subsets.{name}.trafficPolicy", subset.get("trafficPolicy"), name)
    return DestinationRule(
        **base,
        host=complete(host, base["ref"].namespace, cluster_domain),
        uses=tuple(uses),
        export_to=_export_to(found),
    )


def _tls_uses(where: str, value: object, subset: str) -> Iterator[TlsUse]:
    policy = manifest.mapping(where, value)
    yield from _tls_use(where, policy, None, subset)
    for level in manifest.objects(f"{where}.portLevelSettings", policy.get("portLevelSettings")):
        number = manifest.mapping("port", level.get("port")).get("number")
        yield from _tls_use(f"{where}.portLevelSettings", level, port("port.number", number), subset)


def _tls_use(where: str, policy: Object, number: int | None, subset: str) -> Iterator[TlsUse]:
    if policy.get("tls") is not None:
        tls = manifest.mapping(f"{where}.tls", policy["tls"])
        yield TlsUse(ClientTls(word(f"{where}.tls.mode", tls.get("mode"), "DISABLE", _TLS)), number, subset)


def sidecar(found: Object) -> Sidecar:
    body = spec(found)
    given = body.get("outboundTrafficPolicy")
    return Sidecar(
        **common("Sidecar", found, "workloadSelector"),
        ingress=tuple(_ingress(item) for item in manifest.objects("spec.ingress", body.get("ingress"))),
        registry_only=None if given is None else registry_only("spec.outboundTrafficPolicy", given, "REGISTRY_ONLY"),
        egress_proxy=egress_proxy("spec.outboundTrafficPolicy", given),
    )


def registry_only(where: str, value: object, default: str) -> bool:
    """A Sidecar's policy without a mode means REGISTRY_ONLY (its zero value), the mesh's means ALLOW_ANY."""
    mode = word(f"{where}.mode", manifest.mapping(where, value).get("mode"), default, _OUTBOUND)
    return mode == "REGISTRY_ONLY"


def egress_proxy(where: str, value: object) -> str:
    proxy = manifest.mapping(where, value).get("egressProxy")
    return text(f"{where}.egressProxy.host", manifest.mapping(where, proxy).get("host"))


def _ingress(item: Object) -> Ingress:
    number = port("ingress.port.number", manifest.mapping("ingress.port", item.get("port")).get("number"))
    endpoint = text("ingress.defaultEndpoint", item.get("defaultEndpoint"))
    same = {f"0.0.0.0:{number}", f"[::]:{number}"}
    return Ingress(number, "" if endpoint in same else endpoint, tls=bool(item.get("tls")))


def service_entry(found: Object) -> ServiceEntry:
    body = spec(found)
    resolution = word("spec.resolution", body.get("resolution"), "NONE", _RESOLUTIONS)
    base = common("ServiceEntry", found, "workloadSelector")
    placed = bool(body.get("endpoints")) or bool(base["selector"]) or resolution == "STATIC"
    return ServiceEntry(
        **base,
        hosts=manifest.strings("spec.hosts", body.get("hosts")),
        ordinary=not placed,
        addressed=bool(manifest.strings("spec.addresses", body.get("addresses"))),
        export_to=_export_to(found),
    )


def service(found: Object) -> Service:
    """`elsewhere` and revisions are none of a Service's; its selector is a plain map. While it is taken over, that
    stands in an annotation, and its pods are the same."""
    body = spec(found)
    base = common("Service", {**found, "spec": {}})
    base["selector"] = labels("spec.selector", body.get("selector")) or _taken(found)
    return Service(
        **base,
        ports=tuple(_service_port(item) for item in manifest.objects("spec.ports", body.get("ports"))),
        headless=body.get("clusterIP") == "None",
    )


def _taken(found: Object) -> dict[str, str]:
    words = labels("metadata.annotations", metadata(found).get("annotations"))
    try:
        return kept_selector(words) or {}
    except InvalidValue as invalid:
        raise SpecError(invalid.field, invalid.value, invalid.why) from invalid


def _service_port(item: Object) -> ServicePort:
    number = port("ports.port", item.get("port"))
    target = item.get("targetPort")
    if isinstance(target, str) and target.isascii() and target.isdigit():
        target = int(target)
    if not isinstance(target, str):
        target = number if target in (None, 0) else port("ports.targetPort", target)
    protocol = text("ports.protocol", item.get("protocol"))
    return ServicePort(number, target, text("ports.name", item.get("name")), tcp=protocol in ("", "TCP"))


def virtual_service(found: Object, cluster_domain: str) -> Route | None:
    """None for those that only gateways follow."""
    body = spec(found)
    gateways = manifest.strings("spec.gateways", body.get("gateways"))
    base = common("VirtualService", found)
    if gateways and "mesh" not in gateways:
        return None
    namespace = base["ref"].namespace
    hosts = [complete(host, namespace, cluster_domain) for host in manifest.strings("spec.hosts", body.get("hosts"))]
    targets = [host if " " in host else complete(host, namespace, cluster_domain) for host in _destinations(body)]
    return _route(base["ref"].kind, found, hosts, targets)


def _destinations(body: Object) -> Iterator[str]:
    for field in _ROUTE_FIELDS:
        for rule in manifest.objects(f"spec.{field}", body.get(field)):
            for leg in manifest.objects(f"spec.{field}.route", rule.get("route")):
                destination = manifest.mapping("destination", leg.get("destination"))
                yield manifest.string("destination.host", destination.get("host"))
            yield from (where for key, where in _INSTEAD.items() if rule.get(key))


def gateway_route(kind: str, found: Object, cluster_domain: str) -> Route | None:
    """A Gateway API route. Sidecars follow it where its parent is a Service (or ServiceEntry)."""
    base = common(kind, {**found, "spec": {}})
    body = spec(found)
    parents = manifest.objects("spec.parentRefs", body.get("parentRefs"))
    hosts = [_backend(parent, base["ref"].namespace, cluster_domain) for parent in parents if _is_service(parent)]
    if not hosts:
        return None
    rules = manifest.objects("spec.rules", body.get("rules"))
    backends = [item for rule in rules for item in manifest.objects("backendRefs", rule.get("backendRefs"))]
    return _route(kind, found, hosts, [_backend(item, base["ref"].namespace, cluster_domain) for item in backends])


def _is_service(parent: Object) -> bool:
    return parent.get("kind") in ("Service", "ServiceEntry", "Hostname")


def _backend(item: Object, namespace: str, cluster_domain: str) -> str:
    name = manifest.string("backendRefs.name", item.get("name"))
    home = text("backendRefs.namespace", item.get("namespace")) or namespace
    return complete(name, home, cluster_domain)


def _route(kind: str, found: Object, hosts: Iterable[str], targets: Iterable[str]) -> Route:
    base = common(kind, {**found, "spec": {}})
    home = tuple(hosts)
    detours = tuple(sorted({target for target in targets if _is_detour(target, home)}))
    return Route(**base, hosts=home, detours=detours, export_to=_export_to(found))


def _is_detour(target: str, hosts: tuple[str, ...]) -> bool:
    """Another host of the same namespace is a split between versions, which routes are for; only what leads out of it,
    or away from a host that is no Service, may be there to be enforced."""
    if target in hosts:
        return False
    return _home(target) not in {_home(host) for host in hosts} or _home(target) == ""


def _home(host: str) -> str:
    """The namespace of a Service's host, "" for any other host."""
    parts = host.split(".")
    return parts[1] if len(parts) > 2 and parts[2] == "svc" else ""


def _export_to(found: Object) -> tuple[str, ...]:
    return manifest.strings("spec.exportTo", spec(found).get("exportTo"))
