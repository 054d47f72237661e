"""The API server asks to be left alone for a while (Retry-After of a 429 or 503): so it is, whatever else is news."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import pytest

from hotswitch.api.status import PodStatus
from hotswitch.cluster.failure import ApiFailure
from hotswitch.controller.kept import LEAVE_ALONE_AT_MOST_S, Kept
from hotswitch.controller.seen import SeenPod
from tests.controller.world import OPEN, leading, run

pytestmark = pytest.mark.k8s
WAIT_S = 0.4


@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize("nth", [1, 2], ids=["write-ahead", "what stands"])
def test_status_is_not_written_before(status: int, nth: int, monkeypatch: pytest.MonkeyPatch) -> None:
    async def story() -> None:
        world, uid = leading()
        write, loop, asked_s, done = world.api._write, asyncio.get_running_loop(), list[float](), asyncio.Event()

        def writing(pod: SeenPod, page: PodStatus, condition: Mapping[str, Any] | None) -> str:
            asked_s.append(loop.time())
            if len(asked_s) == nth:
                loop.call_later(WAIT_S / 4, world.workers[uid].nudge)
                raise ApiFailure(status, "Busy", "later", retry_after_s=WAIT_S)
            version = write(pod, page, condition)
            if not page.under_way:
                done.set()
            return version

        monkeypatch.setattr(world.api, "_write", writing)
        world.kill(uid)
        working = asyncio.create_task(world.workers[uid].run())
        async with asyncio.timeout(30):
            await done.wait()
        working.cancel()
        assert world.levels(uid) == OPEN and asked_s[nth] - asked_s[nth - 1] >= WAIT_S

    run(story)


def test_no_pod_waits_for_longer() -> None:
    kept = Kept()
    kept.heed(ApiFailure(503, "Busy", "later", retry_after_s=3600.0))
    assert kept.leave_alone_s == LEAVE_ALONE_AT_MOST_S
