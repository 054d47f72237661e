"""Questions to the API about rights and identities: answered at once, never kept.

The same evaluation as for the requests themselves, so `kubectl auth can-i` and hotswitch's own check of what it may do
say what would happen.
"""

from __future__ import annotations

from hotswitch.sandbox.kubeapi.failure import ApiError, Obj
from hotswitch.sandbox.kubeapi.identity import AUDIENCE, Tokens, User
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
                status = self._token(spec.get("token", ""), tuple(spec.get("audiences") or (AUDIENCE,)))
            case "SelfSubjectReview":
                status = {"userInfo": user.info()}
            case _:
                raise ApiError(400, f"{kind} cannot be answered")
        return {**review, "metadata": review.get("metadata") or {}, "status": status}

    def _access(self, user: User, spec: Obj) -> Obj:
        allowed = self._rbac.permits(user, _action(spec), count=False)
        return {"allowed": allowed, "reason": ""}

    def _token(self, token: str, audiences: tuple[str, ...]) -> Obj:
        """Of the audiences asked for, those that the token has; one at least must be among them."""
        known = self._tokens.find(token)
        if known is None:
            return {"user": {}, "error": "[invalid bearer token, unknown or expired]"}
        meant = [each for each in audiences if each in known.audiences]
        if not meant:
            told, asked = sorted(known.audiences), list(audiences)
            return {
                "user": {},
                "error": f"[invalid bearer token, token audiences {told} is invalid for the target audiences {asked}]",
            }
        return {"authenticated": True, "user": known.user.info(), "audiences": meant}


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
