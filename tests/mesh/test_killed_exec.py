"""The controller is killed at every step of a bypass by Istio's own commands, and of the restore (S4.3, I1, I4, I6).

Nothing in the kernel ends such an opening, and a command goes on when whoever wanted it is dead. So the next controller
looks at the pod for a minute before it writes down what stands: that minute is waited for when all steps are played.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, ClassVar

import pytest

from hotswitch.decide.codes import Code
from hotswitch.model import Direction, Level
from tests.agent.keeper import rules, until
from tests.mesh.killing import IN, OUT, Path, Played, ordered
from tests.mesh.knife import Cut, When
from tests.mesh.sweeping import EVERY, Scene, entered, scene

pytestmark = pytest.mark.envoy
BOTH = ["direct", "hold"]
CAPTURED = dict.fromkeys(Direction, Level.CAPTURE)


class ByExec(Path):
    name = "exec"
    pod: ClassVar[Mapping[str, Any]] = {"protected": False, "interception": "TPROXY"}
    levels: ClassVar[Mapping[Direction, Level]] = {IN: Level.DIRECT, OUT: Level.DIRECT}
    told = (Code.OPENED_BY_ORDER, Code.CLOSED_BY_ORDER)
    patience_s = told_within_s = 180.0

    @asynccontextmanager
    async def cause(self, play: Played, go: Callable[[], None]) -> AsyncIterator[None]:  # type: ignore[override]
        go()
        async with ordered(play, "direct"):
            yield

    def stands(self, play: Played) -> bool:
        """Said, or about to be."""
        status = play.status
        return status is not None and (status.wanted or status.levels) == self.levels

    async def served(self, play: Played) -> None:
        await until(lambda: self._via(play, ""), "nobody is served by the app itself")

    async def _via(self, play: Played, wanted: str) -> bool:
        try:
            answer = await play.client.ask(play.web.pod.ip, 8080, timeout_s=10.0)
        except OSError:
            return False
        return (answer.status, answer.via) == (200, wanted)

    def is_open(self, play: Played) -> bool:
        return "15001" not in play.stage.rules(play.web)

    def closes(self, play: Played) -> bool:
        status = play.status
        return status is not None and (status.wanted or status.levels) == CAPTURED

    async def ends(self, play: Played) -> None:
        await until(lambda: self._via(play, "sidecar"), "the sidecar is not back")
        await until(lambda: rules(play.web.pod).fingerprint == play.before[0], "the rules are not those of before")
        if EVERY or play.rests():
            await play.as_before()


@pytest.fixture(scope="module")
def made(runner: asyncio.Runner) -> Iterator[Scene]:
    levels = {"inbound": BOTH, "outbound": BOTH}
    with entered(runner, scene("tier-2-direct", levels=levels, actuators=["exec"])) as made:
        runner.run(made.stage.controller())
        yield made


def test_controller_is_killed_while_istios_commands_run(made: Scene, runner: asyncio.Runner) -> None:
    cuts = Cut("clean-up", 1, When.AFTER), Cut("set-up", 1, When.DURING)
    runner.run(made.sweep(ByExec(), [cuts]))
