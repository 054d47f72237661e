"""The API servers under test, one of each kind for the session, and a namespace of its own for each test."""

from __future__ import annotations

import asyncio
import inspect
import secrets
from collections.abc import Iterator

import aiohttp
import pytest

from hotswitch.sandbox.kubeapi.server import EmbeddedApi
from tests.kubeapi.client import Access, Client, access
from tests.kubeapi.realapi import real


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """A test that is a coroutine runs in the loop of its `runner`."""
    if not inspect.iscoroutinefunction(pyfuncitem.obj):
        return None
    wanted = {name: pyfuncitem.funcargs[name] for name in inspect.signature(pyfuncitem.obj).parameters}
    pyfuncitem.funcargs["runner"].run(pyfuncitem.obj(**wanted))
    return True


@pytest.fixture(scope="session")
def runner() -> Iterator[asyncio.Runner]:
    with asyncio.Runner() as runner:
        yield runner


@pytest.fixture(scope="session")
def session(runner: asyncio.Runner) -> Iterator[aiohttp.ClientSession]:
    async def start() -> aiohttp.ClientSession:
        return aiohttp.ClientSession()

    session = runner.run(start())
    yield session
    runner.run(session.close())


@pytest.fixture(scope="session")
def shared(runner: asyncio.Runner) -> Iterator[EmbeddedApi]:
    """An embedded API for tests that leave it as it was but for their own namespace."""
    api = EmbeddedApi()
    runner.run(api.__aenter__())
    yield api
    runner.run(api.__aexit__(None, None, None))


@pytest.fixture(scope="session")
def real_access(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Access]:
    with real(tmp_path_factory.mktemp("apiserver")) as found:
        yield found


@pytest.fixture
def embedded(runner: asyncio.Runner) -> Iterator[EmbeddedApi]:
    """An embedded API for one test."""
    api = EmbeddedApi()
    runner.run(api.__aenter__())
    yield api
    runner.run(api.__aexit__(None, None, None))


def admin_of(api: EmbeddedApi, session: aiohttp.ClientSession, namespace: str = "default") -> Client:
    return Client(access(api.kubeconfig()), session, namespace, api)


@pytest.fixture
def own(embedded: EmbeddedApi, session: aiohttp.ClientSession) -> Client:
    """The admin of an embedded API for one test."""
    return admin_of(embedded, session)


@pytest.fixture
def api(request: pytest.FixtureRequest, runner: asyncio.Runner, session: aiohttp.ClientSession) -> Iterator[Client]:
    """The admin of the API server that the test's parameter names, in a fresh namespace."""
    namespace = f"conformance-{secrets.token_hex(4)}"
    if request.param == "embedded":
        client = admin_of(request.getfixturevalue("shared"), session, namespace)
    else:
        client = Client(request.getfixturevalue("real_access"), session, namespace)
    made = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}}
    account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default"}}
    runner.run(client.post("/api/v1/namespaces", made))
    runner.run(client.post("/api/v1/namespaces/{ns}/serviceaccounts", account, status=(201, 409)))
    yield client
    runner.run(client.delete("/api/v1/namespaces/{ns}", status=(200, 202)))
