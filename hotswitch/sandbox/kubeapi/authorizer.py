"""`authorizer` of admission policies: may who asks do something else, too? By the same evaluation as every request.

As far as hotswitch's own policies need it: `authorizer.group(G).resource(R).namespace(N).name(M).check(V).allowed()`;
no paths, no other accounts. What is not among these fails the expression, and so is a no.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from hotswitch.sandbox.kubeapi.rbac import Action


@dataclass(frozen=True, slots=True)
class Authorizer:
    """A question while it is put together; `action.verb` is "" until it is asked."""

    permits: Callable[[Action], bool]
    action: Action


@dataclass(frozen=True, slots=True)
class Verdict:
    permitted: bool


def functions() -> dict[str, Callable[..., Any]]:
    """The methods of both, as CEL finds them: by name, with what they are called on as first argument."""
    from celpy.celtypes import BoolType

    def part(name: str) -> Callable[[Authorizer, Any], Authorizer]:
        return lambda asked, value: replace(asked, action=replace(asked.action, **{name: str(value)}))

    def subresource(asked: Authorizer, value: Any) -> Authorizer:
        whole = f"{asked.action.resource}/{value}" if value else asked.action.resource
        return replace(asked, action=replace(asked.action, resource=whole))

    def check(asked: Authorizer, verb: Any) -> Verdict:
        return Verdict(asked.permits(replace(asked.action, verb=str(verb))))

    return {
        **{name: part(name) for name in ("group", "resource", "namespace", "name")},
        "subresource": subresource,
        "check": check,
        "allowed": lambda verdict: BoolType(verdict.permitted),
    }
