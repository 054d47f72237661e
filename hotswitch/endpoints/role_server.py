"""Where a pod asks its own role, over HTTP, as Patroni's /primary and /replica do (S0.3, S0.6, I7).

    GET  /v1/roles/NAMESPACE/POD?uid=UID            200 with the role as JSON; 503: ask another controller
    GET  .../POD?uid=UID&wait=SECONDS               the same, as soon as something has changed (long poll)
    GET  .../POD?uid=UID&permitted=N                the same, of a keeper that has opened the port up to generation N
    GET  .../POD/primary?uid=UID                    200 if it is the active one, else 503
    GET  .../POD/replica?uid=UID                    200 if it is a standby, else 503
    POST .../POD/fenced?uid=UID&generation=N        its keeper confirms (bearer token of a keeper's account)

An answer may be believed for `ttl_s`, counted from before the question was sent. Roles are no secret, so asking takes
no token; confirming does, for a false confirmation would let two serve.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from aiohttp import web

from hotswitch.backends import BackendId, Role
from hotswitch.cluster.client import Cluster
from hotswitch.cluster.failure import ApiFailure
from hotswitch.cluster.kinds import TOKEN_REVIEWS
from hotswitch.endpoints.roles import Answer, RoleBook
from hotswitch.model import Generation, PodUid

PATH = "/v1/roles/{namespace}/{pod}"
LONGEST_WAIT_S = 30.0
Find = Callable[[str, str, str], BackendId | None]
"""The backend with this namespace, pod name and uid; None: there is none such."""


POD_UID = "authentication.kubernetes.io/pod-uid"
"""In what the API server says of a token that is bound to a pod: which pod it was given to."""


@dataclass(frozen=True, slots=True)
class Keepers:
    """Whose confirmations count: the pod's own, by a token that was given to that very pod, and `accounts` by name."""

    cluster: Cluster
    accounts: frozenset[str]

    async def may_confirm(self, token: str, uid: str) -> bool:
        """Raises ApiFailure."""
        if not token:
            return False
        answer = await self.cluster.create(TOKEN_REVIEWS, None, {"spec": {"token": token}})
        status = answer.get("status") or {}
        user = status.get("user") or {}
        is_itself = uid in ((user.get("extra") or {}).get(POD_UID) or ())
        return bool(status.get("authenticated")) and (is_itself or user.get("username") in self.accounts)


class RoleServer:
    """`routes` for an aiohttp application."""

    def __init__(self, roles: RoleBook, keepers: Keepers, find: Find) -> None:
        self._roles, self._keepers, self._find = roles, keepers, find

    @property
    def routes(self) -> list[web.RouteDef]:
        return [
            web.get(PATH, self._role),
            web.get(PATH + "/primary", self._is_active),
            web.get(PATH + "/replica", self._is_standby),
            web.post(PATH + "/fenced", self._fenced),
        ]

    async def _role(self, request: web.Request) -> web.Response:
        came_s, backend = self._roles.now_s, self._backend(request)
        if backend is None:
            return _unknown()
        permitted = request.query.get("permitted", "")
        by_keeper = permitted.isdecimal()
        if by_keeper:
            self._roles.permits(backend, Generation(int(permitted)))
        wait_s = min(LONGEST_WAIT_S, _number(request.query.get("wait", "0")))
        known = request.query.get("known", "")
        answer = self._roles.ask(backend, came_s, by_keeper=by_keeper)
        if wait_s > 0 and answer is not None and _mark(answer) == known:
            await self._roles.changed(backend, wait_s)
            answer = self._roles.ask(backend, came_s, by_keeper=by_keeper)
        return _unknown() if answer is None else web.json_response(text_of(answer))

    async def _is_active(self, request: web.Request) -> web.Response:
        return self._is(request, Role.ACTIVE)

    async def _is_standby(self, request: web.Request) -> web.Response:
        return self._is(request, Role.STANDBY)

    def _is(self, request: web.Request, role: Role) -> web.Response:
        backend = self._backend(request)
        answer = None if backend is None else self._roles.ask(backend, self._roles.now_s)
        if answer is None:
            return _unknown()
        return web.json_response(text_of(answer), status=200 if answer.role is role else 503)

    async def _fenced(self, request: web.Request) -> web.Response:
        backend = self._backend(request)
        generation = request.query.get("generation", "")
        if backend is None:
            return _unknown()
        if not generation.isdecimal():
            return web.Response(status=400, text=f"generation: {generation!r}: is not a number\n")
        token = request.headers.get("Authorization", "").removeprefix("Bearer ").strip()
        try:
            if not await self._keepers.may_confirm(token, backend.uid):
                return web.Response(status=403, text="only the pod itself, or a keeper's account, may confirm\n")
        except ApiFailure as failure:
            return web.Response(status=503, text=f"whose token it is cannot be told now: {failure}\n")
        known = self._roles.confirm(backend, Generation(int(generation)))
        return web.Response(text="confirmed\n") if known else _unknown()

    def _backend(self, request: web.Request) -> BackendId | None:
        uid = request.query.get("uid", "")
        return self._find(request.match_info["namespace"], request.match_info["pod"], PodUid(uid)) if uid else None


def _unknown() -> web.Response:
    """Not a role: nobody may take it for one."""
    sentence = "this controller does not lead, or knows no such pod, or more than one Service with roles selects it"
    return web.json_response({"error": sentence}, status=503)


def _mark(answer: Answer) -> str:
    return f"{answer.role}-{answer.generation}"


def text_of(answer: Answer) -> dict[str, object]:
    """As it is sent."""
    return {
        "service": str(answer.service),
        "role": str(answer.role),
        "generation": answer.generation,
        "ttl_s": answer.ttl_s,
        "withdrawn": answer.withdrawn,
        "mark": _mark(answer),
    }


def _number(text: str) -> float:
    try:
        return max(0.0, float(text))
    except ValueError:
        return 0.0
