"""Two clusters, each with its own API server and pods, and a real Envoy of the first: loss of a host, then of the
cluster, and back, with requests counted by level (S2.4 to S2.7).

Pods are processes in network namespaces; a lost one has its link taken down, and its object says NotReady, as its
kubelet (or, of a lost host, the node's controller) would say. The registry is filled from the two API servers, the
further one with the shipped rights of a peer.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass

import pytest

from hotswitch.cluster.kinds import NODES, SERVICES
from hotswitch.endpoints.assemble import Place
from hotswitch.endpoints.peer import connect_peer
from hotswitch.endpoints.registry import Registry
from hotswitch.endpoints.source import Source
from hotswitch.kernel.command import Command, run
from hotswitch.sandbox.app import HTTP_PORT
from hotswitch.sandbox.eds_service import HTTP_NAME
from hotswitch.sandbox.followers import Asked, Follower
from tests.endpoints.test_clusters import PEER, cluster, hangs, is_another_one
from tests.endpoints.town import DB, SHOP, Leader, Town, leader, town, until
from tests.endpoints.xds.world import LISTEN, World, world

pytestmark = [pytest.mark.envoy, pytest.mark.k8s]

NODE_OF = {"near-0": "node-a", "near-1": "node-a", "home-0": "node-c", "away-0": "node-e", "away-1": "node-e"}
HOME, AWAY = ("near-0", "near-1", "home-0"), ("away-0", "away-1")
LEVELS = {"near": "same-host", "home": "same-cluster", "away": "other-cluster"}


@dataclass
class Two:
    """`client` asks from a pod on node-a."""

    made: World
    home: Town
    far: Town
    leading: Leader
    client: Follower

    def _of(self, name: str) -> Town:
        return self.home if name in HOME else self.far

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
async def two() -> AsyncIterator[Two]:
    async with world() as made, town() as home, cluster() as far, connect_peer(far.api.kubeconfig(PEER)) as peer:
        await annotated(home)
        await asyncio.gather(*(made.backend(name) for name in NODE_OF))
        for name, node in NODE_OF.items():
            await (home if name in HOME else far).pod(name, node=node, address=made.pods[name].ip)

        def east(registry: Registry) -> Source:
            return Source(peer, registry, Place("east"), is_home=False)

        async with leader(home, further=(east,), more=(made.publisher,)) as leading:
            await until(lambda: len(leading.endpoints.registry.backends(DB)) == len(NODE_OF))
            where = {"node": "node-a", "zone": "zone-a", "region": "north"}
            spec = made.spec("client", where, listen={LISTEN: HTTP_NAME})
            yield Two(made, home, far, leading, made.ask_http(await made.envoy(spec)))


def test_host_is_lost_then_the_cluster_and_both_come_back() -> None:
    async def story() -> None:
        async with two() as both:
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


@pytest.mark.parametrize("begin", [hangs, is_another_one])
def test_api_server_of_the_cluster_that_serves_fails(begin: object) -> None:
    """Its pods are well, and nobody else is left. They are asked while they may be well, then no more, and again."""

    async def story() -> None:
        async with two() as both:
            await both.lose(*HOME)
            await both.answered_by(*AWAY)
            mend = await begin(both.far.api)  # type: ignore[operator]
            sources = both.leading.endpoints._parts.sources
            await until(lambda: sources[1].state.word == "stale")
            assert (await both.answered_by(*AWAY)).keys() == {"other-cluster"}  # asked last, and nobody is before them
            await both.client.until(lambda asked: all(each.failure for each in asked[-20:]), "nobody to be left")
            assert sources[1].state.word == "lost"
            await mend()
            assert (await both.answered_by(*AWAY)).keys() == {"other-cluster"}

    asyncio.run(story())
