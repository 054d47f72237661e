"""What mTLS the mesh demands at a pod's ports: PeerAuthentication, all four levels (HSW01xx, I2).

Mesh (root namespace, no selector), namespace, workload (selector), port of that workload's policy: each inherits from
the one before where it says UNSET. Of several at one level the oldest counts and the others say nothing, not even of
ports. A selector in the root namespace selects nothing. Source: istiod's ComposePeerAuthentication.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from hotswitch.decide.preflight.codes import Code
from hotswitch.decide.preflight.result import Finding, Verdict
from hotswitch.mesh import MeshPod, MeshView
from hotswitch.mesh.objects import PeerAuthentication, Ref
from hotswitch.mesh.view import applies
from hotswitch.model import Direction, Level, Mtls, Port


@dataclass(frozen=True, slots=True)
class Demand:
    """`source` and `port_source`: the objects that decide; None where Istio's default does (PERMISSIVE)."""

    mode: Mtls = Mtls.PERMISSIVE
    by_port: Mapping[Port, Mtls] = field(default_factory=dict)
    source: Ref | None = None
    port_source: Ref | None = None

    def on(self, port: Port) -> Mtls:
        return self.by_port.get(port, self.mode)

    def source_of(self, port: Port) -> Ref | None:
        return self.port_source if port in self.by_port else self.source


def demand(mesh: MeshView, pod: MeshPod) -> Demand:
    levels = (_oldest(_of_mesh(mesh, pod)), _oldest(_of_namespace(mesh, pod)), _oldest(_of_workload(mesh, pod)))
    mode, source = Mtls.PERMISSIVE, None
    for policy in levels:
        if policy is not None and policy.mode is not None:
            mode, source = policy.mode, policy.ref
    workload = levels[-1]
    if workload is None:
        return Demand(mode, {}, source)
    by_port = {port: given or mode for port, given in workload.ports.items()}
    return Demand(mode, by_port, source, workload.ref)


def _of_mesh(mesh: MeshView, pod: MeshPod) -> Iterator[PeerAuthentication]:
    return (p for p in mesh.of(PeerAuthentication, mesh.root) if applies(p, pod) and not p.selector)


def _of_namespace(mesh: MeshView, pod: MeshPod) -> Iterator[PeerAuthentication]:
    if pod.namespace == mesh.root:
        return iter(())
    return (p for p in mesh.of(PeerAuthentication, pod.namespace) if applies(p, pod) and not p.selector)


def _of_workload(mesh: MeshView, pod: MeshPod) -> Iterator[PeerAuthentication]:
    if pod.namespace == mesh.root:
        return iter(())
    return (p for p in mesh.of(PeerAuthentication, pod.namespace) if applies(p, pod) and p.selector)


def _oldest(policies: Iterable[PeerAuthentication]) -> PeerAuthentication | None:
    return min(policies, key=lambda policy: policy.age, default=None)


def strict_ports(demanded: Demand, ports: Iterable[Port]) -> Iterator[Finding]:
    """One finding for all ports where they are alike, else one for each."""
    if not demanded.by_port:
        if demanded.mode is Mtls.STRICT:
            yield _strict(None, demanded.source)
        return
    for port in sorted({*ports, *demanded.by_port}):
        if demanded.on(port) is Mtls.STRICT:
            yield _strict(port, demanded.source_of(port))


def _strict(port: Port | None, source: Ref | None) -> Finding:
    where = "every port" if port is None else f"port {port}"
    sentence = f"mTLS is STRICT on {where}: `direct` would take plaintext there"
    return Finding(Code.STRICT_MTLS, Verdict.REFUSE, Direction.INBOUND, port, Level.DIRECT, sentence, source)
