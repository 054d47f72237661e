"""The API server fails in every way at everything that the controller asks of it, while one pod is rescued and another
one is opened straight to the app, and while both are restored (I1, I4, I6, I8, S4.6).

Every time: the right level is reached and left again, the app is served, people are told once of each, nothing is left
behind, somebody leads, and the log has no more than warnings. The API is the embedded one, by HTTP; the controller, its
rights, the helpers, the proxies and the rules are real.

A round gives each kind of request a fault of its own (tests.mesh.mishaps). By default one round is played;
HOTSWITCH_API_FAULTS=all plays all, and so has every kind of request meet every fault; HOTSWITCH_API_FAULTS=alone plays
each of these pairs by itself, which takes more than an hour and tells who is at fault. HOTSWITCH_API_FAULTS=3,5 plays
these rounds.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack, ExitStack
from dataclasses import dataclass
from typing import Any

import pytest

from hotswitch.api import names
from hotswitch.decide.codes import Code
from hotswitch.model import Direction, Level
from hotswitch.sandbox.clients import Client
from hotswitch.sandbox.cluster.published import Published
from hotswitch.sandbox.cluster.relay import Relay
from tests.mesh.killing import LIVES, traces
from tests.mesh.mishaps import CLOSE, MAKE, OPEN, Armed, Round, alone, arm, lasting, rounds, unmet
from tests.mesh.stage import PATIENCE_S, SHOP, Stage, staged
from tests.mesh.sweeping import QUICK
from tests.mesh.test_killed import LEVELS
from tests.report.receiving import Server

pytestmark = pytest.mark.envoy
WHICH = os.environ.get("HOTSWITCH_API_FAULTS", "10")
POLL_S = 0.05
LONG_S = 3 * PATIENCE_S  # two refusals of one restore are waited out, 10 s and then 20 s


def chosen() -> list[tuple[str, Round]]:
    if WHICH == "alone":
        return [(f"{target} {fault}", ((target, fault),)) for ((target, fault),) in alone()]
    numbered = [(str(number), pairs) for number, pairs in enumerate(rounds())]
    return numbered if WHICH == "all" else [each for each in numbered if each[0] in WHICH.split(",")]


@dataclass
class Scene:
    """`hook`: who gets the alerts."""

    stage: Stage
    hook: Server

    def alerts(self, web: Published) -> Counter[tuple[str, str]]:
        """How often which code was told to begin or to end."""
        documents = [json.loads(each.body) for each in self.hook.got]
        mine = [each for each in documents if (each["pod"] or {}).get("name") == web.pod.name]
        return Counter((each["code"], each["status"]) for each in mine)

    async def until(self, holds: Callable[[], object], what: str, seen: Callable[[], object] = lambda: "") -> None:
        """Of what is seen in no watch."""
        deadline = time.monotonic() + LONG_S
        while not holds():
            assert time.monotonic() < deadline, f"not within {LONG_S:g} s: {what}: {seen()}\n{self.words(0)[-6000:]}"
            await asyncio.sleep(POLL_S)

    def words(self, since: int) -> str:
        return self.stage.controllers[0].log.read_text()[since:]


@pytest.fixture(scope="module")
def scene(runner: asyncio.Runner) -> Iterator[Scene]:
    with ExitStack() as stack:

        def enter(context: Any) -> Any:
            stack.callback(lambda: runner.run(context.__aexit__(None, None, None)))
            return runner.run(context.__aenter__())

        hook = enter(Server())
        receiver = {"name": "team", "type": "webhook", "url": hook.url, "allowNetworks": ["127.0.0.0/8"]}
        levels = {"inbound": LEVELS, "outbound": LEVELS}
        stage = enter(staged("tier-2-direct", levels=levels, actuators=["helper"], alerts={"receivers": [receiver]}))
        relay = runner.run(Relay.open(stage.cluster.box.network.node.netns, hook.port))
        stack.callback(lambda: runner.run(relay.close()))
        runner.run(stage.controller())
        yield Scene(stage, hook)


@dataclass
class Played:
    """One pod; `level`: that it is opened to. `before`: all that hotswitch could leave behind, or break."""

    scene: Scene
    web: Published
    level: Level
    client: Client
    before: tuple[Any, ...]

    @property
    def name(self) -> str:
        return self.web.pod.name

    async def opened(self) -> None:
        stage = self.scene.stage
        wanted = dict.fromkeys(Direction, self.level)
        await stage.until(lambda: stage.levels(self.web) == wanted, f"{self.name} is opened", LONG_S)
        answer = await self.client.ask(self.web.pod.ip, 8080, timeout_s=10.0)
        assert (answer.status, answer.via) == (200, ""), answer
        await stage.until(lambda: Code.OPENED in stage.codes(self.web), f"{self.name}: Event")
        await self._alerted("firing")

    async def restored(self) -> None:
        stage = self.scene.stage
        await stage.captured(self.web, LONG_S)
        await self.web.pod.ready(PATIENCE_S)
        await stage.until(lambda: stage.condition(self.web).get("status") == "True", f"{self.name}: condition")
        await stage.until(lambda: Code.RESTORED in stage.codes(self.web), f"{self.name}: Event of the end")
        await self._alerted("resolved")
        await self.scene.until(lambda: not self._standing(), f"{self.name}: every alert ends", self._standing)
        assert (await self.client.ask(self.web.pod.ip, 8080, timeout_s=10.0)).via == "sidecar"

    async def _alerted(self, how: str) -> None:
        told = self.scene.alerts
        await self.scene.until(lambda: told(self.web)[Code.OPENED, how], f"{self.name} {how}", lambda: told(self.web))

    def _standing(self) -> set[str]:
        """Codes of which people believe that they go on: an act that failed once is ended by and by."""
        alerts = self.scene.alerts(self.web)
        return {code for code, how in alerts if how == "firing"} - {code for code, how in alerts if how == "resolved"}

    def judge(self) -> None:
        """When all is over."""
        stage = self.scene.stage
        assert traces(stage, self.web) == self.before, self.name  # I4
        status = stage.status(self.web)
        assert status is not None and not status.under_way and status.tls_mode_before is None
        told = {each["metadata"]["name"]: each for each in stage.events if each["involvedObject"]["name"] == self.name}
        events = Counter[str]()
        for each in told.values():
            if each["type"] != "Normal" or each["reason"] != Code.OPENED:  # else it tells of the end
                events[each["reason"]] += each["count"]
        assert (events[Code.OPENED], events[Code.RESTORED]) == (1, 1), events  # I8
        assert Code.EXPIRED not in events, events
        alerts = self.scene.alerts(self.web)
        assert (alerts[Code.OPENED, "firing"], alerts[Code.OPENED, "resolved"]) == (1, 1), alerts


async def made(scene: Scene, name: str, level: Level) -> Played:
    stage = scene.stage
    word = f"{level},hold"
    annotations = {names.LEVELS_INBOUND: word, names.LEVELS_OUTBOUND: word, names.ACTUATORS: "helper"}
    web = await stage.web(name, timings=QUICK, annotations=annotations, **LIVES)
    await stage.cluster.service(name, [web], publishNotReadyAddresses=True)
    client = await stage.cluster.box.client(f"to-{name}")
    await stage.until(lambda: bool(stage.container(web, "app").get("ready")), "its app is ready")
    assert (await client.ask(web.pod.ip, 8080)).via == "sidecar"
    return Played(scene, web, level, client, traces(stage, web))


async def round_of(scene: Scene, key: str, pairs: Round) -> None:
    stage, api = scene.stage, scene.stage.cluster.api
    key = re.sub(r"[^a-z0-9]+", "-", key)
    wanted = {f"direct-{key}": Level.DIRECT, f"rescue-{key}": Level.RESCUE}
    since = len(scene.words(0))

    def armed(when: str) -> list[Armed]:
        api.faults.clear()
        of_now = tuple(each for each in pairs if when in each[0].surely or when != MAKE)
        return arm(api, of_now, list(wanted), SHOP)

    async def over(met: list[Armed], when: str) -> None:
        await scene.until(lambda: not unmet(met, when), f"all are asked ({when})", lambda: unmet(met, when))
        await scene.until(lambda: not lasting(met), f"all faults are over ({when})", lambda: lasting(met))

    met = armed(MAKE)
    plays = await asyncio.gather(*(made(scene, name, level) for name, level in wanted.items()))
    await over(met, MAKE)
    met = armed(OPEN)
    async with AsyncExitStack() as crashing:
        for play in plays:
            await crashing.enter_async_context(await play.web.pod.faults.crash_loop())
        await asyncio.gather(*(play.opened() for play in plays))
        await over(met, OPEN)
        met = armed(CLOSE)
    await asyncio.gather(*(play.restored() for play in plays))
    await over(met, CLOSE)
    api.faults.clear()
    for play in plays:
        play.judge()
    await stage.leader()
    assert "Traceback" not in scene.words(since), scene.words(since)


@pytest.mark.parametrize(("key", "pairs"), [pytest.param(*each, id=each[0]) for each in chosen()])
def test_api_server_fails(scene: Scene, runner: asyncio.Runner, key: str, pairs: Round) -> None:
    async def story() -> None:
        began_s = time.monotonic()
        await round_of(scene, key, pairs)
        print(f"{key}: {time.monotonic() - began_s:.1f} s", file=sys.stderr)

    runner.run(story())
