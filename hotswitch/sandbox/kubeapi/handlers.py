"""HTTP in, HTTP out: each request is authenticated, read, met by faults, permitted, and answered, in this order.

What fails is a Status object with the code of a real API server; a mistake of this server's own is a 500 that says so.
"""

from __future__ import annotations

import traceback
from dataclasses import replace

import yaml
from aiohttp import web

from hotswitch.sandbox.kubeapi import protobuf, tokens
from hotswitch.sandbox.kubeapi.backend import CannotRun, NodeBackend, NoNode
from hotswitch.sandbox.kubeapi.discovery import discover
from hotswitch.sandbox.kubeapi.exec import container_of, options, serve_exec
from hotswitch.sandbox.kubeapi.failure import ApiError, Obj, no_such_path, success
from hotswitch.sandbox.kubeapi.faults import PAGE, Cut, Faults, Garbled
from hotswitch.sandbox.kubeapi.identity import ANONYMOUS, Tokens, User
from hotswitch.sandbox.kubeapi.patches import parse
from hotswitch.sandbox.kubeapi.rbac import Action, Rbac
from hotswitch.sandbox.kubeapi.reads import listed, matching
from hotswitch.sandbox.kubeapi.record import at, decode, encode
from hotswitch.sandbox.kubeapi.request import Ask, number, read
from hotswitch.sandbox.kubeapi.resources import REVIEWS, Catalogue
from hotswitch.sandbox.kubeapi.reviews import Reviews
from hotswitch.sandbox.kubeapi.store import Store
from hotswitch.sandbox.kubeapi.tables import table, wanted
from hotswitch.sandbox.kubeapi.updates import scale_of
from hotswitch.sandbox.kubeapi.watch import BOOKMARK_EVERY_S, Watch
from hotswitch.sandbox.kubeapi.writes import Writes


class Handlers:
    def __init__(
        self, catalogue: Catalogue, store: Store, writes: Writes, rbac: Rbac, tokens: Tokens, faults: Faults
    ) -> None:
        self._catalogue, self._store, self._writes = catalogue, store, writes
        self._rbac, self._tokens, self._faults = rbac, tokens, faults
        self._reviews = Reviews(rbac, tokens)
        self.backend: NodeBackend = NoNode()
        self.bookmark_every_s = BOOKMARK_EVERY_S
        self.exec_needs_create = True  # as real ones do since v1.35, beside `get`

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        try:
            return await self._answer(request)
        except ApiError as error:
            return _refused(error)
        except Cut:
            return _broken(request)
        except Garbled:
            return web.Response(text=PAGE, content_type="text/html")
        except web.HTTPRequestEntityTooLarge:
            return _refused(ApiError(413, "Request entity too large: limit is 3145728", "RequestEntityTooLarge"))
        except Exception as error:
            traceback.print_exc()
            return _refused(ApiError(500, f"the embedded API failed: {error!r}"))

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        user = self._authenticated(request)
        words = [word for word in request.path.split("/") if word]
        if words[:1] in (["api"], ["apis"]) and len(words) > (2 if words[0] == "api" else 3):
            ask = read(self._catalogue, user, request.method, words, request.query)
            return await self._ask(request, ask)
        if request.method != "GET":
            raise no_such_path()
        self._rbac.check(user, Action("get", url=request.path.rstrip("/")))
        if words in (["healthz"], ["livez"], ["readyz"]):
            return web.Response(text="ok")
        return _json(discover(self._catalogue, words))

    def _authenticated(self, request: web.BaseRequest) -> User:
        said = request.headers.get("Authorization", "")
        if not said:
            return ANONYMOUS
        user = self._tokens.owner(said.removeprefix("Bearer ").strip())
        if user is None:
            raise ApiError(401, "Unauthorized")
        return user

    async def _ask(self, request: web.BaseRequest, ask: Ask) -> web.StreamResponse:
        if ask.sub != "exec":
            await request.read()  # what has come whole is carried out however late, though its client waits no more
        await self._faults.strike(ask)
        if ask.sub == "exec":
            return await self._exec(request, replace(ask, verb="create" if request.method == "POST" else "get"))
        answer = await self._carried_out(request, ask)
        self._faults.strike_after(ask)
        return answer

    async def _carried_out(self, request: web.BaseRequest, ask: Ask) -> web.StreamResponse:
        self._rbac.check(ask.user, Action.of(ask))
        if ask.verb == "watch":
            return await self._watch(request, ask)
        if ask.verb == "list":
            return _raw(listed(ask, self._store, as_table=wanted(request.headers.get("Accept", ""))))
        if ask.verb == "get":
            return await self._get(ask, as_table=wanted(request.headers.get("Accept", "")))
        body = await request.read()
        if ask.verb == "patch":
            before = self._store.find(ask.resource.table, ask.key)
            changed = self._writes.patch(ask, parse(request.content_type, body), request.content_type)
            await self._start_ephemeral(ask, changed)
            return _json(self._shown(ask, changed), 201 if before is None else 200)
        content = _content(request.content_type, body)
        if ask.verb == "create":
            return await self._create(ask, content)
        if ask.verb == "update":
            changed = self._writes.replace(ask, content)
            await self._start_ephemeral(ask, changed)
            return _json(self._shown(ask, changed))
        return self._delete(ask, content)

    def _shown(self, ask: Ask, obj: Obj) -> Obj:
        return scale_of(obj) if ask.sub == "scale" else obj

    async def _get(self, ask: Ask, *, as_table: bool) -> web.StreamResponse:
        record = self._store.get(ask.resource, ask.key)
        if ask.sub == "scale":
            return _json(scale_of(record.decode()))
        if ask.sub == "log":
            pod = record.object(ask.resource)
            try:
                container = container_of(pod, ask.query.get("container", ""))
                return web.Response(body=await self.backend.log(pod, container), content_type="text/plain")
            except CannotRun as failure:
                raise ApiError(400, str(failure)) from None
        if as_table and not ask.sub:
            return _json(table(ask.resource, [record], str(record.version)))
        return _raw(record.sent(ask.resource))

    async def _watch(self, request: web.BaseRequest, ask: Ask) -> web.StreamResponse:
        as_table = wanted(request.headers.get("Accept", ""))
        watch = Watch(ask, self._store, bookmark_every_s=self.bookmark_every_s, as_table=as_table)
        closed = self._faults.opened(watch)
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        response.enable_chunked_encoding()
        try:
            await response.prepare(request)
            async for chunk in watch.lines():
                await response.write(chunk)
            if watch.broken and request.transport is not None:
                request.transport.abort()
        except ConnectionError:
            pass  # the client went away
        finally:
            closed()
        return response

    async def _exec(self, request: web.BaseRequest, ask: Ask) -> web.StreamResponse:
        for verb in dict.fromkeys((ask.verb, *(("create",) if self.exec_needs_create else ()))):
            self._rbac.check(ask.user, Action.of(ask, verb))
        pod = self._store.get(ask.resource, ask.key).object(ask.resource)
        self._writes.guard(ask, "CONNECT", None, options(request))
        return await serve_exec(request, pod, self.backend, lambda: self._faults.strike_after(ask))

    async def _create(self, ask: Ask, content: Obj) -> web.StreamResponse:
        if ask.resource.group in REVIEWS:
            return _json(self._reviews.answer(ask.resource.kind, ask.user, content), 201)
        match ask.sub:
            case "":
                return _json(self._writes.create(ask, content), 201)
            case "eviction":
                self._writes.delete(replace(ask, sub=""), content.get("deleteOptions") or {})
                return _json(success(), 201)
            case "binding":
                return self._bind(ask, content)
            case "token":
                return self._token(ask, content)
        raise ApiError(405, "the server does not allow this method on the requested resource")

    def _bind(self, ask: Ask, content: Obj) -> web.StreamResponse:
        record = self._store.get(ask.resource, ask.key)
        pod = record.decode()
        pod["spec"]["nodeName"] = at(content, "target", "name") or ""
        self._store.put(ask.resource.table, pod)
        return _json(success(), 201)

    def _token(self, ask: Ask, content: Obj) -> web.StreamResponse:
        self._store.get(ask.resource, ask.key)
        return _json(tokens.request(self._store, self._tokens, ask.namespace, ask.name, content), 201)

    async def _start_ephemeral(self, ask: Ask, pod: Obj) -> None:
        """The node is told of each container that has no status yet."""
        if ask.sub != "ephemeralcontainers" or ask.dry:
            return
        known = {status.get("name") for status in at(pod, "status", "ephemeralContainerStatuses") or []}
        for container in at(pod, "spec", "ephemeralContainers") or []:
            if container["name"] not in known:
                await self.backend.start_ephemeral(pod, container)

    def _delete(self, ask: Ask, options: Obj) -> web.StreamResponse:
        if ask.verb == "delete":
            grace_s = number(ask.query, "gracePeriodSeconds")
            options = {**({} if grace_s is None else {"gracePeriodSeconds": grace_s}), **options}
            deleted = self._writes.delete(ask, options)
            if ask.resource.table == ("", "pods") or deleted["metadata"].get("deletionTimestamp"):
                return _json(deleted)
            return _json(success(name=ask.name, kind=ask.resource.plural, uid=deleted["metadata"]["uid"]))
        for record in matching(ask, self._store):
            self._writes.delete(replace(ask, namespace=record.namespace, name=record.name), options)
        return _json(success())


def _content(content_type: str, body: bytes) -> Obj:
    if not body:
        return {}
    if content_type == protobuf.CONTENT_TYPE:
        return protobuf.read(body)
    try:
        content = yaml.safe_load(body) if content_type.endswith("yaml") else decode(body)
    except (ValueError, yaml.YAMLError) as error:
        raise ApiError(400, f"the object provided is unrecognized: {error}") from None
    if not isinstance(content, dict):
        raise ApiError(400, "the object provided is unrecognized: not an object")
    return content


def _refused(error: ApiError) -> web.Response:
    answer = _json(error.status(), error.code)
    if error.code == 429:  # clients wait as long as it says
        answer.headers["Retry-After"] = str(error.details.get("retryAfterSeconds", 1))
    return answer


def _broken(request: web.BaseRequest) -> web.Response:
    """A connection that ends without an answer; what is returned is written nowhere."""
    if request.transport is not None:
        request.transport.abort()
    return web.Response()


def _json(obj: Obj, status: int = 200) -> web.Response:
    return _raw(encode(obj), status)


def _raw(body: bytes, status: int = 200) -> web.Response:
    return web.Response(body=body, status=status, content_type="application/json")
