"""Whether the pod is one that can be bypassed at all, and what of its app only the proxy can reach (HSW06xx)."""

from __future__ import annotations

from collections.abc import Iterator

from hotswitch.decide.preflight.codes import Code
from hotswitch.decide.preflight.outbound import sidecar_of
from hotswitch.decide.preflight.result import Finding, Verdict
from hotswitch.mesh import MeshPod, MeshView
from hotswitch.mesh.objects import Ingress, Ref
from hotswitch.mesh.pod import TRUSTS_HEADERS
from hotswitch.model import TUNNEL, Direction, Level, Port

_IN = Direction.INBOUND


def not_ours(pod: MeshPod) -> Iterator[Finding]:
    """Whatever is found here ends the preflight: nothing else would be true of such a pod."""
    reasons = (
        (pod.gateway, Code.GATEWAY, "a gateway, not a sidecar: it captures nothing"),
        (pod.ambient and not pod.sidecar, Code.NO_SIDECAR, "in the ambient mesh: it has no sidecar"),
        (not (pod.sidecar or pod.gateway or pod.ambient), Code.NO_SIDECAR, "has no sidecar"),
        (pod.host_network, Code.HOST_NETWORK, "uses the node's network"),
        (pod.interception == "NONE", Code.NOT_CAPTURED, "its interception mode is NONE: nothing is captured"),
        (pod.envoy_disabled, Code.ENVOY_DISABLED, "its sidecar runs without Envoy"),
    )
    for holds, code, sentence in reasons:
        if holds:
            for direction in Direction:
                yield Finding(code, Verdict.REFUSE, direction, None, None, f"{pod}: {sentence}")


def shape(mesh: MeshView, pod: MeshPod) -> Iterator[Finding]:
    yield from _attestation(pod)
    if pod.hbone:
        sentence = f"{pod}: its clients in the mesh come by HBONE, at port {TUNNEL}, which is never opened"
        yield Finding(Code.HBONE, Verdict.REFUSE, _IN, None, None, sentence)
    local = mesh.config.local_only if pod.local_only is None else pod.local_only
    if local:
        yield from _proxy_only(Code.LOCALHOST_ONLY, None, "the proxy reaches the app by 127.0.0.1", None)
    sidecar = sidecar_of(mesh, pod)
    for listener in sidecar.ingress if sidecar else ():
        if sidecar and (listener.endpoint or listener.tls):
            yield from _proxy_only(Code.PROXY_ONLY_PORT, listener.port, _why(listener), sidecar.ref)


def _attestation(pod: MeshPod) -> Iterator[Finding]:
    said = pod.annotations.get(TRUSTS_HEADERS)
    if said != "false":
        what = "does not say" if said is None else f"says {said[:20]!r} to"
        sentence = f'{pod} {what} {TRUSTS_HEADERS}: "false"; through an open gate anybody could forge such headers'
        yield Finding(Code.TRUSTS_HEADERS, Verdict.REFUSE, _IN, None, Level.DIRECT, sentence)


def _proxy_only(code: Code, port: Port | None, why: str, ref: Ref | None) -> Iterator[Finding]:
    """`direct` would be of no use. The rescue's door is one for all ports, and at this one it would find nobody."""
    where = "" if port is None else f"port {port}: "
    for level, verdict in ((Level.DIRECT, Verdict.REFUSE), (Level.RESCUE, Verdict.DEGRADED)):
        yield Finding(code, verdict, _IN, port, level, f"{where}{why}", ref)


def _why(listener: Ingress) -> str:
    return f"leads to {listener.endpoint}" if listener.endpoint else "TLS of clients ends in the proxy"
