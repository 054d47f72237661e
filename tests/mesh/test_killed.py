"""The controller is killed (SIGKILL) at every step of a bypass and of the restore, and another one begins (I1, I4, I6).

First one undisturbed bypass and restore is written down, as who is spoken to sees it: each write that the API server
takes, each command that acts in the pod. Then the same again and again, killed at each of these. Every time: the app is
served, the budget is known, and in the end all is as it was. HOTSWITCH_KILL_STEPS=all kills before, during and after
each step, and has commands come late; otherwise once at each.

The Lease is given away by hand each time: that a leader waits for a whole one is shown elsewhere (test_interrupted).
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import re
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pytest

from hotswitch.api import names
from hotswitch.controller.settings import LEASE
from hotswitch.decide.codes import Code
from hotswitch.model import Level
from hotswitch.sandbox.clients import Client
from hotswitch.sandbox.cluster.installed import NAMESPACE, Controller
from hotswitch.sandbox.cluster.published import Published
from hotswitch.sandbox.kubelet import Timings
from tests.agent.keeper import rules as kernel
from tests.mesh.knife import Cut, Knife, When, cuts
from tests.mesh.stage import PATIENCE_S, Stage, staged

pytestmark = pytest.mark.envoy
EVERY = os.environ.get("HOTSWITCH_KILL_STEPS", "") == "all"
SETTLED_S = 10.0
ACTS = (Code.OPENED, Code.CHANGED, Code.RESTORED, Code.EXPIRED)
LEVELS = ["rescue", "direct", "hold"]
QUICK = Timings(scale=0.2, backoff_first_s=2.0, backoff_max_s=5.0, backoff_reset_s=10.0)
"""A sidecar that crashes is soon started again, however often it has crashed."""
LIVES = {"liveness": True, "app_period_s": 2.0, "app_failures": 8}


ONLY_RESCUE = {names.LEVELS_INBOUND: "rescue,hold", names.LEVELS_OUTBOUND: "rescue,hold", names.ACTUATORS: "helper"}


@pytest.fixture(scope="module")
def stage(runner: asyncio.Runner) -> Iterator[Stage]:
    levels = {"inbound": LEVELS, "outbound": LEVELS}
    within = staged("tier-2-direct", levels=levels, actuators=["helper"])
    stage = runner.run(within.__aenter__())
    try:
        runner.run(stage.controller())
        yield stage
    finally:
        runner.run(within.__aexit__(None, None, None))


@dataclass
class Played:
    """One pod, and what it was before anything happened to it."""

    stage: Stage
    web: Published
    knife: Knife
    client: Client
    before: tuple[Any, ...]

    @property
    def controller(self) -> Controller:
        return self.knife.controller

    # ---- one bypass and its restore ----

    async def cycle(self, opening: Cut | None, closing: Cut | None) -> tuple[list[str], list[str]]:
        """The steps that were seen of each. Raises AssertionError."""
        stage, web, knife = self.stage, self.web, self.knife
        first, event, act = len(stage.written(web)), len(stage.events), len(knife.acts)
        knife.set(opening)
        async with await web.pod.faults.crash_loop():
            await self._through(opening, self._is_open, "opened")
            await self._served()
            opened = list(knife.steps)
            late = await self._held_back(opening)
            knife.set(closing)
        await self._through(closing, self._rests, "captured")
        await self._settled()
        late = late or await self._held_back(closing)
        if late is not None:
            late.set()
            await self._until(lambda: all(each.ended for each in knife.acts), "what came late has ended")
            await self._through(None, self._rests, "captured again")
        await self._as_before()
        self._growing(first, act)
        await self._told(event)
        return opened, list(knife.steps)

    async def _held_back(self, cut: Cut | None) -> asyncio.Event | None:
        """What lets go of a command that is to come after all others."""
        if cut is None or cut.when is not When.LATE:
            return None
        late, self.knife.let_go = self.knife.let_go, asyncio.Event()
        return late

    async def _through(self, cut: Cut | None, holds: Callable[[], bool], what: str) -> None:
        """Until it is so; with a new controller once the old one was killed."""
        if cut is None:
            await self._until(holds, what)
            return
        reached = asyncio.create_task(self._until(holds, what))
        struck = asyncio.create_task(self.knife.struck.wait())
        await asyncio.wait((reached, struck), return_when=asyncio.FIRST_COMPLETED)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(SETTLED_S):  # Events come after all else
                await struck
        struck.cancel()
        if not self.knife.struck.is_set():
            await reached
            raise AssertionError(f"{cut}: there was no such step: {self.knife.steps}")
        await self.another_life()
        await reached
        await self._until(lambda: holds() and not self.stage.status(self.web).under_way, f"{what} by the next one")  # type: ignore[union-attr]

    async def another_life(self) -> None:
        await self.controller.stop(0)
        admin = self.stage.cluster.api.admin
        admin.patch("leases", LEASE, {"spec": {"holderIdentity": ""}}, NAMESPACE)
        self.controller.start()
        await self.controller.ready(PATIENCE_S)
        await self.stage.leader()

    async def _until(self, holds: Callable[[], bool], what: str) -> None:
        await self.stage.until(holds, what)

    # ---- how it stands ----

    def _is_open(self) -> bool:
        return set(self.stage.levels(self.web).values()) == {Level.RESCUE}

    def _rests(self) -> bool:
        status = self.stage.status(self.web)
        return self.stage.is_captured(self.web) and status is not None and not status.alerts

    async def _served(self) -> None:
        """By whom it should be; and the budget knows of it."""
        answer = await self.client.ask(self.web.pod.ip, 8080, timeout_s=10.0)
        assert (answer.status, answer.via) == (200, ""), answer
        await self._budget(1)

    async def _budget(self, expected: int) -> None:
        """As the controller that leads now tells it (I3)."""
        used = -1.0
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(SETTLED_S):
                while used != expected:
                    body = (await self.controller.get("/metrics")).body.decode()
                    found = re.search(r'^hotswitch_budget_used\{of="",scope="mesh"\} (\S+)', body, re.MULTILINE)
                    used = float(found[1]) if found else 0.0
                    await asyncio.sleep(0.05)
        assert used == expected, f"budget: {used} are counted as open, and {expected} are"

    async def _settled(self) -> None:
        """The proxy is there, and ready as far as the API tells: conditions are the kubelet's to write."""
        await self.web.pod.ready(PATIENCE_S)
        await self._budget(0)

    # ---- what must be so afterwards ----

    async def _as_before(self) -> None:
        """Nothing of ours is left, and nothing of anybody else's is gone (I4)."""
        await self._until(lambda: self.stage.condition(self.web).get("status", "True") == "True", "condition")
        assert traces(self.stage, self.web) == self.before
        status = self.stage.status(self.web)
        assert status is not None and not status.wanted and status.tls_mode_before is None
        assert (await self.client.ask(self.web.pod.ip, 8080, timeout_s=10.0)).via == "sidecar"

    def _growing(self, first: int, act: int) -> None:
        """Terms and generations only grow, in what is written and in what is done; no two acts at once (I6)."""
        numbers = [(each.term, each.generation) for each in self.stage.written(self.web)[first:]]
        assert all(one[0] <= two[0] and one[1] <= two[1] for one, two in itertools.pairwise(numbers)), numbers
        acts = self.knife.acts[act:]
        done = [each.generation for each in sorted(acts, key=lambda each: each.ended) if each.outcome == "done"]
        assert done == sorted(done), f"an order of an older generation was followed: {acts}"
        own = sorted((each for each in acts if not each.orphan), key=lambda each: each.began)
        assert all(one.ended < two.began for one, two in itertools.pairwise(own)), f"two acts at once: {acts}"

    async def _told(self, first: int) -> None:
        """Somebody who only reads Events knows what was done: opened once and restored once, whoever said so (I8)."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(SETTLED_S):
                while self._acts_told(first) != [Code.OPENED, Code.RESTORED]:
                    await asyncio.sleep(0.05)
        assert self._acts_told(first) == [Code.OPENED, Code.RESTORED]

    def _acts_told(self, first: int) -> list[str]:
        """Events of acts, in turn; the end of a matter is none. One of before that was counted up is of this act,
        unless it has one of its own: a successor does not know of the counting."""
        name, found = self.web.pod.name, dict[str, str]()
        earlier = {each["metadata"]["name"] for each in self.stage.events[:first]}
        for each in self.stage.events[first:]:
            ends = each["type"] == "Normal" and each["reason"] in (Code.OPENED, Code.CHANGED)
            if each["involvedObject"]["name"] == name and each["reason"] in ACTS and not ends:
                found[each["metadata"]["name"]] = each["reason"]
        own = {code for event, code in found.items() if event not in earlier}
        return [code for event, code in found.items() if event not in earlier or code not in own]


def traces(stage: Stage, web: Published) -> tuple[Any, ...]:
    """All that hotswitch could have left behind, or broken."""
    pod = stage.pods[web.pod.name]
    labels = pod["metadata"].get("labels", {})
    said = {key: value for key, value in pod["metadata"].get("annotations", {}).items() if key != names.STATUS}
    helpers = [each["name"] for each in pod["spec"].get("ephemeralContainers", ())]
    return (
        kernel(web.pod).fingerprint,
        stage.rules(web).count("elements"),
        labels,
        said,
        helpers,
        stage.container(web, "app")["restartCount"],
    )


async def played(stage: Stage, number: int) -> Played:
    name = f"rescue-{number}"
    web = await stage.web(name, timings=QUICK, annotations=ONLY_RESCUE, **LIVES)
    await stage.cluster.service(name, [web], publishNotReadyAddresses=True)
    client = await stage.cluster.box.client(f"to-{name}")
    assert (await client.ask(web.pod.ip, 8080)).via == "sidecar"
    knife = Knife(stage.cluster.api, name, stage.controllers[0])
    await stage.until(lambda: bool(stage.container(web, "app").get("ready")), "its app is ready")
    return Played(stage, web, knife, client, traces(stage, web))


async def sweep(stage: Stage, whens: Sequence[When]) -> None:
    """Every cut of the opening with one of the closing, until there are none left."""
    play, failed = await played(stage, 0), []
    with contextlib.ExitStack() as stack:
        stack.enter_context(play.knife.drawn())
        opened, closed = await play.cycle(None, None)
        print(f"opened by {opened}, closed by {closed}", file=sys.stderr)
        pairs = list(itertools.zip_longest(cuts(opened, *whens), cuts(closed, *whens)))
        for number, (opening, closing) in enumerate(pairs, 1):
            began_s = time.monotonic()
            try:
                await play.cycle(opening, closing)
                print(f"  {opening} | {closing}: {time.monotonic() - began_s:.1f} s", file=sys.stderr)
            except (AssertionError, TimeoutError) as failure:
                if not EVERY:
                    raise
                failed.append(f"{opening} | {closing}: {failure}"[:3000])
                print(f"  FAILED {failed[-1]}", file=sys.stderr)
                stack.close()
                play = await played(stage, number)
                stack.enter_context(play.knife.drawn())
    assert not failed, "\n".join(failed)


def test_controller_is_killed_at_every_step_of_a_rescue(stage: Stage, runner: asyncio.Runner) -> None:
    runner.run(sweep(stage, tuple(When) if EVERY else (When.AFTER,)))
