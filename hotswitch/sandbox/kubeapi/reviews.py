"""Questions to the API about rights and identities: answered at once, never kept.

The same evaluation as for the requests themselves, so `kubectl auth can-i` and hotswitch's own check of what it may do
say what would happen.
"""

from __future__ import annotations

from hotswitch.sandbox.kubeapi.failure import ApiError, Obj
from hotswitch.sandbox.kubeapi.identity import Tokens, User
from hotswitch.sandbox.kubeapi.rbac import Action, Rbac
from hotswitch.sandbox.kubeapi.record import at


class Reviews:
    def __init__(self, rbac: Rbac, tokens: Tokens) -> None:
        self._rbac, self._tokens = rbac, tokens

    def answer(self, kind: str, user: User, review: Obj) -> Obj:
        """The review with its status. Raises ApiError 400 for a kind that is none."""
        spec = review.get("spec") or {}
        match kind:
            case "SelfSubjectAccessReview":
                status = self._access(user, spec)
            case "SubjectAccessReview":
                status = self._access(User(spec.get("user", ""), tuple(spec.get("groups") or ())), spec)
            case "TokenReview":
                status = self._token(spec.get("token", ""))
            case "SelfSubjectReview":
                status = {"userInfo": user.info()}
            case _:
                raise ApiError(400, f"{kind} cannot be answered")
        return {**review, "metadata": review.get("metadata") or {}, "status": status}

    def _access(self, user: User, spec: Obj) -> Obj:
        allowed = self._rbac.permits(user, _action(spec), count=False)
        return {"allowed": allowed, "reason": ""}

    def _token(self, token: str) -> Obj:
        owner = self._tokens.owner(token)
        if owner is None:
            return {"authenticated": False, "error": "invalid bearer token"}
        return {"authenticated": True, "user": owner.info(), "audiences": ["https://kubernetes.default.svc"]}


def _action(spec: Obj) -> Action:
    if url := at(spec, "nonResourceAttributes", "path"):
        return Action(spec["nonResourceAttributes"].get("verb", ""), url=url)
    wanted = spec.get("resourceAttributes")
    if not wanted:
        raise ApiError(422, "spec.resourceAttributes: exactly one of nonResourceAttributes or resourceAttributes")
    sub = wanted.get("subresource", "")
    resource = f"{wanted.get('resource', '')}/{sub}" if sub else wanted.get("resource", "")
    return Action(
        wanted.get("verb", ""),
        wanted.get("group", ""),
        resource,
        wanted.get("namespace", ""),
        wanted.get("name", ""),
    )
