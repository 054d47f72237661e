"""Endpoints inside the controller, with the shipped rights of tier 3: written, said, counted, alarmed (S0, I6, I8)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from hotswitch.api import service as said
from hotswitch.backends import Published, ServiceId, ServiceMode, ServiceRecord
from hotswitch.cluster.client import connect
from hotswitch.cluster.kinds import EVENTS, NAMESPACES, NODES, SERVICES
from hotswitch.controller.alarms import Alarms
from hotswitch.controller.app import Controller
from hotswitch.controller.service_words import Endings
from hotswitch.controller.settings import ControllerSettings
from hotswitch.decide.endpoints.place import Caller
from hotswitch.endpoints.xds.kinds import Kind
from hotswitch.report.notice import Notice
from hotswitch.sandbox.cluster.installed import ACCOUNT, NAMESPACE, ROOT_NAMESPACE, manifests
from hotswitch.sandbox.kubeapi.identity import service_account
from hotswitch.sandbox.kubeapi.server import EmbeddedApi
from tests.endpoints.town import SHOP, Town, story, until
from tests.endpoints.xds.test_leader import Subscriber, explain

pytestmark = pytest.mark.k8s
TIER = "tier-3-endpoints"


@asynccontextmanager
async def installed(**service: str) -> AsyncIterator[tuple[Town, Controller]]:
    """A controller that leads, with the rights of its account and no others. `service`: annotations of one that is
    there before it."""
    async with EmbeddedApi() as api, connect(api.kubeconfig("admin", ("system:masters",))) as cluster:
        for name in (SHOP, ROOT_NAMESPACE):
            await cluster.create(NAMESPACES, None, {"metadata": {"name": name}})
        api.apply(manifests(TIER, ()))
        await cluster.create(NODES, None, {"metadata": {"name": "node-a"}})
        place = Town(api, cluster)
        if service:
            await place.service(**service)
        settings = ControllerSettings(
            kubeconfig=api.kubeconfig(service_account(NAMESPACE, ACCOUNT)),
            endpoints=True, address="127.0.0.1", port=0, roles_port=0, xds_port=0, lease_s=2, renew_s=0.5, retry_s=0.2,
        )  # fmt: skip
        async with Controller(settings) as controller:
            task = asyncio.create_task(controller.run())
            try:
                yield place, controller
            finally:
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)


async def codes(place: Town) -> set[str]:
    return {str(each["reason"]) for each in await place.cluster.list(EVENTS, SHOP)}


@story
async def test_a_failover_with_the_shipped_rights() -> None:
    async with installed() as (place, controller):
        await place.service(activity_lease="2s")
        for name in ("db-0", "db-1"):
            await place.pod(name)
        await place.until_ready("db-0")
        await place.status("db-0", False)
        await place.until_ready("db-1")

        async def told() -> bool:
            return {"HSE002", "HSE003"} <= await codes(place)

        await until(told)
        controller.refresh_metrics()
        value = controller.metrics.registry.get_sample_value
        assert value("hotswitch_endpoints_services", {"mode": "active-standby"}) == 1.0
        assert value("hotswitch_endpoints_backends", {"state": "available"}) == 1.0
        assert value("hotswitch_endpoints_switch_seconds_count") == 1.0
        assert value("hotswitch_endpoints_elections_total", {"code": "HSE002"}) == 2.0
        assert place.api.denied == []


@story
async def test_a_client_over_xds_follows_the_election_and_the_route_is_explained() -> None:  # S0.5, S0.7, S2.5
    async with installed() as (place, controller):
        await place.service(activity_lease="2s", order="same-host")
        for name in ("db-0", "db-1"):
            await place.pod(name)
        await place.until_ready("db-0")
        assert controller.serving is not None
        xds = controller.serving.xds
        await until(lambda: xds.server is not None and xds.server.port)
        assert xds.server is not None
        client = Subscriber()
        task = asyncio.create_task(client.run(xds.server.port))
        await until(lambda: client.has == ["10.1.0.1"])
        url = f"http://127.0.0.1:{controller.serving.roles_port}"
        found = await explain(url, "--from", f"{SHOP}/db-1", "db")
        assert found.exit_code == 0 and "db-0 10.1.0.1" in found.output, found.output
        await place.status("db-0", False)
        await until(lambda: client.has == ["10.1.0.2"])
        assert all(len(each) <= 1 for each in client.history)  # I7
        controller.refresh_metrics()
        assert controller.metrics.registry.get_sample_value("hotswitch_xds_streams") == 1.0
        assert place.api.denied == []
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@story
async def test_an_annotation_that_cannot_be_read_is_an_event_and_a_metric() -> None:
    async with installed() as (place, controller):
        await place.service(mode="all")
        await place.pod("db-0")
        await place.until_ready("db-0")
        await place.annotate(check="exec:rm")

        async def told() -> bool:
            events = await place.cluster.list(EVENTS, SHOP)
            found = [each for each in events if each["reason"] == "HSC010"]
            return any(said.CHECK in each["message"] and "exec:rm" in each["message"] for each in found)

        await until(told)
        controller.refresh_metrics()
        assert controller.metrics.registry.get_sample_value("hotswitch_invalid_objects", {"kind": "Service"}) == 1.0
        assert await place.ready() == ["db-0"]  # what was valid before stays
        await place.annotate(check="tcp:5432")

        async def mended() -> bool:
            controller.refresh_metrics()
            return (
                controller.metrics.registry.get_sample_value("hotswitch_invalid_objects", {"kind": "Service"}) is None
            )

        await until(mended)


@story
async def test_a_new_leader_tells_of_the_cluster_of_a_service_whose_words_cannot_be_read() -> None:  # I1
    """Its predecessor could read them once, and clients have it."""
    async with installed(mode="all", check="exec:rm") as (place, controller):
        assert controller.serving is not None
        serving, nobody = controller.serving, Caller()
        await until(lambda: serving.xds.publisher.names(Kind.CLUSTER, nobody) == ["db.shop:5432"])
        publisher = serving.xds.publisher
        assert publisher.resource(Kind.CLUSTER, "db.shop:5432", nobody) is not None
        assert publisher.pending(Kind.ENDPOINTS, "db.shop:5432"), "of its endpoints nothing is said"
        await place.cluster.delete(SERVICES, SHOP, "db")
        await until(lambda: serving.xds.publisher.names(Kind.CLUSTER, nobody) == [])


@story
async def test_an_alarm_is_raised_when_it_lasts_and_ended_once() -> None:  # S0.7
    told: list[Notice] = []
    alarms = Alarms(told.append, after_s=0.05)
    alarms.set("endpoints/shop/db", "HSE005", "none is available", "shop")
    alarms.clear("endpoints/shop/db")
    await asyncio.sleep(0.1)
    assert told == []  # a failover passes through this each time
    alarms.set("endpoints/shop/db", "HSE003", "withdrawn", "shop")
    alarms.set("endpoints/shop/db", "HSE005", "none is available", "shop")
    await until(lambda: told)
    alarms.set("endpoints/shop/db", "HSE005", "none is available", "shop")
    assert [(each.code, each.resolved) for each in told] == [("HSE005", False)]
    assert alarms.goes_on("endpoints/shop/db")
    alarms.clear("endpoints/shop/db")
    alarms.clear("endpoints/shop/db")
    assert [each.resolved for each in told] == [False, True] and not alarms.goes_on("endpoints/shop/db")


@story
async def test_with_a_service_that_is_gone_its_alarms_end() -> None:  # S0.7
    told: list[Notice] = []
    alarms = Alarms(told.append, after_s=0.0)
    endings = Endings(alarms)
    for key in ("endpoints/shop/db", "endpoints/shop/db:foreign", "endpoints/shop/web"):
        alarms.set(key, "HSE005", "none is available", "shop")
    await until(lambda: len(told) == 3)
    endings.withdraw(ServiceId("shop", "db"))
    assert [each.key for each in told if each.resolved] == ["endpoints/shop/db", "endpoints/shop/db:foreign"]
    endings.publish(Published(ServiceRecord(id=ServiceId("shop", "web"), uid="u", mode=ServiceMode.ALL)))
    assert told[-1].key == "endpoints/shop/web" and told[-1].resolved


@story
async def test_a_service_is_deleted_after_its_pods() -> None:  # S0.7
    """People delete all of an app at once: the pods are gone first, nobody is available, and then nobody should be."""
    async with installed() as (place, controller):
        await place.service()
        await place.pod("db-0")
        await place.until_ready("db-0")
        assert controller.serving is not None
        alarms = controller.serving.alarms
        await place.delete("db-0")
        await until(lambda: alarms.goes_on("endpoints/shop/db"))
        await place.cluster.delete(SERVICES, SHOP, "db")
        await until(lambda: not alarms.goes_on("endpoints/shop/db"))
