"""What was not understood. On doubt nothing is opened: refuse, and say so (HSW09xx, I2)."""

from __future__ import annotations

from collections.abc import Iterator

from hotswitch.decide.preflight.codes import Code
from hotswitch.decide.preflight.result import Finding, Verdict
from hotswitch.mesh import MeshPod, MeshView
from hotswitch.mesh.objects import Doubt, Ref
from hotswitch.mesh.view import applies, selects
from hotswitch.model import Direction


def doubts(mesh: MeshView, pod: MeshPod) -> Iterator[Finding]:
    for kind in mesh.unread:
        yield from _both(Code.MESH_NOT_READ, f"{kind} could not be read")
    for doubt in mesh.doubts:
        if _concerns(doubt, mesh, pod):
            code = Code.KIND_NOT_KNOWN if doubt.unknown_kind else Code.OBJECT_NOT_UNDERSTOOD
            yield from _both(code, f"{doubt.ref}: {doubt.why}", doubt.ref)
    for why in pod.doubts:
        yield from _both(Code.POD_NOT_UNDERSTOOD, f"{pod}: {why}")
    if not pod.revision:
        yield from _whose(mesh, pod)


def _concerns(doubt: Doubt, mesh: MeshView, pod: MeshPod) -> bool:
    here = doubt.everywhere or doubt.ref.namespace in ("", mesh.root, pod.namespace)
    return here and selects(doubt.selector, pod.labels)


def _whose(mesh: MeshView, pod: MeshPod) -> Iterator[Finding]:
    """Objects meant for one istiod, and a pod of which it is not known whose it is."""
    for found in mesh.of_revisions:
        if found.namespace in (mesh.root, pod.namespace) and applies(found, pod):
            why = f"is for revision {found.revision}, and that of {pod} is not known"
            yield from _both(Code.POD_NOT_UNDERSTOOD, f"{found.ref} {why}", found.ref)


def _both(code: Code, sentence: str, ref: Ref | None = None) -> Iterator[Finding]:
    for direction in Direction:
        yield Finding(code, Verdict.REFUSE, direction, None, None, sentence, ref)
