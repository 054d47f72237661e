"""One way into a bypass and back, with a controller that is killed at one step of each, and what must be so then.

The app is served by whom it should be, the budget is known, the kernel shows what the status says, what was done is
told exactly once (Events, alerts, journal), and in the end all is as it was.

The Lease is given away by hand each time: that a leader waits for a whole one is shown elsewhere (test_interrupted).
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import re
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, ClassVar

from hotswitch.api import names
from hotswitch.api.status import PodStatus
from hotswitch.cluster.kinds import PODS
from hotswitch.controller.settings import LEASE
from hotswitch.model import Direction, Level
from hotswitch.sandbox.clients import Client
from hotswitch.sandbox.cluster.installed import NAMESPACE, Controller
from hotswitch.sandbox.cluster.published import Published
from tests.agent.keeper import rules as kernel
from tests.agent.keeper import until
from tests.mesh.knife import Cut, Knife, When
from tests.mesh.stage import PATIENCE_S, SHOP, Stage
from tests.mesh.words import Words

SETTLED_S = 10.0
IN, OUT = Direction.INBOUND, Direction.OUTBOUND
LIVES = {"liveness": True, "app_period_s": 2.0, "app_failures": 8}


class Path:
    """What is played. `pod`: how `Stage.web` makes it. `levels`: that stand then. `told`: codes, each once. `used`: of
    the budget. `patience_s`: until all is at rest. `keeps`: one pod for all of this name."""

    name = "rescue"
    pod: ClassVar[Mapping[str, Any]] = {}
    levels: ClassVar[Mapping[Direction, Level]] = {IN: Level.RESCUE, OUT: Level.RESCUE}
    told: tuple[str, ...] = ()
    used = 1
    patience_s, told_within_s = PATIENCE_S, SETTLED_S
    keeps = False

    async def prepare(self, play: Played) -> None:
        """Before each time."""

    def cause(self, play: Played, go: Callable[[], None]) -> AbstractAsyncContextManager[object]:
        """Leads there, and back at its end. It calls `go` when what is to be cut begins."""
        raise NotImplementedError

    def stands(self, play: Played) -> bool:
        return play.stage.levels(play.web) == self.levels

    async def served(self, play: Played) -> None:
        """While it stands: by whom it should be."""
        answer = await play.client.ask(play.web.pod.ip, 8080, timeout_s=10.0)
        assert (answer.status, answer.via) == (200, ""), answer

    def is_open(self, play: Played) -> bool:
        """As the kernel shows it."""
        return bool(openings(play.stage, play.web))

    def closes(self, play: Played) -> bool:
        """It goes back, as far as has to be waited for before a command may come late."""
        return play.rests()

    async def ends(self, play: Played) -> None:
        await play.as_before()

    async def acted(self, play: Played, since: int) -> None:
        """Whoever acts in the pod has acted once each way. `since`: as `mark` said before."""

    def mark(self, play: Played) -> int:
        return 0


@asynccontextmanager
async def crashing(play: Played, go: Callable[[], None]) -> AsyncIterator[None]:
    go()
    async with await play.web.pod.faults.crash_loop():
        yield


def order(word: str) -> dict[str, str]:
    """A person's, as annotations."""
    until = (datetime.now(UTC) + timedelta(hours=1)).isoformat(timespec="seconds")
    return {names.OVERRIDE: word, names.OVERRIDE_UNTIL: until, names.OVERRIDE_REASON: "test"}


@asynccontextmanager
async def ordered(play: Played, word: str, **more: str) -> AsyncIterator[None]:
    """Until the end of the body. `more`: further annotations."""
    told = {**order(word), **more}
    api, name = play.stage.cluster.cluster, play.web.pod.name
    await api.patch_merge(PODS, SHOP, name, {"metadata": {"annotations": told}})
    try:
        yield
    finally:
        await api.patch_merge(PODS, SHOP, name, {"metadata": {"annotations": dict.fromkeys(told)}})


@dataclass
class Played:
    """One pod, and what it was before anything happened to it."""

    path: Path
    stage: Stage
    web: Published
    knife: Knife
    client: Client
    words: Words
    before: tuple[Any, ...]

    @property
    def controller(self) -> Controller:
        return self.knife.controller

    # ---- one bypass and its restore ----

    async def cycle(self, opening: Cut | None, closing: Cut | None) -> tuple[list[str], list[str]]:
        """The steps that were seen of each. Raises AssertionError."""
        path, knife = self.path, self.knife
        await path.prepare(self)
        first, act, mark = len(self.stage.written(self.web)), len(knife.acts), path.mark(self)
        self.words.begin()
        async with path.cause(self, lambda: knife.set(opening)):
            await self._through(opening, lambda: path.stands(self), "opened")
            await path.served(self)
            await self._budget(path.used)
            assert path.is_open(self) is (path.used > 0), f"the status says {path.levels}; {self.stage.rules(self.web)}"
            opened = list(knife.steps)
            late = self._held_back(opening)
            knife.set(closing)
        await self._through(closing, lambda: path.closes(self), "captured")
        late += self._held_back(closing)
        for each in late:
            each.set()
        await until(lambda: all(each.ended for each in knife.acts), "what came late has not ended")
        await self.words.told(path.told, path.told_within_s)
        self._growing(first, act)
        await path.acted(self, mark)
        await path.ends(self)
        return opened, list(knife.steps)

    def _held_back(self, cut: Cut | None) -> list[asyncio.Event]:
        """What lets go of a command that is to come after all others."""
        if cut is None or cut.when is not When.LATE:
            return []
        late, self.knife.let_go = self.knife.let_go, asyncio.Event()
        return [late]

    async def _through(self, cut: Cut | None, holds: Callable[[], bool], what: str) -> None:
        """Until it is so; with a new controller once the old one was killed."""
        reached = asyncio.create_task(self._until(holds, what))
        while cut is not None:
            struck = asyncio.create_task(self.knife.struck.wait())
            await asyncio.wait((reached, struck), return_when=asyncio.FIRST_COMPLETED)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(SETTLED_S):  # Events come after all else
                    await struck
            struck.cancel()
            if not self.knife.struck.is_set():
                await reached
                raise AssertionError(f"{cut}: there was no such step: {self.knife.steps}")
            if cut.then is not None:
                self.knife.set(cut.then)
            cut = cut.then
            await self.another_life()
        await reached
        await self._until(holds, f"{what} by the next one")

    async def another_life(self) -> None:
        await self.controller.stop(0)
        admin = self.stage.cluster.api.admin
        admin.patch("leases", LEASE, {"spec": {"holderIdentity": ""}}, NAMESPACE)
        self.controller.start()
        await self.controller.ready(PATIENCE_S)
        await self.stage.leader()

    async def _until(self, holds: Callable[[], bool], what: str) -> None:
        await self.stage.until(holds, what, self.path.patience_s)

    # ---- how it stands ----

    @property
    def status(self) -> PodStatus | None:
        return self.stage.status(self.web)

    def rests(self) -> bool:
        return self.stage.is_captured(self.web) and self.status is not None and not self.status.alerts

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

    # ---- what must be so afterwards ----

    async def by_the_sidecar(self) -> None:
        await self.web.pod.ready(PATIENCE_S)
        assert (await self.client.ask(self.web.pod.ip, 8080, timeout_s=10.0)).via == "sidecar"

    async def as_before(self) -> None:
        """Nothing of ours is left, and nothing of anybody else's is gone (I4)."""
        await self.by_the_sidecar()
        await self._until(self.rests, "captured, and at rest")
        await self._budget(0)
        await self._until(lambda: self.stage.condition(self.web).get("status", "True") == "True", "condition")
        now = zip(traces(self.stage, self.web), self.before, strict=True)
        differ = [(is_now, was) for is_now, was in now if is_now != was]
        assert not differ, f"not as before: {differ}"
        status = self.status
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


def traces(stage: Stage, web: Published) -> tuple[Any, ...]:
    """All that hotswitch could have left behind, or broken."""
    pod = stage.pods[web.pod.name]
    labels = pod["metadata"].get("labels", {})
    said = {key: value for key, value in pod["metadata"].get("annotations", {}).items() if key != names.STATUS}
    helpers = [each["name"] for each in pod["spec"].get("ephemeralContainers", ())]
    return (
        kernel(web.pod).fingerprint,
        openings(stage, web),
        labels,
        said,
        helpers,
        stage.container(web, "app")["restartCount"],
    )


def openings(stage: Stage, web: Published) -> list[str]:
    """Elements of the gate's maps: what answers for the app's probes leads nobody past the proxy."""
    return [line for line in stage.rules(web).splitlines() if "elements = " in line and "stand_in" not in line]
