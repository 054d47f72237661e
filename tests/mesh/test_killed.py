"""The controller is killed (SIGKILL) at every step of a bypass and of the restore, and another one begins (I1, I4, I6).

By the helper: `rescue`, and `hold` where a person orders it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

import pytest

from hotswitch.api import names
from hotswitch.decide.codes import Code
from hotswitch.model import Direction, Level
from tests.mesh.killing import IN, LIVES, OUT, Path, Played, crashing, order
from tests.mesh.knife import Cut, When
from tests.mesh.sweeping import Scene, entered, scene

pytestmark = pytest.mark.envoy
LEVELS = ["rescue", "direct", "hold"]
ONLY_RESCUE = {names.LEVELS_INBOUND: "rescue,hold", names.LEVELS_OUTBOUND: "rescue,hold", names.ACTUATORS: "helper"}


@pytest.fixture(scope="module")
def made(runner: asyncio.Runner) -> Iterator[Scene]:
    levels = {"inbound": LEVELS, "outbound": LEVELS}
    with entered(runner, scene("tier-2-direct", levels=levels, actuators=["helper"])) as made:
        runner.run(made.stage.controller())
        yield made


class Rescue(Path):
    name = "rescue"
    pod: ClassVar[Mapping[str, Any]] = {"annotations": ONLY_RESCUE, **LIVES}
    told = (Code.OPENED, Code.RESTORED)
    cause = staticmethod(crashing)  # type: ignore[assignment]


class HeldByOrder(Path):
    """Capture is left alone: nobody is led anywhere, and people are told."""

    name = "ordered"
    levels: ClassVar[Mapping[Direction, Level]] = {IN: Level.HOLD, OUT: Level.HOLD}
    told = (Code.HELD,)
    used = 0
    cause = staticmethod(crashing)  # type: ignore[assignment]

    def __init__(self) -> None:
        self.pod = {"annotations": {**ONLY_RESCUE, **order("hold")}, **LIVES}  # type: ignore[misc]

    async def served(self, play: Played) -> None:
        return None


def test_controller_is_killed_at_every_step_of_a_rescue(made: Scene, runner: asyncio.Runner) -> None:
    runner.run(made.sweep(Rescue()))


def test_controller_is_killed_while_a_person_has_it_held(made: Scene, runner: asyncio.Runner) -> None:
    cuts = Cut("status stands hold/hold", 1, When.BEFORE), Cut("status stands capture/capture", 1, When.AFTER)
    runner.run(made.sweep(HeldByOrder(), [cuts]))
