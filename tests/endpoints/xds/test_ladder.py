"""A host is lost, then a cluster, and both come back: requests go one distance further each time, and return (S2.5-7).

Namespaces play hosts: each backend lives on one, and a lost one has its link taken down. Clients are a real Envoy and
proxyless gRPC, and they say where they are; who answers is counted by distance.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable

import pytest

from hotswitch.backends import Locality
from hotswitch.kernel.command import Command, run
from hotswitch.sandbox.eds_service import GRPC_NAME, HTTP_NAME, SERVICE, backend, record
from hotswitch.sandbox.followers import Asked, Follower
from tests.endpoints.xds.world import LISTEN, World, endpoints, world

pytestmark = pytest.mark.envoy

PLACES = {
    "near-0": Locality("home", "north", "n1", "node-a"),
    "near-1": Locality("home", "north", "n1", "node-a"),
    "zone-0": Locality("home", "north", "n1", "node-b"),
    "home-0": Locality("home", "north", "n2", "node-c"),
    "away-0": Locality("away", "south", "s1", "node-d"),
}
WHERE = {"node": "node-a", "cluster": "home", "zone": "n1", "region": "north"}
DISTANCES = {"near": "same-host", "zone": "same-zone", "home": "same-cluster", "away": "other-cluster"}


def by_distance(asked: Iterable[Asked]) -> Counter[str]:
    return Counter(DISTANCES[each.who.partition("-")[0]] for each in asked if each.who)


async def town(made: World) -> None:
    await asyncio.gather(*(made.backend(name, place) for name, place in PLACES.items()))
    made.publish()


def link(made: World, name: str, state: str) -> None:
    run(Command(("ip", "link", "set", "eth0", state), made.pods[name].netns), check=True)


async def lose(made: World, client: Follower, lost: set[str], *then: str) -> None:
    """Those that are lost from now on. Requests that wait for one of them fail; afterwards none does."""
    for name in PLACES:
        link(made, name, "down" if name in lost else "up")
    made.publish(down=lost)
    await client.answered_by(*(name for name in PLACES if name.startswith(then) and name not in lost), times=60)
    mark = client.mark()
    await client.until(lambda asked: len(asked) > mark + 100, "a hundred requests more")
    assert client.failures(mark) == []
    assert by_distance(client.since(mark)).keys() == {DISTANCES[each] for each in then}


async def envoy_client(made: World) -> Follower:
    spec = made.spec("client", WHERE, listen={LISTEN: HTTP_NAME})
    return made.ask_http(await made.envoy(spec))


async def delta_client(made: World) -> Follower:
    spec = made.spec("client", WHERE, incremental=True, listen={LISTEN: HTTP_NAME})
    return made.ask_http(await made.envoy(spec, ads=True))


async def grpc_client(made: World) -> Follower:
    return await made.ask_grpc(made.spec("client", WHERE))


@pytest.mark.parametrize("start", [envoy_client, delta_client, grpc_client])
def test_host_is_lost_then_the_zone_then_the_cluster_and_all_come_back(
    start: Callable[[World], Awaitable[Follower]],
) -> None:
    async def story() -> None:
        async with world() as made:
            await town(made)
            client = await start(made)
            await lose(made, client, set(), "near")  # S2.5
            await lose(made, client, {"near-0"}, "near", "zone")  # half of the host: 70 % stay
            near = {"near-0", "near-1"}
            await lose(made, client, near, "zone")  # S2.6: the host is lost
            await lose(made, client, {*near, "zone-0"}, "home")
            await lose(made, client, {*near, "zone-0", "home-0"}, "away")  # S2.7: the cluster is lost
            await lose(made, client, {*near, "zone-0"}, "home")
            await lose(made, client, near, "zone")
            await lose(made, client, set(), "near")
            assert by_distance(client.asked).keys() == set(DISTANCES.values())

    asyncio.run(story())


def test_callers_of_different_places_get_different_orders() -> None:
    """S2.5: the same Service, asked from three hosts and by a pod that is one of its own backends."""

    async def story() -> None:
        async with world() as made:
            await town(made)
            wheres = {
                "a": WHERE,
                "b": {**WHERE, "node": "node-b"},
                "c": {"node": "node-d", "cluster": "away"},
                "own": {"pod": f"{SERVICE.namespace}/near-1", "pod_ip": made.pods["near-1"].ip},
            }
            first = {"a": ("near-0", "near-1"), "b": ("zone-0",), "c": ("away-0",), "own": ("near-1",)}
            for name, where in wheres.items():
                client = made.ask_http(await made.envoy(made.spec(name, where, listen={LISTEN: HTTP_NAME})))
                await client.answered_by(*first[name], times=40)
                assert client.failures() == []

    asyncio.run(story())


@pytest.mark.parametrize("start", [envoy_client, delta_client, grpc_client])
def test_part_of_the_requests_spills_over(start: Callable[[World], Awaitable[Follower]]) -> None:
    """S2.8: the host bears half of what is asked of it; the zone gets the other half, as shares of one priority."""

    async def story() -> None:
        async with world() as made:
            await town(made)
            for name in PLACES:
                made.backends[name] = backend(name, made.pods[name].ip, PLACES[name], capacity=50)
            made.publish()
            client = await start(made)
            await client.answered_by("near-0", "near-1", times=40)
            made.publisher.load(SERVICE, {PLACES["near-0"]: 110.0})  # 80 of 100 at the host, 30 of 40 in the zone
            await client.until(lambda asked: "zone-0" in {each.who for each in asked}, "the zone to be asked")
            mark = client.mark()
            await client.until(lambda asked: len(asked) > mark + 1000, "a thousand requests more")
            counts = by_distance(client.since(mark))
            assert counts.keys() == {"same-host", "same-zone"} and client.failures() == []
            assert 0.6 < counts["same-host"] / counts.total() < 0.85  # 73 %
            made.publisher.load(SERVICE, {PLACES["near-0"]: 20.0})
            await client.answered_by("near-0", "near-1", times=60)

    asyncio.run(story())


@pytest.mark.parametrize("incremental", [False, True])
def test_requests_are_routed_by_header_and_path(incremental: bool) -> None:
    """S2.8: another order for some requests, as the business asks; changed while the client runs."""

    async def story() -> None:
        async with world() as made:
            made.record = record(routes="batch header x-batch=yes other-cluster; check prefix /healthy only:same-zone")
            await town(made)
            spec = made.spec("client", WHERE, incremental=incremental, listen={LISTEN: HTTP_NAME})
            envoy = await made.envoy(spec, ads=True)
            plain = made.ask_http(envoy)
            batch = made.ask_http(envoy, LISTEN, "0.002", "/", "x-batch=yes")
            await plain.answered_by("near-0", "near-1", times=40)
            await batch.answered_by("away-0")
            made.publish(down=["away-0"])
            await batch.answered_by(
                "home-0", "near-0", "near-1", "zone-0", times=80
            )  # then the rest, without preference
            made.publish()
            await batch.answered_by("away-0")
            made.record = record(routes="batch header x-batch=yes only:same-zone")
            made.publish()
            await batch.answered_by("near-0", "near-1", "zone-0", times=80)
            assert plain.failures() == [] and batch.failures() == []
            assert set(await endpoints(envoy, f"{HTTP_NAME}#batch")) == {
                made.pods[name].ip for name in ("near-0", "near-1", "zone-0")
            }

    asyncio.run(story())


def test_grpc_requests_are_routed_by_their_service() -> None:
    """S2.8, for proxyless gRPC: its path is /package.Service/Method."""

    async def story() -> None:
        async with world() as made:
            made.record = record(routes="echo prefix /hotswitch.Echo/ other-cluster")
            await town(made)
            client = await made.ask_grpc(made.spec("client", WHERE), f"xds:///{GRPC_NAME}")
            await client.answered_by("away-0")
            assert client.failures() == []

    asyncio.run(story())


async def envoy_crowd(made: World) -> list[Follower]:
    envoy = await made.envoy(made.spec("crowd", WHERE, listen={LISTEN: HTTP_NAME}))
    return [made.ask_http(envoy, LISTEN, "0") for _ in range(6)]


async def grpc_crowd(made: World) -> list[Follower]:
    specs = [made.spec(f"crowd-{number}", WHERE) for number in range(4)]
    return [await made.ask_grpc(each, interval_s=0.0) for each in specs]


@pytest.mark.parametrize("start", [envoy_crowd, grpc_crowd])
def test_clients_report_their_load_and_what_is_too_much_spills_over(
    start: Callable[[World], Awaitable[list[Follower]]],
) -> None:
    """S2.8: who reports, counts by level; a host that bears less than is asked of it gives some of it away."""

    async def story() -> None:
        async with world(hears_loads=True) as made:
            await town(made)
            crowd = await start(made)
            await crowd[0].until(lambda asked: made.loads.by_level["same-host"] > 0, "a report")
            assert made.loads.by_level.keys() == {"same-host"}
            for name in PLACES:
                made.backends[name] = backend(name, made.pods[name].ip, PLACES[name], capacity=1)
            made.publish()
            await crowd[0].until(lambda asked: made.loads.by_level["same-zone"] > 0, "the zone to serve some")
            assert all(each.failures() == [] for each in crowd)

    asyncio.run(story())
