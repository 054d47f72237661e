"""Orders that follow each other faster than the namespace can be inspected: nothing fences itself (I5, I6)."""

from __future__ import annotations

import asyncio

import pytest

from hotswitch.sandbox.sandbox import Sandbox
from tests.agent.keeper import Keeper

pytestmark = pytest.mark.envoy
PAUSES_S = [at / 200 for at in range(40)]  # from none to longer than an inspection takes: one falls into its middle


def test_order_while_the_last_restore_is_still_verified(box: Sandbox, runner: asyncio.Runner) -> None:
    """A look that began before our own write would be trusted too late, and the next write refused for nothing."""
    runner.run(_orders(box))


async def _orders(box: Sandbox) -> None:
    pod = await box.pod("quick-0", families=("v4",))
    await pod.ready()
    keeper = Keeper(box, [pod], "quick")
    await keeper.guard()
    try:
        for pause_s in PAUSES_S:
            await asyncio.sleep(pause_s)
            assert (await keeper.bypass(pod, "direct"))["open"] != "closed", keeper.told(pod)
            await asyncio.sleep(pause_s)
            assert (await keeper.restore(pod))["open"] == "closed", keeper.told(pod)
        await keeper.until_rest(pod)
        assert [entry.failed for entry in keeper.entries(pod) if entry.failed] == []
    finally:
        await keeper.end()
