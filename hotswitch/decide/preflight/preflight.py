"""May this pod's traffic pass by its proxy, and how? Every rule, in one answer (I2). Pure, and total: on doubt, no.

What is found takes away; nothing found is the fast yes of a mesh that only observes (HSW0000).
"""

from __future__ import annotations

from collections.abc import Iterator

from hotswitch.decide.preflight.authorization import authorization, kept_by_rescue
from hotswitch.decide.preflight.clients import clients, flips
from hotswitch.decide.preflight.codes import MEANING, Code
from hotswitch.decide.preflight.doubts import doubts
from hotswitch.decide.preflight.extension import extension
from hotswitch.decide.preflight.mtls import Demand, demand, strict_ports
from hotswitch.decide.preflight.outbound import outbound
from hotswitch.decide.preflight.result import Finding, Preflight, Verdict, accept
from hotswitch.decide.preflight.shape import not_ours, shape
from hotswitch.mesh import MeshPod, MeshView
from hotswitch.model import Direction, Mtls, Port

_DOUBTS = frozenset({Code.OBJECT_NOT_UNDERSTOOD, Code.POD_NOT_UNDERSTOOD, Code.MESH_NOT_READ})


def preflight(mesh: MeshView, pod: MeshPod, accepted: frozenset[str] = frozenset()) -> Preflight:
    """`accepted`: codes that a policy in the root namespace grants; those that nobody may accept stay refusals."""
    foreign = tuple(not_ours(pod))
    if foreign:
        return Preflight(foreign)
    demanded = demand(mesh, pod)
    flip = flips(mesh, pod, demanded)
    ports = mesh.inbound_ports(pod)
    found = tuple(dict.fromkeys((*doubts(mesh, pod), *_rules(mesh, pod, demanded, flip, ports))))
    doubtful = any(finding.code in _DOUBTS for finding in found)
    return Preflight(
        findings=accept((*_nothing_lost(found), *found), accepted),
        mtls=Mtls.STRICT if doubtful else demanded.mode,
        mtls_by_port={} if doubtful else demanded.by_port,
        outbound_free=not any(f.direction is Direction.OUTBOUND and f.verdict is Verdict.REFUSE for f in found),
        authorization=kept_by_rescue(mesh, pod),
        flip=flip,
        ports=ports,
    )


def _rules(mesh: MeshView, pod: MeshPod, demanded: Demand, flip: bool, ports: tuple[Port, ...]) -> Iterator[Finding]:
    yield from strict_ports(demanded, ports)
    yield from authorization(mesh, pod)
    yield from extension(mesh, pod)
    yield from clients(mesh, pod, flip)
    yield from outbound(mesh, pod)
    yield from shape(mesh, pod)


def _nothing_lost(found: tuple[Finding, ...]) -> Iterator[Finding]:
    """Per direction. That the app trusts no headers has to be said in any case, so its absence is no finding here."""
    for direction in Direction:
        if not any(f.direction is direction and f.code is not Code.TRUSTS_HEADERS for f in found):
            sentence = MEANING[Code.NOTHING_LOST]
            yield Finding(Code.NOTHING_LOST, Verdict.ALLOW, direction, None, None, sentence)
