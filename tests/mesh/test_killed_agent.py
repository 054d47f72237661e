"""The controller is killed at every step of what an agent does within its grant, and of what it is told (S4.2, I6, I8).

A fault: the agent opens and restores by itself, whoever is dead, and the controller tells of it. A person's order: it
comes with a grant, and ends with one. Steps are also the messages of the link, as a wiretap sees them.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, ClassVar

import pytest

from hotswitch.api import names
from hotswitch.decide.codes import Code
from hotswitch.model import Direction, Level
from hotswitch.sandbox.cluster.agents import OVERLAY, NodeAgent
from hotswitch.sandbox.manifests import render
from tests.controller.agency import NAME, certificate
from tests.mesh.killing import IN, LIVES, OUT, Path, Played, crashing, ordered
from tests.mesh.knife import Cut, When
from tests.mesh.stage import PATIENCE_S, SHOP
from tests.mesh.sweeping import EVERY, Scene, entered, scene
from tests.mesh.wiretap import Wiretap

pytestmark = pytest.mark.envoy
PORT, TAPPED = 8443, 8444


class ByAgent(Path):
    name = "agent"
    pod: ClassVar[Mapping[str, Any]] = {"protected": False, **LIVES}
    levels: ClassVar[Mapping[Direction, Level]] = {IN: Level.RESCUE, OUT: Level.HOLD}
    told = (Code.OPENED, Code.RESTORED)
    told_within_s = PATIENCE_S  # an agent that was cut off several times waits for longer before it comes back
    keeps = True  # one that comes later gets no place: who leads after another gives none for ten minutes (I3)
    cause = staticmethod(crashing)  # type: ignore[assignment]

    def __init__(self, agent: NodeAgent, tap: Wiretap) -> None:
        self._agent, self._tap = agent, tap

    async def prepare(self, play: Played) -> None:
        """Another process of the agent: one that was cut off again and again waits for long before it comes back."""
        await self._agent.stop()
        self._agent.start()
        await self._agent.guards(self._pod(play), timeout_s=2 * PATIENCE_S)
        self._tap.knife, self._tap.uid = play.knife, play.web.uid

    def _pod(self, play: Played) -> str:
        return f"{SHOP}/{play.web.pod.name}"

    def mark(self, play: Played) -> int:
        return len(self._agent.entries(self._pod(play)))

    async def acted(self, play: Played, since: int) -> None:
        acts = [each.event for each in self._agent.entries(self._pod(play))[since:] if not each.failed]
        assert [each for each in acts if each in ("open", "close")] == ["open", "close"]
        assert play.status is not None and play.status.actuator == "agent"


class Ordered(ByAgent):
    levels: ClassVar[Mapping[Direction, Level]] = {IN: Level.RESCUE, OUT: Level.CAPTURE}
    told = (Code.OPENED_BY_ORDER, Code.CLOSED_BY_ORDER)

    @asynccontextmanager
    async def cause(self, play: Played, go: Callable[[], None]) -> AsyncIterator[None]:  # type: ignore[override]
        go()
        async with ordered(play, "rescue", **{names.OVERRIDE_DIRECTION: "inbound"}):
            yield


@pytest.fixture(scope="module")
def made(runner: asyncio.Runner) -> Iterator[tuple[Scene, NodeAgent, Wiretap]]:
    @asynccontextmanager
    async def within() -> AsyncIterator[tuple[Scene, NodeAgent, Wiretap]]:
        async with AsyncExitStack() as stack:
            levels = {"inbound": ["rescue", "hold"], "outbound": ["hold"]}
            place = scene("tier-1-rescue", opt_ins=("agents",), levels=levels, actuators=["agent"])
            made = await stack.enter_async_context(place)
            cluster = made.stage.cluster
            cluster.api.apply(render(OVERLAY))
            tls = certificate(cluster.box.estate.directory / "agents-tls")
            await made.stage.controller("--agents-port", str(PORT), "--agents-tls", str(tls))
            agent = made.stage.installed.agent()
            agent.obey(f"127.0.0.1:{TAPPED}", tls / "ca.crt", NAME)
            tap = Wiretap(cluster.box.network.node.netns, tls, agent.token_file, PORT)
            yield made, agent, await stack.enter_async_context(tap.open(TAPPED))

    with entered(runner, within()) as found:
        yield found


Made = tuple[Scene, NodeAgent, Wiretap]


def test_controller_is_killed_while_an_agent_opens_and_restores(made: Made, runner: asyncio.Runner) -> None:
    """And the next one, as the agent comes to it."""
    place, agent, tap = made
    opened, next_one = f"says line {Code.OPENED}", Cut("hears welcome", 1, When.AFTER)
    sample = [
        (
            Cut("status stands rescue/hold", 1, When.BEFORE, then=next_one),
            Cut(f"says line {Code.RESTORED}", 1, When.AFTER),
        )
    ]
    runner.run(place.sweep(ByAgent(agent, tap), sample))
    if EVERY:
        coming = ("says hello", "hears welcome", "hears grant", "says pod", opened, "hears written", "ledger")
        then = [Cut(step, 1, when) for step in coming for when in (When.BEFORE, When.AFTER)]
        pairs = [(Cut(opened, 1, When.AFTER, then=each), None) for each in then]
        runner.run(place.sweep(ByAgent(agent, tap), pairs, every=False))


def test_controller_is_killed_while_an_agent_is_granted_an_order(made: Made, runner: asyncio.Runner) -> None:
    place, agent, tap = made
    sample = [(Cut("hears grant", 1, When.BEFORE), Cut("hears grant", 1, When.AFTER))]
    runner.run(place.sweep(Ordered(agent, tap), sample))
