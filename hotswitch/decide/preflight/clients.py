"""How clients reach the pod, and whether changing its tlsMode label would make them speak plaintext (HSW04xx).

`direct` inbound helps meshed clients only when they stop using mTLS, which they do by the pod's label, unless a
DestinationRule says otherwise. Which rule a client follows: the most specific host in its own namespace, else of those
exported by the Service's namespace, else of the root namespace's; clients of the root namespace, gateways among them,
begin with the second. Any namespace that has a rule may have clients. Source: istiod's push_context, destinationRule.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from weakref import WeakKeyDictionary

from hotswitch.decide.preflight.codes import Code
from hotswitch.decide.preflight.mtls import Demand
from hotswitch.decide.preflight.result import Finding, Verdict
from hotswitch.mesh import MeshPod, MeshView
from hotswitch.mesh.objects import ClientTls, DestinationRule, Service, ServiceEntry
from hotswitch.mesh.view import selects
from hotswitch.model import Direction, Level, Mtls, Port

ISTIO = "istio"
_CODE = {
    ClientTls.ISTIO_MUTUAL: Code.CLIENTS_FORCE_MTLS,
    ClientTls.MUTUAL: Code.CLIENTS_USE_TLS,
    ClientTls.SIMPLE: Code.CLIENTS_USE_TLS,
}

_FOLLOWED: WeakKeyDictionary[MeshView, dict[tuple[str, str], tuple[DestinationRule, ...]]] = WeakKeyDictionary()
"""Replicas share their Services, so the search is done once per Service and view of the mesh."""


def flips(mesh: MeshView, pod: MeshPod, demanded: Demand) -> bool:
    """Whether meshed clients use mTLS because of the pod's label."""
    modes = {demanded.mode, *demanded.by_port.values()}
    return mesh.config.auto_mtls and pod.tls_mode == ISTIO and modes != {Mtls.DISABLE}


def clients(mesh: MeshView, pod: MeshPod, flip: bool) -> Iterator[Finding]:
    services = mesh.services_of(pod)
    if flip:
        yield from _headless(services)
        yield from _networks(mesh, pod)
    for service in services:
        host = f"{service.ref.name}.{service.namespace}.svc.{mesh.config.cluster_domain}"
        for rule in followed(mesh, host, service.namespace):
            yield from _of_service(rule, service, pod)
    for entry in mesh.of(ServiceEntry, pod.namespace):
        if entry.selector and selects(entry.selector, pod.labels):
            for host in entry.hosts:
                for rule in followed(mesh, host, entry.namespace):
                    yield from _tls(rule, {use.mode for use in rule.uses}, None)


def _headless(services: Iterable[Service]) -> Iterator[Finding]:
    for service in services:
        if service.headless:
            why = "is headless: a changed label on this pod would turn all of it to plaintext"
            yield _refuse(Code.HEADLESS, None, f"{service.ref} {why}", service)


def _networks(mesh: MeshView, pod: MeshPod) -> Iterator[Finding]:
    networks = mesh.config.networks | ({pod.network} if pod.network else set())
    if len(networks) > 1:
        names = ", ".join(sorted(network or "(unnamed)" for network in networks))
        yield _refuse(Code.SEVERAL_NETWORKS, None, f"the mesh spans {names}: others would lose this pod", None)


def followed(mesh: MeshView, host: str, owner: str) -> tuple[DestinationRule, ...]:
    """The rules that some client of `host`, a Service of namespace `owner`, may follow."""
    known = _FOLLOWED.setdefault(mesh, {})
    if (host, owner) not in known:
        known[host, owner] = _followed(mesh, host, owner)
    return known[host, owner]


def _followed(mesh: MeshView, host: str, owner: str) -> tuple[DestinationRule, ...]:
    rules = [rule for rule in mesh.every(DestinationRule) if not rule.elsewhere and matches(rule.host, host)]
    shared = [rule for rule in rules if rule.namespace == owner and set(rule.export_to) != {"."}]
    found = [rule for space in {r.namespace for r in rules} - {mesh.root} for rule in _best(rules, space)]
    found += _best(shared, owner)
    if not any(_for_all(rule, mesh) for rule in shared):
        found += _best(rules, mesh.root)
    return tuple({rule.ref: rule for rule in found}.values())


def _for_all(rule: DestinationRule, mesh: MeshView) -> bool:
    return "*" in rule.export_to or (not rule.export_to and mesh.config.rules_exported)


def matches(pattern: str, host: str) -> bool:
    return host == pattern or (pattern.startswith("*") and host.endswith(pattern[1:]))


def _best(rules: Iterable[DestinationRule], namespace: str) -> list[DestinationRule]:
    """Of one namespace: all rules of the most specific host, as istiod merges those."""
    own = [rule for rule in rules if rule.namespace == namespace]
    best = max((_specificity(rule.host) for rule in own), default=None)
    return [rule for rule in own if _specificity(rule.host) == best]


def _specificity(host: str) -> tuple[bool, int]:
    return not host.startswith("*"), len(host)


def _of_service(rule: DestinationRule, service: Service, pod: MeshPod) -> Iterator[Finding]:
    names = {port.name: port.number for port in pod.ports if port.name}
    for port in service.ports:
        target = names.get(port.target) if isinstance(port.target, str) else port.target
        if port.tcp:
            yield from _tls(rule, modes_at(rule, port.port), target)


def modes_at(rule: DestinationRule, port: Port) -> set[ClientTls]:
    """Without subset, and in each: the port's own setting before the general one."""
    modes: set[ClientTls] = set()
    for subset in {"", *(use.subset for use in rule.uses)}:
        own = [use for use in rule.uses if use.subset == subset and use.port in (None, port)]
        exact = [use.mode for use in own if use.port == port]
        modes.update(exact or [use.mode for use in own])
    return modes


def _tls(rule: DestinationRule, modes: Iterable[ClientTls], port: Port | None) -> Iterator[Finding]:
    for mode in sorted(set(modes)):
        if mode in _CODE:
            where = "" if port is None else f" at port {port}"
            sentence = f"{rule.ref}: clients of {rule.host} use {mode}{where}, whatever the pod's label says"
            yield _refuse(_CODE[mode], port, sentence, rule)


def _refuse(code: Code, port: Port | None, sentence: str, found: Service | DestinationRule | None) -> Finding:
    ref = None if found is None else found.ref
    return Finding(code, Verdict.REFUSE, Direction.INBOUND, port, Level.DIRECT, sentence, ref)
