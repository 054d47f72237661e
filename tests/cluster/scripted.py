"""An API server that says exactly what a test has written for it: the faults of a watch, one by one, byte by byte.

Each request of the script is answered once, in order; what comes after the script is held open and silent.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from aiohttp import web

from hotswitch.cluster.client import Cluster, connect

Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]


def pod(name: str, version: int, *, uid: str = "", **more: Any) -> dict[str, Any]:
    metadata = {"name": name, "namespace": "n", "uid": uid or f"uid-{name}", "resourceVersion": str(version)}
    return {"metadata": metadata, **more}


def status(code: int, reason: str, message: str = "as the test wants it") -> dict[str, Any]:
    return {
        "kind": "Status",
        "apiVersion": "v1",
        "status": "Failure",
        "code": code,
        "reason": reason,
        "message": message,
    }


def event(kind: str, content: dict[str, Any]) -> bytes:
    return json.dumps({"type": kind, "object": content}).encode() + b"\n"


def bookmark(version: int) -> bytes:
    return event("BOOKMARK", {"kind": "Pod", "metadata": {"resourceVersion": str(version)}})


def listed(version: int, *pods: dict[str, Any], next_page: str = "") -> Answer:
    metadata = {"resourceVersion": str(version), **({"continue": next_page} if next_page else {})}
    return said({"kind": "PodList", "metadata": metadata, "items": list(pods)})


def said(body: Any, code: int = 200, headers: dict[str, str] | None = None) -> Answer:
    async def answer(_: web.Request) -> web.StreamResponse:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        return web.Response(body=data, status=code, headers=headers)

    return answer


def watched(*pieces: bytes, then: str = "end") -> Answer:
    """`then`: "end" as the API server ends a watch, "cut" the connection, or "hold" it in silence."""

    async def answer(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        for piece in pieces:
            await response.write(piece)
        if then == "hold":
            await asyncio.Event().wait()
        if then == "cut" and request.transport is not None:
            request.transport.abort()
        return response

    return answer


class Scripted:
    """`asked`: the requests so far."""

    def __init__(self, script: tuple[Answer, ...]) -> None:
        self._script = list(script)
        self.asked: list[web.Request] = []

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self.asked.append(request)
        answer = self._script.pop(0) if self._script else watched(then="hold")
        return await answer(request)

    def queries(self, name: str) -> list[str | None]:
        return [request.query.get(name) for request in self.asked]


def kubeconfig(directory: Path, server: str, user: dict[str, Any] | None = None) -> Path:
    path = directory / "kubeconfig"
    content = {
        "apiVersion": "v1", "kind": "Config", "current-context": "it",
        "clusters": [{"name": "it", "cluster": {"server": server}}],
        "users": [{"name": "it", "user": user or {"token": "word"}}],
        "contexts": [{"name": "it", "context": {"cluster": "it", "user": "it"}}],
    }  # fmt: skip
    path.write_text(json.dumps(content))
    return path


@asynccontextmanager
async def served(handler: Answer) -> AsyncIterator[str]:
    """At a free port of loopback; its address."""
    runner = web.ServerRunner(web.Server(handler, access_log=None), shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


@asynccontextmanager
async def scripted(directory: Path, *script: Answer) -> AsyncIterator[tuple[Cluster, Scripted]]:
    """A server with this script, and a connection to it."""
    server = Scripted(script)
    async with served(server.handle) as address, connect(kubeconfig(directory, address)) as cluster:
        yield cluster, server
