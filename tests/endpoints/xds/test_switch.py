"""Clients that nobody here wrote follow every switch: real Envoys over EDS and ADS, and proxyless gRPC (S0.5, S0.7).

A switch here is an order of ours (switchover, drain, replacement), so no request may fail: those under way end where
they began. When a backend dies, only what was in flight to it, or came before it was taken out, may fail.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, replace

import pytest

from hotswitch.backends import ServiceMode
from hotswitch.endpoints.xds.kinds import Kind
from hotswitch.endpoints.xds.server import XdsServer
from hotswitch.kernel.netns import inside
from hotswitch.model import PodUid
from hotswitch.sandbox.eds_service import HTTP_NAME, backend, record
from hotswitch.sandbox.followers import Follower
from tests.endpoints.xds.world import LISTEN, World, world

pytestmark = pytest.mark.envoy

Client = Callable[[World], Awaitable[Follower]]
BACKENDS = ("db-0", "db-1", "db-2")


def over_envoy(*, incremental: bool, ads: bool) -> Client:
    async def start(made: World) -> Follower:
        spec = made.spec("client", {"node": "n"}, incremental=incremental, listen={LISTEN: HTTP_NAME})
        return made.ask_http(await made.envoy(spec, ads=ads))

    return start


async def over_grpc(made: World) -> Follower:
    return await made.ask_grpc(made.spec("client", {"node": "n"}))


CLIENTS = {
    "eds": over_envoy(incremental=False, ads=False),
    "eds-delta": over_envoy(incremental=True, ads=False),
    "ads": over_envoy(incremental=False, ads=True),
    "ads-delta": over_envoy(incremental=True, ads=True),
    "grpc": over_grpc,
}


@dataclass
class Stage:
    """Three backends, the first one told of, and a client that is answered."""

    runner: asyncio.Runner
    world: World
    client: Follower

    def run(self, story: Awaitable[None]) -> None:
        async def told() -> None:
            await story

        self.runner.run(told())


@pytest.fixture(scope="module", params=list(CLIENTS))
def stage(request: pytest.FixtureRequest) -> Iterator[Stage]:
    with asyncio.Runner() as runner:
        context = world()
        made = runner.run(context.__aenter__())
        try:
            yield Stage(runner, made, runner.run(_begun(made, CLIENTS[request.param])))
        finally:
            runner.run(context.__aexit__(None, None, None))


async def _begun(made: World, client: Client) -> Follower:
    made.record = record(ServiceMode.ACTIVE_STANDBY)
    await asyncio.gather(*(made.backend(name) for name in BACKENDS))
    made.publish("db-0")
    follower = await client(made)
    await follower.answered_by("db-0")
    return follower


def test_active_and_standby_change_places(stage: Stage) -> None:
    async def story() -> None:
        made, client = stage.world, stage.client
        made.publish("db-0")
        await client.answered_by("db-0")  # S0.5
        mark = client.mark()
        for name in ("db-1", "db-0", "db-2", "db-0"):
            made.publish(name)
            await client.answered_by(name)  # S0.7
        assert client.failures(mark) == []

    stage.run(story())


def test_switch_there_and_back_within_a_moment(stage: Stage) -> None:
    """The client may see the one in the middle or not; in the end it has the last."""

    async def story() -> None:
        made, client = stage.world, stage.client
        mark = client.mark()
        for _ in range(20):
            for name in ("db-1", "db-2"):
                made.publish(name)
        await client.answered_by("db-2")
        assert client.failures(mark) == []

    stage.run(story())


def test_backend_is_drained_and_comes_back(stage: Stage) -> None:
    async def story() -> None:
        made, client = stage.world, stage.client
        made.publish(*BACKENDS)
        await client.answered_by(*BACKENDS, times=60)
        mark = client.mark()
        made.publish("db-0", "db-2")
        await client.answered_by("db-0", "db-2", times=60)
        made.publish(*BACKENDS)
        await client.answered_by(*BACKENDS, times=60)
        assert client.failures(mark) == []

    stage.run(story())


def test_health_flips(stage: Stage) -> None:
    """S0.2: a backend that is unavailable is in the registry, and nobody is told of it."""

    async def story() -> None:
        made, client = stage.world, stage.client
        mark = client.mark()
        made.publish(*BACKENDS, down=["db-1", "db-2"])
        await client.answered_by("db-0", times=40)
        made.publish(*BACKENDS, down=["db-0", "db-2"])
        await client.answered_by("db-1", times=40)
        assert client.failures(mark) == []

    stage.run(story())


def test_backend_is_replaced_by_another_pod_of_its_name(stage: Stage) -> None:
    async def story() -> None:
        made, client = stage.world, stage.client
        made.publish("db-0")
        await client.answered_by("db-0")
        mark = client.mark()
        kept = made.backends["db-0"]
        newer = backend("db-0", made.pods["db-2"].ip)
        made.backends["db-0"] = replace(newer, pod=replace(newer.pod, uid=PodUid("another-uid")))
        made.publish("db-0")
        await client.answered_by("db-2")
        made.backends["db-0"] = kept
        made.publish("db-0")
        await client.answered_by("db-0")
        assert client.failures(mark) == []

    stage.run(story())


def test_active_is_killed(stage: Stage) -> None:
    """S0.6: what fails was under way to it, or begun before the client had heard of the new one; nothing after that."""

    async def story() -> None:
        made, client = stage.world, stage.client
        made.publish("db-0")
        await client.answered_by("db-0")
        mark = client.mark()
        process = made.pods["db-0"].app.process
        assert process is not None
        process.signal(9)
        await process.exited()
        made.publish("db-1")
        await client.answered_by("db-1")
        first = next(number for number, each in enumerate(client.since(mark)) if each.who == "db-1")
        assert client.failures(mark + first) == []
        await made.pods["db-0"].ready()

    stage.run(story())


def test_nobody_serves_and_then_somebody_does(stage: Stage) -> None:
    """S0.7: when none is available nobody is promoted, and requests fail at once instead of hanging."""

    async def story() -> None:
        made, client = stage.world, stage.client
        made.publish(*BACKENDS, down=BACKENDS)
        await client.until(lambda asked: all(each.failure for each in asked[-5:]), "requests to fail")
        assert all(each.failure in ("503", "UNAVAILABLE") for each in client.asked[-5:])
        made.publish("db-1")
        await client.answered_by("db-1")

    stage.run(story())


def test_server_goes_away_and_comes_back(stage: Stage) -> None:
    """I1: without it clients go on with what they have; afterwards they follow again, without a failed request."""

    async def story() -> None:
        made, client = stage.world, stage.client
        made.publish("db-0")
        await client.answered_by("db-0")
        mark = client.mark()
        old = made.server
        await old.stop()
        await client.answered_by("db-0", times=100)
        with inside(made.box.network.node.netns):
            made.server = XdsServer(made.publisher, old._who, address=f"{made.box.network.node.ipv4}:{old.port}")
            await made.server.start()
        await client.answered_by("db-0", times=100)  # not open yet: nothing is said, nothing is lost
        made.server.open()
        made.publish("db-1")
        await client.answered_by("db-1")
        assert client.failures(mark) == []

    stage.run(story())


def test_nothing_was_refused_by_a_client(stage: Stage) -> None:
    assert not stage.world.server.figures.nacks and not stage.world.server.figures.malformed
    assert stage.world.server.figures.pushes[Kind.ENDPOINTS] > 0
