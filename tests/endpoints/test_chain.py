"""The whole way, nothing of it apart: a fault of a real app, found out by asking it, fenced, decided, told, followed.

Under clients that nobody here wrote: Envoys over EDS and over incremental ADS, proxyless gRPC; and one that reads
EndpointSlices as kube-proxy does. Each follows every switch (S0.5, S0.7), and what all of them heard together is one
history: never two pods for one generation, and never back (I7).
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from hotswitch.decide.endpoints.active_standby import Word
from hotswitch.sandbox.failover.pod import RegisterPod
from hotswitch.sandbox.failover.service import DB, SHOP
from hotswitch.sandbox.failover.stage import Failover, until
from hotswitch.sandbox.followers import Asked, Follower, Followers
from hotswitch.sandbox.process import HOME
from hotswitch.sandbox.register import GRPC_PORT, PORT
from hotswitch.sandbox.xds_client import XdsClientSpec
from tests.endpoints.history import Answered, breaches
from tests.endpoints.town import story

pytestmark = [pytest.mark.netns, pytest.mark.k8s, pytest.mark.envoy]
LISTEN = 7000


class Chain:
    """Three pods and two controllers on a stage, and clients at work. `clients`: by name."""

    def __init__(self, stage: Failover) -> None:
        self.stage = stage
        self.clients: dict[str, Follower] = {}
        self._kubeconfig = str(stage.api.kubeconfig("admin", ("system:masters",)))

    async def start(self, followers: Followers, stack: contextlib.AsyncExitStack) -> None:
        server, *more = self.stage.xds
        for name, ads in (("eds", False), ("ads-delta", True)):
            listen = {LISTEN: f"db.shop:{PORT}"}
            spec = XdsClientSpec(name, server, {"node": name}, incremental=ads, listen=listen, more=tuple(more))
            self.clients[name] = followers.http(await followers.envoy(spec, ads=ads), LISTEN, "0.01")
        spec = XdsClientSpec("grpc", server, {"node": "grpc"}, more=tuple(more))
        self.clients["grpc"] = await followers.grpc(spec, f"xds:///db.shop:{GRPC_PORT}", 0.01)
        place = await self.stage.network.attach("slices")
        await self.stage.reach_api(place, stack)
        self.clients["slices"] = followers.api(place, "slices", self._kubeconfig, str(DB))

    async def active(self) -> RegisterPod:
        found = (await self.stage.election()).active
        assert found is not None
        return self.stage.pods[found.name]

    async def order(self, *words: str) -> None:
        """`hotswitch` at a terminal."""
        argv = (
            sys.executable,
            "-m",
            "hotswitch.cli.main",
            "mesh",
            *words,
            "-n",
            SHOP,
            "--kubeconfig",
            self._kubeconfig,
        )
        child = await asyncio.create_subprocess_exec(
            *argv, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT, env={"PYTHONPATH": HOME}
        )
        said, _ = await child.communicate()
        assert child.returncode == 0, said.decode()

    async def switch(self, work: Callable[[RegisterPod], Awaitable[object]]) -> RegisterPod:
        """Each client is answered in a later generation than that in which the work found them, and by another pod than
        the one that was active, which is returned."""
        known, old = (await self.stage.election()).generation, await self.active()
        marks = {name: client.mark() for name, client in self.clients.items()}
        await work(old)
        for name, client in self.clients.items():
            first = await client.newer(known, marks[name])
            assert first.who != old.name, f"{name}: {first}"
        return old

    async def switchover(self, old: RegisterPod) -> None:
        """To another one; refused, and ordered again, while that one is not found well yet."""
        target = next(name for name in self.stage.pods if name != old.name)
        while not await self._is_taken(target):
            await asyncio.sleep(0.2)
        await until(lambda: self._is_active(target), "the switchover")

    async def _is_taken(self, target: str) -> bool:
        """Whether the order is carried out."""
        before = (await self.stage.election()).handled_unix_s

        async def handled() -> bool:
            return (await self.stage.election()).handled_unix_s > before

        await self.order("switchover", "db", "--to", target)
        await until(handled, "the order is handled")
        return (await self.stage.election()).history[-1].what != Word.ORDER_REFUSED

    async def _is_active(self, name: str) -> bool:
        found = (await self.stage.election()).active
        return found is not None and found.name == name

    async def drain(self, old: RegisterPod) -> None:
        await self.order("drain", old.name)

    async def fail(self) -> None:
        """Each client, from now on."""
        for client in self.clients.values():
            begun = client.mark() + 1  # one may be under way
            await client.until(lambda asked, begun=begun: is_failing(asked[begun:]), "requests to fail")  # type: ignore[misc]


def is_failing(asked: list[Asked]) -> bool:
    return len(asked) >= 5 and all(each.failure for each in asked[-5:])


@contextlib.asynccontextmanager
async def chain() -> AsyncIterator[Chain]:
    async with contextlib.AsyncExitStack() as stack:
        stage = await stack.enter_async_context(Failover(pods=3, controllers=2, grpc=True))
        followers = Followers(stage.estate, stage.network)
        stack.push_async_callback(followers.close)
        made = Chain(stage)
        await made.start(followers, stack)
        await asyncio.gather(*(client.newer(0) for client in made.clients.values()))
        yield made


def heard(made: Chain) -> list[Answered]:
    every = [each for client in made.clients.values() for each in client.asked if not each.failure]
    return [
        Answered("read", number, each.start_s, each.end_s, each.who, each.generation, 0)
        for number, each in enumerate(every)
    ]


async def kill(pod: RegisterPod) -> None:
    await pod.app.kill()


async def hang(pod: RegisterPod) -> None:
    pod.app.freeze()


@story
async def test_every_client_follows_every_switch() -> None:  # S0.1, S0.2, S0.3, S0.5, S0.6, S0.7, I7
    async with chain() as made:
        stage = made.stage
        for _ in range(2):
            killed = await made.switch(kill)
            killed.app.again()
            hung = await made.switch(hang)
            hung.app.thaw()  # it believes that it serves; nobody hears it
        await made.switch(made.switchover)
        drained = await made.switch(made.drain)
        await made.order("drain", drained.name, "--undo")
        await paused_and_resumed(made)
        leader = stage.controllers[await stage.leader()]  # whoever leads next goes on telling them
        await leader.kill()
        leader.again()
        await made.switch(kill)
        history, denied = heard(made), stage.api.denied
    assert breaches(history, []) == []
    assert len({each.generation for each in history}) >= 8
    assert denied == [], "the shipped rights are enough"


async def paused_and_resumed(made: Chain) -> None:
    """While it is paused a fault promotes nobody, and every client is told that nobody serves."""
    await made.order("pause", "db")
    known, old = (await made.stage.election()).generation, await made.active()
    await old.app.kill()
    await made.fail()
    assert (await made.stage.election()).generation == known

    async def resume(pod: RegisterPod) -> None:
        await made.order("resume", "db")

    assert await made.switch(resume) is old
    old.app.again()
