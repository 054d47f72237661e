"""One connection to the Kubernetes API: bytes in, bytes out, and every failure as one type.

The client library gives configuration, credentials, TLS and the session (credentials.py); its models are not used:
they cost 190 KB a pod and refuse objects of newer releases. Nothing is followed elsewhere (redirects), nothing is
retried but what a renewed token mends: whether to ask again is the caller's to know.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar, overload
from urllib.parse import urlencode

import msgspec
from yarl import URL

from hotswitch.cluster import failure
from hotswitch.cluster.answers import Group, Resources, read
from hotswitch.cluster.credentials import Credentials
from hotswitch.cluster.failure import ApiFailure, ConnectError
from hotswitch.cluster.http import aiohttp
from hotswitch.cluster.kinds import Kind

MERGE, STRATEGIC, JSON_PATCH, APPLY, JSON = (
    "application/merge-patch+json",
    "application/strategic-merge-patch+json",
    "application/json-patch+json",
    "application/apply-patch+yaml",  # JSON is YAML
    "application/json",
)
TIMEOUT_S = 10.0
PAGE = 500  # objects; one page of pods is about 5 MB
FIELD_MANAGER = "hotswitch"

T = TypeVar("T")
Object = dict[str, Any]
Query = Mapping[str, str] | list[tuple[str, str]]
Objects = list[Object]
Words = list[str]
Operations = list[dict[str, Any]]


class Cluster:
    """Made by `connect`. Paths begin with /api or /apis. Every method raises ApiFailure."""

    def __init__(self, credentials: Credentials, session: aiohttp.ClientSession, manager: str = FIELD_MANAGER) -> None:
        self._credentials, self._session = credentials, session
        self._manager = {"fieldManager": manager}

    @property
    def credentials(self) -> Credentials:
        return self._credentials

    @property
    def host(self) -> str:
        """As in https://10.96.0.1:443."""
        return self._credentials.host

    async def request(
        self,
        method: str,
        path: str,
        query: Query | None = None,
        body: Any = None,
        content_type: str = JSON,
        timeout_s: float = TIMEOUT_S,
    ) -> bytes:
        """`body`: bytes as they are, or anything msgspec can encode. A failure of status 0 leaves open whether a write
        was done."""
        data = body if isinstance(body, bytes) or body is None else msgspec.json.encode(body)
        headers = {"Content-Type": content_type} if data is not None else {}
        timeout = aiohttp.ClientTimeout(total=timeout_s)
        async with self.opened(method, path, query, data, headers, timeout) as answer:
            return await answer.read()

    @asynccontextmanager
    async def opened(
        self,
        method: str,
        path: str,
        query: Query | None,
        data: bytes | None,
        headers: Mapping[str, str],
        timeout: aiohttp.ClientTimeout,
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """The answer while it comes in; a success, else ApiFailure. What breaks off inside becomes one, too."""
        said = f"{method} {path}"
        try:
            answer = await self._answer(method, self.url(path, query), data, headers, timeout)
            async with answer:
                if answer.status >= 300:
                    raise failure.from_answer(
                        answer.status,
                        answer.reason or "",
                        await answer.read(),
                        request=said,
                        retry_after=answer.headers.get("Retry-After"),
                    )
                yield answer
        except TimeoutError as late:
            raise ApiFailure(
                0, "Timeout", f"no answer within {timeout.total or timeout.sock_read} s", request=said
            ) from late
        except (aiohttp.ClientError, OSError, ConnectError) as lost:
            raise ApiFailure(0, "ConnectionLost", f"{type(lost).__name__}: {lost}", request=said) from lost

    async def _answer(
        self, method: str, url: URL, data: bytes | None, headers: Mapping[str, str], timeout: aiohttp.ClientTimeout
    ) -> aiohttp.ClientResponse:
        ours = await self.headers()
        answer = await self._ask(method, url, data, {**ours, **headers}, timeout)
        if answer.status == 401 and await self._credentials.renew(ours):
            answer.release()
            answer = await self._ask(method, url, data, {**await self.headers(), **headers}, timeout)
        return answer

    async def _ask(
        self, method: str, url: URL, data: bytes | None, headers: Mapping[str, str], timeout: aiohttp.ClientTimeout
    ) -> aiohttp.ClientResponse:
        return await self._session.request(
            method,
            url,
            data=data,
            headers=headers,
            timeout=timeout,
            allow_redirects=False,
            server_hostname=self._credentials.server_hostname,
            proxy=self._credentials.proxy,
        )

    async def hello(self, timeout_s: float) -> None:
        """Does it answer?"""
        await self.request("GET", "/version", timeout_s=timeout_s)

    async def headers(self) -> dict[str, str]:
        """Nothing compressed: inside a cluster time is dearer than bytes. Raises ConnectError."""
        return {
            "Accept": JSON, "Accept-Encoding": "identity", "User-Agent": FIELD_MANAGER,
            **await self._credentials.headers(),
        }  # fmt: skip

    def url(self, path: str, query: Query | None = None) -> URL:
        asked = urlencode(query) if query else ""
        return URL(f"{self.host}{path}{'?' if asked else ''}{asked}", encoded=True)

    def web_socket(self, url: URL, protocols: tuple[str, ...], headers: Mapping[str, str]) -> Any:
        """What `async with` makes a WebSocket of; raises aiohttp's own errors (exec.py tells them apart)."""
        return self._session.ws_connect(
            url,
            protocols=protocols,
            headers=headers,
            proxy=self._credentials.proxy,
            server_hostname=self._credentials.server_hostname,
        )

    async def renew(self, refused: Mapping[str, str]) -> bool:
        """After a 401 of a WebSocket with these headers. False: it would be the same again."""
        return await self._credentials.renew(refused)

    @overload
    async def get(self, kind: Kind, namespace: str | None, name: str) -> Object: ...
    @overload
    async def get(self, kind: Kind, namespace: str | None, name: str, decode_type: type[T]) -> T: ...
    async def get(self, kind: Kind, namespace: str | None, name: str, decode_type: type[Any] = dict) -> Any:
        return read(await self.request("GET", kind.path(namespace, name)), decode_type)

    async def list(
        self, kind: Kind, namespace: str | None = None, *, label_selector: str = "", field_selector: str = ""
    ) -> Objects:
        """All of them, page by page. For many objects use a Watcher, which decodes only what is needed."""
        found: Objects = []
        query = selectors(label_selector, field_selector) | {"limit": str(PAGE)}
        while True:
            answer: dict[str, Any] = read(await self.request("GET", kind.path(namespace), query), dict)
            found += answer.get("items") or []
            query["continue"] = (answer.get("metadata") or {}).get("continue") or ""
            if not query["continue"]:
                return found

    async def create(
        self, kind: Kind, namespace: str | None, body: Mapping[str, Any], sub: str = "", name: str | None = None
    ) -> Object:
        """`name` only with `sub`. apiVersion and kind are filled in."""
        whole = {"apiVersion": kind.api_version, "kind": kind.kind, **body}
        return self._object(await self.request("POST", kind.path(namespace, name, sub), self._manager, whole))

    async def replace(
        self, kind: Kind, namespace: str | None, name: str, body: Mapping[str, Any], sub: str = ""
    ) -> Object:
        """Only over the version that `body` says it is of (metadata.resourceVersion)."""
        whole = {"apiVersion": kind.api_version, "kind": kind.kind, **body}
        return self._object(await self.request("PUT", kind.path(namespace, name, sub), self._manager, whole))

    async def patch_merge(
        self, kind: Kind, namespace: str | None, name: str, patch: Mapping[str, Any], sub: str = ""
    ) -> Object:
        return await self._patch(kind, namespace, name, patch, sub, MERGE)

    async def patch_strategic(
        self, kind: Kind, namespace: str | None, name: str, patch: Mapping[str, Any], sub: str = ""
    ) -> Object:
        """Lists are merged by their keys; built-in kinds only."""
        return await self._patch(kind, namespace, name, patch, sub, STRATEGIC)

    async def patch_json(
        self, kind: Kind, namespace: str | None, name: str, patch: Operations, sub: str = ""
    ) -> Object:
        """RFC 6902; a `test` that fails is a 422."""
        return await self._patch(kind, namespace, name, patch, sub, JSON_PATCH)

    async def apply(
        self, kind: Kind, namespace: str | None, name: str, body: Mapping[str, Any], *, force: bool = False
    ) -> Object:
        """Server-side: the fields of `body` are hotswitch's from now on, and what it said before and leaves out now
        goes. A uid or resourceVersion in it must be right (a conflict). `force`: also where others own a field."""
        whole = {"apiVersion": kind.api_version, "kind": kind.kind, **body}
        query = {**self._manager, "force": "true"} if force else self._manager
        return self._object(await self.request("PATCH", kind.path(namespace, name), query, whole, APPLY))

    async def _patch(
        self, kind: Kind, namespace: str | None, name: str, patch: Any, sub: str, content_type: str
    ) -> Object:
        path = kind.path(namespace, name, sub)
        return self._object(await self.request("PATCH", path, self._manager, patch, content_type))

    async def delete(
        self, kind: Kind, namespace: str | None, name: str, *, uid: str | None = None, version: str | None = None
    ) -> None:
        """`uid`, `version`: only if it is that very object, of that version (else a conflict). Raises ApiFailure also
        when it is not there."""
        said = {"uid": uid, "resourceVersion": version}
        wanted = {key: text for key, text in said.items() if text}
        body = {"apiVersion": "v1", "kind": "DeleteOptions", "preconditions": wanted} if wanted else None
        await self.request("DELETE", kind.path(namespace, name), None, body)

    async def served(self, kind: Kind) -> Kind | None:
        """The kind in the version that the API server serves, its preferred one if not the one asked for. None: it
        knows no such kind."""
        for version in dict.fromkeys((kind.version, *await self._versions(kind.group))):
            asked = Kind(kind.group, version, kind.plural, kind.kind, kind.namespaced)
            try:
                resources = read(await self.request("GET", asked.root), Resources).resources
            except ApiFailure as missing:
                if not missing.is_missing:
                    raise
                continue
            if any(each.name == kind.plural for each in resources):
                return asked
        return None

    async def _versions(self, group: str) -> Words:
        try:
            answer = await self.request("GET", f"/apis/{group}") if group else b"{}"
        except ApiFailure as missing:
            if not missing.is_missing:
                raise
            return []
        return [each.version for each in read(answer, Group).versions]

    def _object(self, raw: bytes) -> Object:
        return read(raw, Object)


def selectors(label_selector: str, field_selector: str) -> dict[str, str]:
    """As query parameters; the API server does the selecting."""
    asked = {"labelSelector": label_selector, "fieldSelector": field_selector}
    return {key: value for key, value in asked.items() if value}


@asynccontextmanager
async def connect(
    kubeconfig: Path | None = None, context: str | None = None, *, manager: str = FIELD_MANAGER
) -> AsyncIterator[Cluster]:
    """`manager`: by which name its writes are remembered in managedFields. Raises ConnectError when it is not known
    which cluster, or the credentials cannot be read. Asks nothing yet."""
    credentials = Credentials(kubeconfig, context)
    await credentials.load()
    async with credentials.session() as session:
        yield Cluster(credentials, session, manager)
