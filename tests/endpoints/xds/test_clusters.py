"""Two clusters, or three, each with its own API server and pods, and a real Envoy of the first: loss of a host, then of
the cluster, then of the next one, and back, with requests counted by level (S2.4 to S2.7).

Pods are processes in network namespaces; a lost one has its link taken down, and its object says NotReady, as its
kubelet (or, of a lost host, the node's controller) would say. The registry is filled from all API servers,
the further ones with the shipped rights of a peer.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial

import pytest

from hotswitch.cluster.kinds import NODES, SERVICES
from hotswitch.endpoints.assemble import Place
from hotswitch.endpoints.peer import connect_peer
from hotswitch.endpoints.source import Source
from hotswitch.kernel.command import Command, run
from hotswitch.sandbox.app import HTTP_PORT
from hotswitch.sandbox.eds_service import HTTP_NAME
from hotswitch.sandbox.followers import Asked, Follower
from tests.endpoints.test_clusters import PEER, cluster, hangs, is_another_one
from tests.endpoints.town import DB, SHOP, Leader, Town, leader, town, until
from tests.endpoints.xds.world import LISTEN, World, world

pytestmark = [pytest.mark.envoy, pytest.mark.k8s]

PLACES = {
    "near-0": ("", "node-a"),
    "near-1": ("", "node-a"),
    "home-0": ("", "node-c"),
    "away-0": ("east", "node-e"),
    "away-1": ("east", "node-e"),
    "west-0": ("west", "node-e"),  # a node of that name is in both
}
"""Cluster and node."""
HOME, AWAY, WEST = ("near-0", "near-1", "home-0"), ("away-0", "away-1"), ("west-0",)
LEVELS = {"near": "same-host", "home": "same-cluster", "away": "other-cluster", "west": "other-cluster"}


@dataclass
class Several:
    """`towns`: by the cluster's name; "" is home. `client` asks from a pod on node-a."""

    made: World
    towns: dict[str, Town]
    leading: Leader
    client: Follower

    def _of(self, name: str) -> Town:
        return self.towns[PLACES[name][0]]

    def word(self, cluster: str) -> str:
        """How it is heard of."""
        sources = self.leading.endpoints._parts.sources
        return next(each.state.word for each in sources if each.place.cluster == cluster)

    async def lose_cluster(self, cluster: str, *names: str) -> None:
        """All of it at once, with its API server: nobody says any more that its pods are gone."""
        for name in names:
            link(self.made, name, "down")
        await self.towns[cluster].api.stop()

    async def bring_back_cluster(self, cluster: str, *names: str) -> None:
        for name in names:
            link(self.made, name, "up")
        await self.towns[cluster].api.start()

    async def lose(self, *names: str) -> None:
        for name in names:
            link(self.made, name, "down")
            await self._of(name).status(name, False)

    async def bring_back(self, *names: str) -> None:
        for name in names:
            link(self.made, name, "up")
            await self._of(name).status(name, True)

    async def answered_by(self, *names: str) -> Counter[str]:
        """Those and no others, none of a hundred requests failing; how many by level."""
        await self.client.answered_by(*names, times=60)
        mark = self.client.mark()
        await self.client.until(lambda asked: len(asked) > mark + 100, "a hundred requests more")
        assert self.client.failures(mark) == []
        return by_level(self.client.since(mark))


def by_level(asked: Iterable[Asked]) -> Counter[str]:
    return Counter(LEVELS[each.who.partition("-")[0]] for each in asked if each.who)


def link(made: World, name: str, state: str) -> None:
    run(Command(("ip", "link", "set", "eth0", state), made.pods[name].netns), check=True)


async def annotated(home: Town) -> None:
    await home.service(mode="nearest", stale_after="2s", lost_after="8s")
    ports = [{"name": "http", "port": HTTP_PORT, "targetPort": HTTP_PORT, "protocol": "TCP"}]
    await home.cluster.patch_merge(SERVICES, SHOP, "db", {"spec": {"ports": ports}})
    await home.cluster.create(NODES, None, {"metadata": {"name": "node-c"}})


@asynccontextmanager
async def clusters(*further: str) -> AsyncIterator[Several]:
    """Home, and those of these names."""
    async with AsyncExitStack() as stack:
        made, home = await stack.enter_async_context(world()), await stack.enter_async_context(town())
        towns = {"": home, **{name: await stack.enter_async_context(cluster()) for name in further}}
        await annotated(home)
        names = [name for name, (place, _) in PLACES.items() if place in towns]
        await asyncio.gather(*map(made.backend, names))
        for name in names:
            place, node = PLACES[name]
            await towns[place].pod(name, node=node, address=made.pods[name].ip)
        sources = []
        for name in further:
            peer = await stack.enter_async_context(connect_peer(towns[name].api.kubeconfig(PEER)))
            sources.append(partial(Source, peer, place=Place(name), is_home=False))
        leading = await stack.enter_async_context(leader(home, further=tuple(sources), more=(made.publisher,)))
        await until(lambda: len(leading.endpoints.registry.backends(DB)) == len(names))
        where = {"node": "node-a", "zone": "zone-a", "region": "north"}
        spec = made.spec("client", where, listen={LISTEN: HTTP_NAME})
        yield Several(made, towns, leading, made.ask_http(await made.envoy(spec)))


def test_host_is_lost_then_the_cluster_and_both_come_back() -> None:
    async def story() -> None:
        async with clusters("east") as both:
            found = both.leading.endpoints.registry.backends(DB)
            assert {each.locality.cluster for each in found} == {"", "east"}  # S2.4: one registry
            assert (await both.answered_by("near-0", "near-1")).keys() == {"same-host"}  # S2.5
            await both.lose("near-0", "near-1")
            assert (await both.answered_by("home-0")).keys() == {"same-cluster"}  # S2.6: the host is lost
            await both.lose("home-0")
            assert (await both.answered_by(*AWAY)).keys() == {"other-cluster"}  # S2.7: the cluster is lost
            await both.bring_back("home-0")
            assert (await both.answered_by("home-0")).keys() == {"same-cluster"}
            await both.bring_back("near-0", "near-1")
            assert (await both.answered_by("near-0", "near-1")).keys() == {"same-host"}
            print("by level:", dict(by_level(both.client.asked)), "failed:", len(both.client.failures()))

    asyncio.run(story())


def test_host_is_lost_then_a_cluster_then_another_and_all_come_back() -> None:
    """Three clusters. Of the second, everything is lost at once; its pods are asked as long as nobody knows, then last,
    then no more. With the first one gone too the third alone has all requests, and none is refused."""

    async def story() -> None:
        async with clusters("east", "west") as three:
            found = three.leading.endpoints.registry.backends(DB)
            assert {each.locality.cluster for each in found} == {"", "east", "west"}  # S2.4
            by_step = {"all are well": await three.answered_by("near-0", "near-1")}
            await three.lose("near-0", "near-1")
            by_step["without the host"] = await three.answered_by("home-0")
            await three.lose("home-0")
            by_step["without the cluster"] = await three.answered_by(*AWAY, *WEST)
            await three.lose_cluster("east", *AWAY)
            by_step["without the second"] = await three.answered_by(*WEST)
            await until(lambda: three.word("east") == "lost")
            by_step["and it is known to be lost"] = await three.answered_by(*WEST)
            await three.bring_back_cluster("east", *AWAY)
            by_step["the second is back"] = await three.answered_by(*AWAY, *WEST)
            await three.bring_back("home-0")
            by_step["the cluster is back"] = await three.answered_by("home-0")
            await three.bring_back("near-0", "near-1")
            by_step["the host is back"] = await three.answered_by("near-0", "near-1")
            one, two, third = ({"same-host"}, {"same-cluster"}, {"other-cluster"})
            assert [counted.keys() for counted in by_step.values()] == [one, two, *[third] * 4, two, one]
            print("by level:", {step: dict(counted) for step, counted in by_step.items()})

    asyncio.run(story())


@pytest.mark.parametrize("begin", [hangs, is_another_one])
def test_api_server_of_the_cluster_that_serves_fails(begin: object) -> None:
    """Its pods are well, and nobody else is left. They are asked while they may be well, then no more, and again."""

    async def story() -> None:
        async with clusters("east") as both:
            await both.lose(*HOME)
            await both.answered_by(*AWAY)
            mend = await begin(both.towns["east"].api)  # type: ignore[operator]
            await until(lambda: both.word("east") == "stale")
            assert (await both.answered_by(*AWAY)).keys() == {"other-cluster"}  # asked last, and nobody is before them
            await both.client.until(lambda asked: all(each.failure for each in asked[-20:]), "nobody to be left")
            assert both.word("east") == "lost"
            await mend()
            assert (await both.answered_by(*AWAY)).keys() == {"other-cluster"}

    asyncio.run(story())
