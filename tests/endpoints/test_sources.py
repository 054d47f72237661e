"""The register filled from clusters: who is in it, where they are, and what becomes of a cluster that falls silent."""

from __future__ import annotations

import asyncio
import gc
import tracemalloc
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest

from hotswitch.api.status import PodStatus, encode
from hotswitch.backends import ActivityLease, Role, ServiceId, ServiceOptions, Staleness
from hotswitch.cluster.client import connect
from hotswitch.cluster.kinds import NAMESPACES, NODES, PODS
from hotswitch.endpoints.aging import staleness
from hotswitch.endpoints.assemble import Place
from hotswitch.endpoints.registry import Registry
from hotswitch.endpoints.source import Source
from hotswitch.model import Direction, Level
from hotswitch.sandbox.kubeapi.server import EmbeddedApi
from tests.endpoints.make import SERVICE, backend, service
from tests.endpoints.town import DB, SHOP, Town, leader, story, town, until

pytestmark = pytest.mark.k8s


@story
async def test_the_registration_record() -> None:  # S2.2, S2.3
    async with town() as place:
        await place.service(mode="all")
        bypassed = encode(PodStatus(uid="", levels={Direction.INBOUND: Level.DIRECT}))
        uid = await place.pod("db-0", annotations={"endpoints.hotswitch.io/priority": "3"})
        own = bypassed.replace('"uid":""', f'"uid":"{uid}"')
        await place.cluster.patch_merge(PODS, SHOP, "db-0", {"metadata": {"annotations": {"hotswitch.io/status": own}}})
        async with leader(place) as made:
            await until(lambda: made.endpoints.registry.backends(DB))
            (found,) = made.endpoints.registry.backends(DB)
            assert (found.pod.name, found.pod.uid, found.priority) == ("db-0", uid, 3)
            assert found.host_addresses == ("192.168.0.1",)
            assert (found.locality.region, found.locality.zone, found.locality.node) == ("north", "zone-a", "node-a")
            assert found.spiffe == "spiffe://cluster.local/ns/shop/sa/default"
            assert found.ports[0].port == 5432 and found.inbound is Level.DIRECT
            assert found.role is Role.NONE


@story
async def test_pods_that_are_not_selected_are_not_there() -> None:
    async with town() as place:
        await place.service(mode="all")
        await place.pod("db-0")
        await place.pod("web-0", labels={"app": "web"})
        async with leader(place) as made:
            await place.until_ready("db-0")
            assert len(made.endpoints.registry) == 1


@story
async def test_a_pods_word_that_cannot_be_read_leaves_what_was_valid() -> None:
    async with town() as place:
        await place.service(mode="all")
        await place.pod("db-0", annotations={"endpoints.hotswitch.io/priority": "3"})
        async with leader(place) as made:
            await place.until_ready("db-0")
            patch = {"metadata": {"annotations": {"endpoints.hotswitch.io/priority": "high"}}}
            await place.cluster.patch_merge(PODS, SHOP, "db-0", patch)
            await until(lambda: place.problems)
            assert place.problems[0].value == "high"
            assert made.endpoints.registry.backends(DB)[0].priority == 3


@story
async def test_a_service_whose_words_cannot_be_read_is_not_taken_for_gone() -> None:  # I1
    async with town() as place:
        await place.service(mode="all", check="exec:rm")
        await place.service("web", mode="all")
        async with leader(place) as made:
            await until(lambda: place.problems)
            home = made.endpoints.home
            found = {name: home.is_unread(ServiceId(SHOP, name)) for name in ("db", "web", "none")}
            assert found == {"db": True, "web": False, "none": False}


@asynccontextmanager
async def east() -> AsyncIterator[Town]:
    """A further cluster with pods of the same Service."""
    async with EmbeddedApi() as api, connect(api.kubeconfig("admin", ("system:masters",))) as cluster:
        await cluster.create(NAMESPACES, None, {"metadata": {"name": SHOP}})
        await cluster.create(NODES, None, {"metadata": {"name": "node-e"}})
        yield Town(api, cluster)


@story
async def test_a_cluster_falls_silent_grows_stale_is_lost_and_comes_back() -> None:  # S2.4, S2.7
    async with town() as home, east() as other:
        await home.service(mode="all", stale_after="5s", lost_after="6s")
        await home.pod("db-0")
        await other.pod("db-9", node="node-e")
        registry = Registry()
        source = Source(other.cluster, registry, Place("east"), is_home=False)
        own = Source(home.cluster, registry)
        tasks = [asyncio.create_task(own.run()), asyncio.create_task(source.run())]

        def states() -> dict[str, Staleness]:
            return {each.pod.name: each.staleness for each in registry.backends(DB)}

        try:
            await until(lambda: states() == {"db-0": Staleness.FRESH, "db-9": Staleness.FRESH})
            await asyncio.sleep(7.0)  # longer than until lost: where nothing happens, nobody is stale for that
            assert states()["db-9"] is Staleness.FRESH
            await other.api.stop()
            await until(lambda: states().get("db-9") is Staleness.STALE)
            await until(lambda: states().get("db-9") is Staleness.LOST)
            assert states()["db-0"] is Staleness.FRESH  # nothing is forgotten, nothing of ours is touched
            await other.api.start()
            await until(lambda: states().get("db-9") is Staleness.FRESH)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


@story
async def test_a_cluster_that_is_followed_no_more_is_asked_nothing_more() -> None:  # S2.4
    async with town() as home, east() as other:
        await home.service(mode="all")
        await home.pod("db-0")
        await other.pod("db-9", node="node-e")
        registry = Registry()
        own = asyncio.create_task(Source(home.cluster, registry).run())
        task = asyncio.create_task(Source(other.cluster, registry, Place("east"), is_home=False).run())
        await until(lambda: len(registry.backends(DB)) == 2)
        before = _watches()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert [each.pod.name for each in registry.backends(DB)] == ["db-0"]
        assert _watches() < before, "a watch was begun anew by the end of another"
        own.cancel()
        await asyncio.gather(own, return_exceptions=True)


def _watches() -> set[asyncio.Task[Any]]:
    """The server's own tasks run in the same loop."""
    return {each for each in asyncio.all_tasks() if "Watcher.run" in repr(each.get_coro())}


@story
async def test_a_new_leader_waits_for_a_cluster_that_was_not_read_yet() -> None:  # S2.4, I1
    """Its pods are in the slices of the leader before: it is lost only after as long as any other."""
    async with town() as home, east() as other:
        await home.service(mode="all", stale_after="1s", lost_after="4s")
        await home.pod("db-0")
        await other.pod("db-9", node="node-e", address="10.9.0.9")

        def addresses(slices: list[dict[str, Any]]) -> list[str]:
            return sorted(each["addresses"][0] for content in slices for each in content.get("endpoints") or ())

        async def told() -> list[str]:
            return addresses(await home.slices())

        def source(registry: Registry) -> Source:
            return Source(other.cluster, registry, Place("east"), is_home=False)

        async with leader(home, further=(source,)):
            await until(lambda: _is(told, ["10.1.0.1", "10.9.0.9"]))
        await other.api.stop()
        seen: list[list[str]] = []
        async with leader(home, term=2, further=(source,)) as made:
            began_s = asyncio.get_running_loop().time()
            while (now := await told()) != ["10.1.0.1"]:
                seen.append(now)
                await asyncio.sleep(0.02)
            assert made.endpoints.registry.backends(DB)
        assert asyncio.get_running_loop().time() - began_s > 3.5, "taken out before it was lost"
        assert all(each == ["10.1.0.1", "10.9.0.9"] for each in seen)


async def _is(told: Callable[[], Awaitable[list[str]]], wanted: list[str]) -> bool:
    return await told() == wanted


def test_how_long_until_stale_and_lost() -> None:
    record = service(options=ServiceOptions(stale_after_s=5.0, lost_after_s=30.0, lease=ActivityLease()))
    found = [staleness(age_s, record) for age_s in (0.0, 4.9, 5.0, 29.9, 30.0)]
    assert found == [Staleness.FRESH, Staleness.FRESH, Staleness.STALE, Staleness.STALE, Staleness.LOST]


def test_ten_thousand_backends_take_little_memory() -> None:
    """The records alone, with every text of their own: less than 2 KB each."""
    registry = Registry()
    registry.put_service(service())
    gc.collect()
    tracemalloc.start()
    try:
        for number in range(10_000):
            registry.put(replace(backend(f"db-{number}", number), spiffe="spiffe://cluster.local/ns/shop/sa/db"))
        used_bytes, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(registry.backends(SERVICE)) == 10_000
    assert used_bytes / 10_000 < 2048, f"{used_bytes / 10_000:.0f} bytes each"
