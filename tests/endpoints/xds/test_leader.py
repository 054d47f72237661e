"""From objects of the API to an xDS client: elections, readiness, leaders that change, and the order explained."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from typing import Any

import grpc
import grpc.aio
import pytest
from aiohttp import web
from aiohttp.test_utils import make_mocked_request
from typer.testing import CliRunner

from hotswitch.cli.main import app as cli
from hotswitch.cluster.kinds import PODS
from hotswitch.controller.explaining import RouteServer
from hotswitch.endpoints.xds.kinds import Kind
from hotswitch.endpoints.xds.serving import XdsServing, XdsSettings
from hotswitch.report.controller_metrics import ControllerMetrics
from tests.endpoints.town import SHOP, Leader, Town, leader, story, town, until
from tests.endpoints.xds.test_server import ADS, addresses, ask, nonce_of

pytestmark = pytest.mark.k8s

NAME = "db.shop:5432"


class Subscriber:
    """A client; `has`: addresses by the newest answer, None before the first."""

    def __init__(self) -> None:
        self.has: list[str] | None = None
        self.history: list[list[str]] = []

    async def run(self, port: int) -> None:
        """Until the server goes away."""
        own = (("grpc.use_local_subchannel_pool", 1),)
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}", own) as channel:
            stream = channel.stream_stream(ADS)()
            with contextlib.suppress(grpc.aio.AioRpcError, asyncio.InvalidStateError):
                await stream.write(ask(NAME))
                while isinstance(answer := await stream.read(), bytes):
                    self.has = sorted(addresses(answer))
                    self.history.append(self.has)
                    await stream.write(ask(NAME, nonce=nonce_of(answer)))


class Served:
    def __init__(self, leading: Leader, xds: XdsServing) -> None:
        self.leading, self.xds = leading, xds

    @property
    def port(self) -> int:
        assert self.xds.server is not None
        return self.xds.server.port


@contextlib.asynccontextmanager
async def served(made: Town, term: int = 1) -> AsyncIterator[Served]:
    """As the controller puts it together (controller/serving.py)."""
    xds = XdsServing(XdsSettings(address="127.0.0.1:0"))
    async with leader(made, term, more=(xds,)) as leading:
        xds.lead(leading.endpoints.registry.services.values())
        try:
            await until(lambda: xds.server is not None and xds.server.port)
            yield Served(leading, xds)
        finally:
            await xds.stop()


async def pods(made: Town, *names: str) -> dict[str, str]:
    """Their addresses."""
    for name in names:
        await made.pod(name)
    found = {name: await made.cluster.get(PODS, SHOP, name) for name in names}
    return {name: content["status"]["podIP"] for name, content in found.items()}


@story
async def test_active_one_is_deleted_and_the_client_follows() -> None:
    """S0.6, S0.7: never two at once, and nobody before the old one is fenced."""
    async with town() as made:
        await made.service()
        at = await pods(made, "db-0", "db-1")
        async with served(made) as server:
            client = Subscriber()
            task = asyncio.create_task(client.run(server.port))
            await until(lambda: client.has in ([at["db-0"]], [at["db-1"]]))
            active = next(name for name, address in at.items() if client.has == [address])
            other = ({*at} - {active}).pop()
            await made.delete(active)
            await until(lambda: client.has == [at[other]])
            assert all(len(each) <= 1 for each in client.history)  # I7
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


@story
async def test_pod_that_is_not_ready_is_not_told_of() -> None:
    async with town() as made:
        await made.service(mode="nearest")
        at = await pods(made, "db-0", "db-1")
        async with served(made) as server:
            client = Subscriber()
            task = asyncio.create_task(client.run(server.port))
            await until(lambda: client.has == sorted(at.values()))
            await made.status("db-0", False)
            await until(lambda: client.has == [at["db-1"]])
            await made.status("db-0", True)
            await until(lambda: client.has == sorted(at.values()))
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


@story
async def test_another_controller_leads_and_the_client_is_told_the_same() -> None:
    async with town() as made:
        await made.service()
        await pods(made, "db-0", "db-1")
        client = Subscriber()
        async with served(made) as server:
            task = asyncio.create_task(client.run(server.port))
            await until(lambda: client.has and len(client.has) == 1)
            before = client.has
        await task  # cut off: the first one does not lead any more
        async with served(made, term=2) as server:
            task = asyncio.create_task(client.run(server.port))
            await until(lambda: len(client.history) > 1)
            assert all(each == before for each in client.history)  # I1, I7
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


@contextlib.asynccontextmanager
async def routes(made: Town, server: Served) -> AsyncIterator[str]:
    """The URL."""
    application = web.Application()
    application.add_routes(
        RouteServer(made.cluster, lambda: server.xds.publisher if server.leading.leads else None).routes
    )
    runner = web.AppRunner(application)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


async def explain(url: str, *words: str) -> Any:
    return await asyncio.to_thread(CliRunner().invoke, cli, ["route", "explain", "--url", url, *words])


@story
async def test_order_is_explained() -> None:
    """S2.5, S2.8"""
    async with town() as made:
        await made.service(mode="nearest", routes="batch header x-batch=1 only:other-cluster")
        at = await pods(made, "db-0", "db-1")
        await made.pod("far", node="node-b")
        async with served(made) as server, routes(made, server) as url:
            await until(lambda: any(told.is_told for told in server.xds.publisher.services.values()))
            found = await explain(url, "--from", f"{SHOP}/db-0", "db")
            assert found.exit_code == 0, found.output
            assert [line.strip() for line in found.output.splitlines()] == [
                "shop/db-0 (node node-a, zone zone-a) asks shop/db, in the order "
                "own-pod,same-host,same-zone,same-cluster,other-cluster,stale-cluster",
                "own-pod        100 %  1 of 1 ready, gets 100 %",
                f"db-0 {at['db-0']}",
                "same-host        0 %  1 of 1 ready, asked when those before it fail",
                f"db-1 {at['db-1']}",
                "same-cluster     0 %  1 of 1 ready, asked when those before it fail",
                "far 10.1.0.3",
            ]
            found = await explain(url, "--from", f"{SHOP}/db-0", "shop/db", "--rule", "batch", "--json")
            assert json.loads(found.output)["levels"] == []


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("--from", "db-0", "db"), "'db-0': is not NAMESPACE/NAME"),
        (("--from", "shop/nobody", "db"), "shop/nobody"),
        (("--from", "shop/db-0", "other"), "shop/other: no Service of ours"),
        (("--from", "shop/db-0", "db", "--rule", "batch"), "no rule 'batch'; it has none"),
    ],
)
def test_what_cannot_be_explained_is_named(words: tuple[str, ...], sentence: str) -> None:
    async def tale() -> None:
        async with town() as made:
            await made.service(mode="nearest")
            await pods(made, "db-0")
            async with served(made) as server, routes(made, server) as url:
                await until(lambda: any(told.is_told for told in server.xds.publisher.services.values()))
                found = await explain(url, *words)
                assert found.exit_code != 0 and sentence in found.output + found.stderr

    asyncio.run(tale())


@story
async def test_order_is_explained_on_loopback_alone() -> None:
    """It names what is in other namespaces: whoever reaches the port from elsewhere is told nothing."""
    async with town() as made:
        await made.service(mode="nearest")
        await pods(made, "db-0")
        async with served(made) as server:
            asked = RouteServer(made.cluster, lambda: server.xds.publisher)
            (route,) = asked.routes
            match = {"namespace": SHOP, "service": "db"}
            await until(lambda: any(told.is_told for told in server.xds.publisher.services.values()))
            for remote, status in (("127.0.0.1", 200), ("::ffff:127.0.0.1", 200), ("10.1.0.9", 403), ("fe80::1", 403)):
                request = make_mocked_request("GET", f"/v1/route/{SHOP}/db?from={SHOP}/db-0", match_info=match)
                answer = await route.handler(request.clone(remote=remote))
                assert answer.status == status, remote


@story
async def test_controller_that_does_not_lead_explains_nothing() -> None:
    async with town() as made:
        await pods(made, "db-0")
        async with served(made) as server, routes(made, server) as url:
            server.leading.leads = False
            found = await explain(url, "--from", f"{SHOP}/db-0", "db")
            assert found.exit_code != 0 and "does not lead" in found.output + found.stderr


def test_figures_become_metrics() -> None:
    metrics = ControllerMetrics()
    xds = XdsServing(XdsSettings())
    xds.figures.sent(Kind.ENDPOINTS, 100)
    xds.figures.nacks[Kind.CLUSTER] += 1
    for _ in range(2):  # each scrape asks; nothing is counted twice
        metrics.xds(3, xds.figures.pushes, xds.figures.bytes_sent, xds.figures.nacks, {"full": 2})
    value = metrics.registry.get_sample_value
    assert value("hotswitch_xds_streams") == 3
    assert value("hotswitch_xds_sent_bytes_total", {"kind": "ClusterLoadAssignment"}) == 100
    assert value("hotswitch_xds_nacks_total", {"kind": "Cluster"}) == 1
    assert value("hotswitch_xds_ended_total", {"reason": "full"}) == 2
