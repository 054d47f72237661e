"""What the proxy forbids, and which of it the rescue would forbid too (HSW02xx, I2)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from hotswitch.decide.preflight.codes import Code
from hotswitch.decide.preflight.result import Finding, Verdict
from hotswitch.mesh import MeshPod, MeshView
from hotswitch.mesh.objects import Authorization, Enforcement, MeshObject, RequestAuthentication
from hotswitch.model import Direction, Level


def authorization(mesh: MeshView, pod: MeshPod) -> Iterator[Finding]:
    for policy in mesh.selecting(Authorization, pod):
        if policy.enforcement is Enforcement.EXTERNAL:
            yield _refuse(Code.EXTERNAL_AUTHORIZATION, policy, None, "an external authorizer would not be asked")
        elif policy.enforcement is not Enforcement.NONE:
            yield _refuse(Code.AUTHORIZATION, policy, Level.DIRECT, f"its {policy.action} would not be enforced")
        if policy.enforcement is Enforcement.REQUEST:
            why = f"the rescue sees connections only, and this looks further: {policy.why}"
            yield _refuse(Code.REQUEST_AUTHORIZATION, policy, Level.RESCUE, why)
    for authentication in mesh.selecting(RequestAuthentication, pod):
        yield _refuse(Code.REQUEST_AUTHENTICATION, authentication, None, "tokens would not be checked")


def kept_by_rescue(mesh: MeshView, pod: MeshPod) -> tuple[Mapping[str, Any], ...]:
    """Metadata and spec of the policies that the rescue has to enforce, in the order of their names."""
    found = [p for p in mesh.selecting(Authorization, pod) if p.enforcement is Enforcement.CONNECTION]
    return tuple(policy.manifest for policy in sorted(found, key=lambda policy: policy.ref))


def _refuse(code: Code, found: MeshObject, level: Level | None, why: str) -> Finding:
    return Finding(code, Verdict.REFUSE, Direction.INBOUND, None, level, f"{found.ref}: {why}", found.ref)
