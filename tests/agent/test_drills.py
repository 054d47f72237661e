"""Drills of pods that go while they are drilled, and that go wrong in ways nobody thought of (S4.4, I6)."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from hotswitch.agent.drill import Drill, Report, refusal
from hotswitch.agent.drills import Drills
from hotswitch.agent.guard import Guard
from hotswitch.api.drills import Result
from hotswitch.config.agentfile import DrillSettings
from hotswitch.model import PodRef, PodUid
from hotswitch.observe.through import Through
from hotswitch.report.journal import Journal
from hotswitch.report.metrics import Metrics

pytestmark = pytest.mark.unit

POD = PodRef("web-0", "shop", PodUid("uid"), "deploy/web")


class Odd:
    """A guard that cannot be asked."""

    pod = POD
    settings = SimpleNamespace(drill=True)

    @property
    def closed(self) -> bool:
        raise RecursionError("odd")


def test_a_drill_goes_wrong_and_is_not_the_last_one(tmp_path: Path) -> None:
    async def story() -> None:
        guards = [cast(Guard, Odd())]
        with contextlib.closing(Journal(tmp_path / "journal")) as journal:
            drills = Drills(lambda: guards, journal, Metrics())
            drills._began_unix_s = 0.0  # its turn came long ago
            drills._settings = settings = DrillSettings(every_s=60.0)
            await drills._look_safely("shop/deploy/web", guards, settings)
            (line,) = journal.read()
            assert line.event == "drill" and "odd" in line.failed
            await drills._look_safely("shop/deploy/web", guards, settings)
            assert len(journal.read()) == 1  # not again and again

    asyncio.run(story())


def test_nothing_is_asked_of_a_pod_that_was_let_go() -> None:  # I6
    """Its namespace's number may be another pod's by now."""

    async def story() -> None:
        guard: Any = SimpleNamespace(closed=True, pod=POD, standing=None)
        assert refusal(guard)
        report = Report()
        await Drill(guard, 1.0, "schedule")._ask(cast(Through, None), report, 0.0)
        assert report.result is Result.INTERRUPTED and report.served == 0

    asyncio.run(story())
