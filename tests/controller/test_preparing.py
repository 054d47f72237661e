"""The helper is put into pods before a fault: into new ones too, whatever one odd pod does, and without a storm."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from hotswitch.controller import preparing
from hotswitch.controller.preparing import Preparing
from hotswitch.controller.seen import Life
from tests.controller.world import Kernel, World, run

pytestmark = pytest.mark.k8s


class Helper(Kernel):
    """Counts for which pods it was prepared."""

    def __init__(self, missing: str = "") -> None:
        super().__init__()
        self.missing, self.asked = missing, list[str]()

    async def prepare(self, target: Any) -> str:
        self.asked.append(target.pod.uid)
        if target.pod.name == "odd":
            raise RuntimeError("nobody foresaw this")
        return self.missing


class Pods(World):
    def forget(self, uid: str) -> None: ...

    @property
    def pods(self) -> dict[str, Any]:
        return self.api.pods


def made(world: Pods, helper: Helper, said: list[str]) -> Preparing:
    found = Preparing(world, {"helper": helper}, said.append)  # type: ignore[arg-type]
    found.start()
    return found


async def settled(found: Preparing) -> None:
    for _ in range(20):
        await asyncio.sleep(0)
    assert found._wanted.empty()


def new(world: Pods, name: str) -> str:
    uid = world.add(name)
    world.api.change(uid, helper="")
    return uid


def test_odd_pods_keep_no_other_from_being_prepared(caplog: pytest.LogCaptureFixture) -> None:
    async def story() -> None:
        world, helper = Pods(), Helper()
        odd = new(world, "odd")
        found = made(world, helper, [])
        for _ in range(2 * preparing.AT_ONCE):
            found.consider(odd)
            await settled(found)
        uid = new(world, "web-0")
        found.consider(uid)
        await settled(found)
        assert helper.asked[-1] == uid
        found.stop()

    run(story)


def test_pod_that_starts_is_prepared_once_its_proxy_was_ready(monkeypatch: pytest.MonkeyPatch) -> None:  # S4.2
    monkeypatch.setattr(preparing, "AGAIN_S", 0.01)

    async def story() -> None:
        world, helper, said = Pods(), Helper(), list[str]()
        uid = new(world, "web-0")
        ready = world.api.pods[uid].life
        world.api.change(uid, life=Life(ever_ready=False))
        found = made(world, helper, said)
        await asyncio.sleep(0.03)
        assert not helper.asked and not said
        world.api.change(uid, life=replace(ready, ever_ready=True))
        async with asyncio.timeout(5):
            while not helper.asked:
                await asyncio.sleep(0.005)
        found.stop()

    run(story)


def test_api_server_is_away_as_a_pod_starts() -> None:  # S4.2
    """A fault may come within half a minute, and without a helper there is no rescue."""

    async def story() -> None:
        world, helper = Pods(), Helper("the API server does not take the helper: etcdserver: request timed out")
        uid = new(world, "web-0")
        found = made(world, helper, [])
        await settled(found)
        helper.missing = ""
        async with asyncio.timeout(10):
            while len(helper.asked) < 2:
                await asyncio.sleep(0.01)
        await settled(found)
        assert uid not in found._again
        found.stop()

    run(story)


def test_what_is_missing_for_long_is_asked_for_more_and_more_seldom() -> None:
    """And once only, however often its settings change meanwhile."""

    async def story() -> None:
        world, helper, said = Pods(), Helper("no right to it"), list[str]()
        uid = new(world, "web-0")
        found = made(world, helper, said)
        await settled(found)
        pauses = []
        for _ in range(14):
            pauses.append(found._again[uid][0])
            found.consider(uid)
            await settled(found)
        assert said == ["shop/web-0: no right to it"] and len(found._again) == 1
        assert pauses == sorted(pauses) and pauses[0] == preparing.AGAIN_S and pauses[-1] == preparing.SELDOM_S
        del world.api.pods[uid]
        found.consider(uid)
        await settled(found)
        assert not found._again and not found._said
        found.stop()

    run(story)
