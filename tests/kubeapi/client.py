"""A bare client for tests of an API server: what goes over the wire is what the test says, and no library helps."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import ssl
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
import yaml

MERGE, JSON, STRATEGIC, APPLY = (
    "application/merge-patch+json",
    "application/json-patch+json",
    "application/strategic-merge-patch+json",
    "application/apply-patch+yaml",
)
PATIENCE_S = 20.0
NO_NODE = "hotswitch-no-node"  # of no cluster: what a test writes is changed by no kubelet
PODS, MAPS = "/api/v1/namespaces/{ns}/pods", "/api/v1/namespaces/{ns}/configmaps"


@dataclass
class Access:
    """Where an API server is and how to be its admin. `anybodys_tls`: without a certificate of the admin's, which a
    server believes before any token."""

    url: str
    headers: dict[str, str]
    tls: ssl.SSLContext | bool
    anybodys_tls: ssl.SSLContext | bool


def access(kubeconfig: Path) -> Access:
    """Of the current context: token or client certificate (programs that print credentials are not run)."""
    config = yaml.safe_load(kubeconfig.read_text())
    context = _named(config, "contexts", config["current-context"])["context"]
    cluster = _named(config, "clusters", context["cluster"])["cluster"]
    user = _named(config, "users", context["user"])["user"]
    headers = {"Authorization": f"Bearer {user['token']}"} if "token" in user else {}
    return Access(cluster["server"], headers, _tls(cluster, user), _tls(cluster, {}))


def _named(config, kind, name):
    return next(entry for entry in config[kind] if entry["name"] == name)


def _tls(cluster, user):
    if not cluster["server"].startswith("https"):
        return True
    data = base64.b64decode(cluster.get("certificate-authority-data", "")).decode() or None
    context = ssl.create_default_context(cafile=cluster.get("certificate-authority"), cadata=data)
    if cluster.get("insecure-skip-tls-verify"):
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    if "client-certificate-data" in user:
        with tempfile.NamedTemporaryFile() as file:
            file.write(base64.b64decode(user["client-certificate-data"]) + b"\n")
            file.write(base64.b64decode(user["client-key-data"]))
            file.flush()
            context.load_cert_chain(file.name)
    elif "client-certificate" in user:
        context.load_cert_chain(user["client-certificate"], user["client-key"])
    return context


@dataclass
class Client:
    """`{ns}` in a path is the test's own namespace."""

    access: Access
    session: aiohttp.ClientSession
    namespace: str
    embedded: object | None = None  # the EmbeddedApi, when it is one
    headers: dict[str, str] = field(default_factory=dict)

    @property
    def tls(self) -> ssl.SSLContext | bool:
        return self.access.anybodys_tls if "Authorization" in self.headers else self.access.tls

    def url(self, path: str) -> str:
        return self.access.url + path.replace("{ns}", self.namespace)

    async def call(self, method, path, body=None, *, status=(200, 201), kind="application/json", raw=False, **query):
        """The decoded answer; the test fails when the status is not (one of) `status`."""
        expected = (status,) if isinstance(status, int) else status
        text = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        data = None if text is None else io.BytesIO(text)
        headers = {**self.access.headers, **self.headers, "Content-Type": kind}
        timeout = aiohttp.ClientTimeout(total=PATIENCE_S)
        async with self.session.request(
            method, self.url(path), data=data, headers=headers, params=query, ssl=self.tls, timeout=timeout
        ) as answer:
            text = await answer.read()
        assert answer.status in expected, f"{method} {path}: {answer.status} {text[:2000]!r}"
        return text if raw else json.loads(text)

    async def get(self, path, **options):
        return await self.call("GET", path, **options)

    async def post(self, path, body, **options):
        return await self.call("POST", path, body, **options)

    async def put(self, path, body, **options):
        return await self.call("PUT", path, body, **options)

    async def patch(self, path, body, kind=MERGE, **options):
        return await self.call("PATCH", path, body, kind=kind, **options)

    async def delete(self, path, body=None, **options):
        return await self.call("DELETE", path, body, **options)

    def watch(self, path, **query):
        return Watching(self, path, query)


class Watching:
    """`async with client.watch(path) as events: await events.next()`: (type, object), None at the end."""

    def __init__(self, client, path, query):
        self._client, self._path, self._query = client, path, query

    async def __aenter__(self):
        timeout = aiohttp.ClientTimeout(total=None, sock_read=PATIENCE_S)
        self._request = self._client.session.get(
            self._client.url(self._path),
            params={"watch": "1", **self._query},
            headers={**self._client.access.headers, **self._client.headers},
            ssl=self._client.tls,
            timeout=timeout,
            read_bufsize=2**22,
        )
        self._answer = await self._request.__aenter__()
        assert self._answer.status == 200, await self._answer.text()
        return self

    async def __aexit__(self, *error):
        await self._request.__aexit__(*error)

    async def next(self):
        line = await self._answer.content.readline()
        if not line:
            return None
        event = json.loads(line)
        return event["type"], event["object"]

    async def names(self, count):
        """Type and name of the next `count` events, bookmarks left out."""
        seen = []
        while len(seen) < count:
            kind, obj = await self.next()
            if kind != "BOOKMARK":
                seen.append((kind, obj["metadata"]["name"]))
        return seen


def pod(name="web-0", **meta):
    spec = {"nodeName": NO_NODE, "containers": [{"name": "app", "image": "app:1"}]}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, **meta}, "spec": spec}


def config_map(name="settings", **meta):
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, **meta}, "data": {"a": "1"}}


async def eventually(attempt, within_s=PATIENCE_S):
    """The first true answer of `attempt`: on a real API server definitions and policies take effect a moment later."""
    async with asyncio.timeout(within_s):
        while not (found := await attempt()):
            await asyncio.sleep(0.05)
    return found


def version(obj):
    return int(obj["metadata"]["resourceVersion"])
