"""Whom to ask, as whom, and what every failure on the way is told as."""

from __future__ import annotations

import asyncio
import socket
import sys
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from kubernetes.aio.config import incluster_config

from hotswitch.cluster import credentials
from hotswitch.cluster.client import Cluster, connect
from hotswitch.cluster.failure import ApiFailure, ConnectError
from hotswitch.cluster.kinds import EVENTS, LEASES, NAMESPACES, PODS, SIDECARS
from hotswitch.sandbox.kubeapi.server import EmbeddedApi
from tests.cluster.apis import Api
from tests.cluster.scripted import kubeconfig, said, served, status, watched

pytestmark = pytest.mark.k8s
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Guarded:
    """Lets in who has the token of the hour."""

    def __init__(self, token: str) -> None:
        self.token = token
        self.asked: list[str] = []

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self.asked.append(request.headers.get("Authorization", ""))
        if self.asked[-1].lower() == f"bearer {self.token}":
            return web.json_response({"items": []})
        return web.json_response(status(401, "Unauthorized"), status=401)


def ask(
    path: Path, call: Callable[[Cluster], Awaitable[Any]] = lambda cluster: cluster.list(PODS)
) -> Callable[[], Awaitable[Any]]:
    async def asked() -> Any:
        async with connect(path) as cluster:
            return await call(cluster)

    return asked


def connected(directory: Path, address: str, user: dict[str, Any]) -> AbstractAsyncContextManager[Cluster]:
    return connect(kubeconfig(directory, address, user))


def failure_of(directory: Path, handler: Handler, **options: Any) -> ApiFailure:
    async def run() -> ApiFailure:
        async with served(handler) as address, connect(kubeconfig(directory, address)) as cluster:
            with pytest.raises(ApiFailure) as failure:
                await cluster.request("PATCH", "/api/v1/it", body={}, **options)
            return failure.value

    return asyncio.run(run())


def test_paths() -> None:
    assert PODS.path() == "/api/v1/pods"
    assert PODS.path("n", "p", "status") == "/api/v1/namespaces/n/pods/p/status"
    assert LEASES.path("n") == "/apis/coordination.k8s.io/v1/namespaces/n/leases"
    assert NAMESPACES.path(None, "n") == "/api/v1/namespaces/n"
    assert PODS.path("../../x", "a/b?c") == "/api/v1/namespaces/..%2F..%2Fx/pods/a%2Fb%3Fc"
    with pytest.raises(ValueError, match="which namespace"):
        PODS.path(None, "p")


def test_a_failure_in_the_api_servers_words(tmp_path: Path) -> None:
    failure = failure_of(tmp_path, said(status(429, "TooManyRequests", "slow down"), 429, {"Retry-After": "3"}))
    assert (failure.status, failure.reason, failure.message, failure.retry_after_s) == (
        429, "TooManyRequests", "slow down", 3.0,
    )  # fmt: skip
    assert str(failure) == "PATCH /api/v1/it: 429 TooManyRequests: slow down"


def test_something_else_answers(tmp_path: Path) -> None:
    failure = failure_of(tmp_path, said(b"<html>no</html>", 503))
    assert (failure.status, failure.reason) == (503, "ServiceUnavailable") and "<html>" in failure.message


CALLS: dict[str, Callable[[Cluster], Awaitable[Any]]] = {
    "get": lambda cluster: cluster.get(PODS, "n", "p"),
    "list": lambda cluster: cluster.list(PODS),
    "create": lambda cluster: cluster.create(EVENTS, "n", {}),
    "replace": lambda cluster: cluster.replace(LEASES, "n", "l", {}),
    "patch": lambda cluster: cluster.patch_merge(PODS, "n", "p", {}),
    "served": lambda cluster: cluster.served(SIDECARS),
}


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
@pytest.mark.parametrize("page", [b"<html>hello</html>", b"", b'{"kind": '])
def test_something_else_says_yes(tmp_path: Path, call: Callable[[Cluster], Awaitable[Any]], page: bytes) -> None:
    """Whether a write was done is not known, and nobody has to know of JSON to find that out."""

    async def run() -> ApiFailure:
        async with served(said(page)) as address, connect(kubeconfig(tmp_path, address)) as cluster:
            with pytest.raises(ApiFailure) as failure:
                await call(cluster)
            return failure.value

    failure = asyncio.run(run())
    assert failure.is_lost and failure.reason == "Unreadable"


def test_nobody_is_followed_elsewhere(tmp_path: Path) -> None:
    """Whoever redirects would get the token."""
    failure = failure_of(tmp_path, said(b"", 307, {"Location": "https://elsewhere.invalid/"}))
    assert failure.status == 307


def test_no_answer_in_time(tmp_path: Path) -> None:
    async def silent(_: web.Request) -> web.StreamResponse:
        await asyncio.Event().wait()
        return web.Response()

    failure = failure_of(tmp_path, silent, timeout_s=0.2)
    assert failure.is_lost and failure.reason == "Timeout" and "0.2 s" in failure.message


def test_the_connection_breaks_off(tmp_path: Path) -> None:
    async def cut(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Length": "100"})
        await response.prepare(request)
        await response.write(b"{")
        assert request.transport is not None
        request.transport.abort()
        return response

    failure = failure_of(tmp_path, cut)
    assert failure.is_lost and failure.reason == "ConnectionLost"


def test_nobody_listens(tmp_path: Path) -> None:
    with pytest.raises(ApiFailure) as failure:
        asyncio.run(ask(kubeconfig(tmp_path, "http://127.0.0.1:1"))())
    assert failure.value.is_lost


def test_an_api_server_that_vanishes_is_noticed_by_the_kernel(tmp_path: Path) -> None:
    """A node that dies sends nothing; a watch would go on in silence."""

    async def run() -> None:
        opened = ("GET", "/api/v1/pods", None, None, {}, aiohttp.ClientTimeout())
        async with (
            served(watched(then="hold")) as address,
            connect(kubeconfig(tmp_path, address)) as cluster,
            cluster.opened(*opened) as answer,
        ):
            assert answer.connection is not None and answer.connection.transport is not None
            used = answer.connection.transport.get_extra_info("socket")
            assert used.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
            idle_s = used.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE)
            asks_s = used.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL)
            assert idle_s + 3 * asks_s == credentials.VANISHED_S

    asyncio.run(run())


def test_no_cluster_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KUBECONFIG", raising=False)
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(ConnectError, match="no cluster is named"):
        asyncio.run(ask(None)())  # type: ignore[arg-type]


@pytest.mark.parametrize("content", ["", "garbage", "[]", "{}", "a: [", '{"current-context": "x", "contexts": []}'])
def test_a_kubeconfig_that_is_none(tmp_path: Path, content: str) -> None:
    path = tmp_path / "kubeconfig"
    path.write_text(content)
    with pytest.raises(ConnectError):
        asyncio.run(ask(path)())


def test_a_token_that_was_changed_in_its_file(tmp_path: Path) -> None:
    """Read again when it is refused, and only then."""
    token = tmp_path / "token"
    token.write_text("one\n")
    server = Guarded("one")

    async def run() -> None:
        async with served(server.handle) as address, connected(tmp_path, address, {"tokenFile": str(token)}) as cluster:
            await cluster.list(PODS)
            token.write_text("two")
            server.token = "two"
            await cluster.list(PODS)
            assert server.asked == ["Bearer one", "Bearer one", "Bearer two"]
            server.token = "three"
            with pytest.raises(ApiFailure) as failure:
                await cluster.list(PODS)
            assert failure.value.is_refused

    asyncio.run(run())


def test_many_are_refused_at_once(tmp_path: Path) -> None:
    """The token is read again once, and all of them ask again."""
    token = tmp_path / "token"
    token.write_text("one")
    server = Guarded("one")

    async def run() -> None:
        async with served(server.handle) as address, connected(tmp_path, address, {"tokenFile": str(token)}) as cluster:
            token.write_text("two")
            server.token = "two"
            await asyncio.gather(*(cluster.list(PODS) for _ in range(5)))

    asyncio.run(run())


def test_a_plugin_that_gives_tokens(tmp_path: Path) -> None:
    """As cloud providers have them; asked again when its token is refused."""
    token = tmp_path / "token"
    token.write_text("one")
    credential = {"apiVersion": "client.authentication.k8s.io/v1", "kind": "ExecCredential"}
    script = f"""
import json
print(json.dumps({credential!r} | {{"status": {{"token": open({str(token)!r}).read()}}}}))
"""
    plugin = {"apiVersion": credential["apiVersion"], "command": sys.executable, "args": ["-c", script]}
    server = Guarded("one")

    async def run() -> None:
        async with served(server.handle) as address, connected(tmp_path, address, {"exec": plugin}) as cluster:
            await cluster.list(PODS)
            token.write_text("two")
            server.token = "two"
            await cluster.list(PODS)
            assert server.asked[-1] == "Bearer two"

    asyncio.run(run())


def test_in_a_pod(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the service account's files; the kubelet changes the token, and it is read again."""

    async def run() -> None:
        async with EmbeddedApi(directory=tmp_path) as server:
            token, ca = tmp_path / "token", server.ca_file
            host, port = server.url.removeprefix("https://").split(":")
            token.write_text(server.token("system:serviceaccount:n:a", ("system:masters",)) + "\n")
            monkeypatch.delenv("KUBECONFIG", raising=False)
            monkeypatch.setenv("KUBERNETES_SERVICE_HOST", host)
            monkeypatch.setenv("KUBERNETES_SERVICE_PORT", port)
            monkeypatch.setattr(incluster_config, "SERVICE_TOKEN_FILENAME", str(token))
            monkeypatch.setattr(incluster_config, "SERVICE_CERT_FILENAME", str(ca))
            async with connect() as cluster:
                assert await cluster.list(PODS) == []
                server.tokens.revoke("system:serviceaccount:n:a")
                token.write_text(server.token("system:serviceaccount:n:a", ("system:masters",)))
                assert await cluster.list(PODS) == []

    asyncio.run(run())


def test_an_api_server_with_another_certificate(tmp_path: Path) -> None:
    """Nothing is said to it, least of all the token."""

    async def run() -> None:
        async with EmbeddedApi() as server, EmbeddedApi() as other:
            content = server.kubeconfig().read_text().replace(str(server.ca_file), str(other.ca_file))
            path = tmp_path / "kubeconfig"
            path.write_text(content)
            assert str(other.ca_file) in content
            with pytest.raises(ApiFailure) as failure:
                await ask(path)()
            assert failure.value.is_lost and "CERTIFICATE_VERIFY_FAILED" in failure.value.message

    asyncio.run(run())


def test_what_is_served(api: Api) -> None:
    async def run() -> None:
        async with api() as place:
            assert await place.cluster.served(LEASES) == LEASES
            assert await place.cluster.served(PODS) == PODS
            old = type(LEASES)("coordination.k8s.io", "v9", "leases", "Lease")
            assert await place.cluster.served(old) == LEASES, "the version that there is"
            if place.embedded is not None:
                assert await place.cluster.served(SIDECARS) is None

    asyncio.run(run())


def test_made_found_changed_and_deleted(api: Api) -> None:
    async def run() -> None:
        async with api() as place:
            cluster, namespace = place.cluster, place.namespace
            made = await cluster.create(LEASES, namespace, {"metadata": {"name": "l"}})
            assert (await cluster.get(LEASES, namespace, "l"))["metadata"]["uid"] == made["metadata"]["uid"]
            with pytest.raises(ApiFailure) as taken:
                await cluster.create(LEASES, namespace, {"metadata": {"name": "l"}})
            assert taken.value.is_taken and not taken.value.is_conflict
            patched = await cluster.patch_merge(LEASES, namespace, "l", {"metadata": {"labels": {"a": "b"}}})
            test = [{"op": "test", "path": "/metadata/labels/a", "value": "c"}]
            with pytest.raises(ApiFailure) as failed:
                await cluster.patch_json(LEASES, namespace, "l", test)
            assert failed.value.status == 422
            with pytest.raises(ApiFailure) as stale:
                await cluster.replace(LEASES, namespace, "l", {"metadata": made["metadata"]})
            assert stale.value.is_conflict
            await cluster.replace(LEASES, namespace, "l", {"metadata": patched["metadata"]})
            with pytest.raises(ApiFailure) as other:
                await cluster.delete(LEASES, namespace, "l", uid="another")
            assert other.value.is_conflict
            await cluster.delete(LEASES, namespace, "l", uid=made["metadata"]["uid"])
            with pytest.raises(ApiFailure) as gone:
                await cluster.get(LEASES, namespace, "l")
            assert gone.value.is_missing
            assert await cluster.list(EVENTS, namespace) == []

    asyncio.run(run())
