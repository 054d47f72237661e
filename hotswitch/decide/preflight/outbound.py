"""What the proxy enforces on the way out, and what only it can reach (HSW05xx, I2).

Most of it is the same for every pod of a namespace, so it is worked out once per namespace and view of the mesh.
Neither `direct` nor the rescue forbids unknown hosts, follows routes or encrypts what a DestinationRule tells the proxy
to encrypt; such findings concern both.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from weakref import WeakKeyDictionary

from hotswitch.decide.preflight.codes import Code
from hotswitch.decide.preflight.result import Finding, Verdict, gathered
from hotswitch.mesh import MeshPod, MeshView
from hotswitch.mesh.objects import (
    Authorization,
    ClientTls,
    DestinationRule,
    Enforcement,
    MeshObject,
    PeerAuthentication,
    Ref,
    Route,
    ServiceEntry,
    Sidecar,
)
from hotswitch.mesh.view import applies, exported
from hotswitch.model import Direction, Level, Mtls


@dataclass(frozen=True, slots=True)
class _Shared:
    """What all pods of a namespace have in common: findings, without and with captured DNS; and the rules that choose
    among the pods."""

    findings: tuple[tuple[Finding, ...], tuple[Finding, ...]]
    selective: tuple[DestinationRule, ...]


_KNOWN: WeakKeyDictionary[MeshView, dict[str, _Shared]] = WeakKeyDictionary()


def outbound(mesh: MeshView, pod: MeshPod) -> Iterator[Finding]:
    """Objects that say the same are one finding, which names the first and counts the others."""
    shared = _shared(mesh, pod.namespace)
    yield from _registry(mesh, pod)
    yield from gathered(f for rule in shared.selective if applies(rule, pod) for f in _originates(rule))
    yield from shared.findings[pod.dns_capture]


def sidecar_of(mesh: MeshView, pod: MeshPod) -> Sidecar | None:
    """The one Sidecar that counts: by selector, else the namespace's, else the root namespace's; the oldest of each."""
    own = [found for found in mesh.of(Sidecar, pod.namespace) if applies(found, pod)]
    root = [found for found in mesh.of(Sidecar, mesh.root) if applies(found, pod) and not found.selector]
    ranks = ([f for f in own if f.selector], [f for f in own if not f.selector], root)
    return next((min(rank, key=lambda found: found.age) for rank in ranks if rank), None)


def _registry(mesh: MeshView, pod: MeshPod) -> Iterator[Finding]:
    sidecar = sidecar_of(mesh, pod)
    ref = sidecar.ref if sidecar else None
    own = sidecar.registry_only if sidecar else None
    if mesh.config.registry_only if own is None else own:
        sentence = "outboundTrafficPolicy is REGISTRY_ONLY: unknown hosts would be let through"
        yield _refuse(Code.REGISTRY_ONLY, sentence, ref if own else None)
    proxy = (sidecar.egress_proxy if sidecar else "") or mesh.config.egress_proxy
    if proxy:
        yield _refuse(Code.EGRESS_ROUTE, f"outboundTrafficPolicy leads unknown hosts to {proxy}", ref)


def _shared(mesh: MeshView, namespace: str) -> _Shared:
    known = _KNOWN.setdefault(mesh, {})
    if namespace not in known:
        known[namespace] = _of_namespace(mesh, namespace)
    return known[namespace]


def _of_namespace(mesh: MeshView, namespace: str) -> _Shared:
    rules = [rule for rule in mesh.every(DestinationRule) if _encrypts(rule, namespace)]
    for_all = [rule for rule in rules if not (rule.selector or rule.revision)]
    entries = [e for e in mesh.every(ServiceEntry) if exported(e.export_to, e.namespace, namespace)]
    encrypted = (finding for rule in for_all for finding in _originates(rule))
    common = (*encrypted, *_routes(mesh, namespace), *_identity(mesh), *_strict(mesh))
    plain, captured = (gathered((*common, *_mesh_only(entries, captured))) for captured in (False, True))
    return _Shared((plain, captured), tuple(rule for rule in rules if rule not in for_all))


def _originates(rule: DestinationRule) -> Iterator[Finding]:
    """Towards servers, and within the mesh: two codes, because who accepts the one need not accept the other."""
    modes = {use.mode for use in rule.uses} - {ClientTls.DISABLE}
    own, others = modes & {ClientTls.ISTIO_MUTUAL}, modes - {ClientTls.ISTIO_MUTUAL}
    for code, found in ((Code.TLS_ORIGINATION, others), (Code.MTLS_ORIGINATION, own)):
        if found:
            said = ", ".join(sorted(found))
            yield _refuse(code, f"{rule.ref}: traffic to {rule.host} is to be encrypted ({said})", rule.ref)


def _mesh_only(entries: Iterable[ServiceEntry], dns_capture: bool) -> Iterator[Finding]:
    for entry in entries:
        hosts = ", ".join(entry.hosts)
        if not entry.ordinary:
            yield _degraded(Code.MESH_ONLY_NAMES, f"{entry.ref}: only the proxy knows where {hosts} leads", entry)
        elif dns_capture and not entry.addressed:
            why = f"{entry.ref}: for {hosts} the proxy's DNS may have made up an address, which only it can reach"
            yield _degraded(Code.MESH_ONLY_NAMES, why, entry)


def _encrypts(rule: DestinationRule, namespace: str) -> bool:
    seen = exported(rule.export_to, rule.namespace, namespace)
    return seen and any(use.mode is not ClientTls.DISABLE for use in rule.uses)


def _routes(mesh: MeshView, namespace: str) -> Iterator[Finding]:
    for route in mesh.every(Route):
        if route.elsewhere or not exported(route.export_to, route.namespace, namespace):
            continue
        hosts = ", ".join(route.hosts)
        if route.detours:
            yield _refuse(Code.EGRESS_ROUTE, f"{route.ref}: {hosts} is led to {', '.join(route.detours)}", route.ref)
        else:
            yield _degraded(Code.ROUTES, f"{route.ref}: its routes for {hosts} are not followed", route)


def _identity(mesh: MeshView) -> Iterator[Finding]:
    """A pod whose proxy is passed by comes without identity, and a rule that names identities to deny misses it.
    Where every destination demands mTLS it does not get that far."""
    if _strict_everywhere(mesh):
        return
    for policy in mesh.every(Authorization):
        if policy.spares_the_unnamed and not policy.elsewhere and policy.enforcement is not Enforcement.NONE:
            sentence = f"{policy.ref}: a client without identity is not denied by it"
            yield _refuse(Code.IDENTITY_DENIED, sentence, policy.ref)


def _strict_everywhere(mesh: MeshView) -> bool:
    root = [p for p in mesh.of(PeerAuthentication, mesh.root) if not p.selector and not p.revision]
    oldest = min(root, key=lambda policy: policy.age, default=None)
    every = mesh.every(PeerAuthentication)
    lax = any(mode not in (None, Mtls.STRICT) for policy in every for mode in (policy.mode, *policy.ports.values()))
    return oldest is not None and oldest.mode is Mtls.STRICT and not lax


def _strict(mesh: MeshView) -> Iterator[Finding]:
    for policy in mesh.every(PeerAuthentication):
        if Mtls.STRICT in (policy.mode, *policy.ports.values()):
            where = "in the whole mesh" if policy.namespace == mesh.root else f"in {policy.namespace}"
            sentence = f"{policy.ref}: destinations {where} refuse connections without mTLS"
            yield _degraded(Code.STRICT_DESTINATIONS, sentence, policy, Level.DIRECT)


def _refuse(code: Code, sentence: str, ref: Ref | None) -> Finding:
    return Finding(code, Verdict.REFUSE, Direction.OUTBOUND, None, None, sentence, ref)


def _degraded(code: Code, sentence: str, found: MeshObject, level: Level | None = None) -> Finding:
    return Finding(code, Verdict.DEGRADED, Direction.OUTBOUND, None, level, sentence, found.ref)
