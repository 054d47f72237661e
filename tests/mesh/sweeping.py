"""One way into a bypass and back, played again and again, with the controller killed at another step each time.

First it is played undisturbed and written down, as who is spoken to sees it (knife); then killed at each of these steps
(killing). HOTSWITCH_KILL_STEPS=all kills at every step and moment; otherwise at a few.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import sys
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

from hotswitch.sandbox.cluster.relay import Relay
from hotswitch.sandbox.kubelet import Timings
from tests.mesh.killing import Path, Played, traces
from tests.mesh.knife import Cut, Knife, When, cuts
from tests.mesh.stage import Stage, staged
from tests.mesh.words import Words
from tests.report.receiving import Server

EVERY = os.environ.get("HOTSWITCH_KILL_STEPS", "") == "all"
QUICK = Timings(scale=0.2, backoff_first_s=2.0, backoff_max_s=5.0, backoff_reset_s=10.0)
"""A sidecar that crashes is soon started again, however often it has crashed."""


@dataclass
class Scene:
    """A stage whose alerts are received. `hook`: by whom."""

    stage: Stage
    hook: Server
    kept: dict[str, Played] = field(default_factory=dict)

    async def played(self, path: Path, number: int) -> Played:
        if path.keeps and path.name in self.kept:
            return replace(self.kept[path.name], path=path)
        stage, name = self.stage, f"{path.name}-{number}"
        web = await stage.web(name, timings=QUICK, **path.pod)
        await stage.cluster.service(name, [web], publishNotReadyAddresses=True)
        client = await stage.cluster.box.client(f"to-{name}")
        assert (await client.ask(web.pod.ip, 8080)).via == "sidecar"
        knife = Knife(stage.cluster.api, name, stage.controllers[0])
        await stage.until(lambda: bool(stage.container(web, "app").get("ready")), "its app is ready")
        words = Words(stage, web, self.hook)
        made = self.kept[path.name] = Played(path, stage, web, knife, client, words, traces(stage, web))
        return made

    async def sweep(
        self, path: Path, sample: Sequence[tuple[Cut | None, Cut | None]] = (), *, every: bool = EVERY
    ) -> None:
        """Every cut of the opening with one of the closing, of the fewer again; or `sample` alone."""
        made = itertools.count()
        play = await self.played(path, next(made))
        pairs = list(sample) if sample and not every else [(None, None)]
        failed, spoiled = list[str](), False
        for opening, closing in pairs:
            if spoiled:
                play = await self.played(path, next(made))
            began_s, spoiled = time.monotonic(), False
            try:
                with play.knife.drawn():
                    steps = await play.cycle(opening, closing)
                print(f"  {path.name}: {opening} | {closing}: {time.monotonic() - began_s:.1f} s", file=sys.stderr)
                if opening is closing is None:
                    print(f"opened by {steps[0]}, closed by {steps[1]}", file=sys.stderr)
                    moments = tuple(When) if EVERY else (When.AFTER,)
                    ways = cuts(steps[0], *moments), cuts(_of_its_own(*steps), *moments)
                    pairs += [tuple(way[at % len(way)] for way in ways) for at in range(max(map(len, ways)))]
            except (AssertionError, TimeoutError) as failure:
                if not EVERY:
                    raise
                failed.append(f"{path.name}: {opening} | {closing}: {failure}"[:3000])
                print(f"  FAILED {failed[-1]}", file=sys.stderr)
                spoiled = True
        assert not failed, "\n".join(failed)


def _of_its_own(opened: Sequence[str], closed: Sequence[str]) -> list[str]:
    """Steps of the closing: what was open may be written down once more, or not."""
    return [step for step in closed if not (step.startswith("status") and step in opened)]


@asynccontextmanager
async def scene(tier: str, **policy: Any) -> AsyncIterator[Scene]:
    """With a receiver of alerts, and without a controller yet."""
    async with Server() as hook:
        receiver = {"name": "hook", "type": "webhook", "url": hook.url, "allowNetworks": ["127.0.0.0/8"]}
        async with staged(tier, alerts={"receivers": [receiver]}, **policy) as stage:
            relay = await Relay.open(stage.cluster.box.network.node.netns, hook.port)
            try:
                yield Scene(stage, hook)
            finally:
                await relay.close()


@contextmanager
def entered(runner: asyncio.Runner, within: AbstractAsyncContextManager[Any]) -> Iterator[Any]:
    made = runner.run(within.__aenter__())
    try:
        yield made
    finally:
        runner.run(within.__aexit__(None, None, None))
