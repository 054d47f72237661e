"""A pod's share of the rescue while what it must keep up changes, again and again (I2)."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest

from hotswitch.agent.spare import Spare
from hotswitch.capture.spec import CaptureSpec
from hotswitch.config.agentfile import Pod, parse
from hotswitch.report.journal import Journal
from hotswitch.rescue.pod import RescuePod
from hotswitch.rescue.service import Rescue

pytestmark = pytest.mark.unit

WORDS = ("DISABLE", "PERMISSIVE", "STRICT")


def settings(mtls: str) -> Pod:
    pod: dict[str, Any] = {
        "name": "web-0", "namespace": "shop", "uid": "uid", "netns": "/proc/self/ns/net", "addresses": ["10.0.0.7"],
        "capture": {"args": []}, "policy": {"mtls": mtls},
    }  # fmt: skip
    return parse({"pods": [pod]}, "test").pods[0]


class Told:
    """What the rescue is told, which takes a moment."""

    inherited: frozenset[str] = frozenset()

    def __init__(self) -> None:
        self.has: list[str] = []

    async def add(self, pod: RescuePod, identity: object) -> None:
        await asyncio.sleep(0.01)
        self.has.append(str(pod.mtls))

    async def remove(self, key: str) -> None:
        self.has.append("nothing")


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    with contextlib.closing(Journal(tmp_path / "journal")) as written:
        yield written


def made(rescue: Told, journal: Journal) -> Spare:
    return Spare(settings("STRICT"), CaptureSpec(), cast(Rescue, rescue), journal)


def keeping() -> int:
    return sum(getattr(task.get_coro(), "__qualname__", "") == "Spare._keep" for task in asyncio.all_tasks())


def test_rules_change_twice_before_the_rescue_has_taken_them_once(journal: Journal) -> None:  # I2
    async def story() -> None:
        rescue = Told()
        spare = made(rescue, journal)
        await spare.begin(settings("STRICT"))
        await spare.tried.wait()
        await asyncio.gather(*(spare.change(settings(word)) for word in WORDS))
        assert keeping() == 1
        await spare.close(leave=True)
        assert keeping() == 0 and rescue.has[-1] == WORDS[-1]

    asyncio.run(story())


def test_the_pod_goes_while_its_rules_change(journal: Journal) -> None:  # I4
    async def story() -> None:
        rescue = Told()
        spare = made(rescue, journal)
        await spare.begin(settings("STRICT"))
        await spare.tried.wait()
        changing = [asyncio.create_task(spare.change(settings(word))) for word in WORDS]
        await asyncio.sleep(0)
        await spare.close(leave=False)
        await asyncio.gather(*changing)
        assert keeping() == 0 and rescue.has[-1] == "nothing"

    asyncio.run(story())
