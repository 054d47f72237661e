"""One pod, one plain client, one killed Envoy: the shortest way through the whole sandbox."""

from __future__ import annotations

import asyncio
import os
import signal
import time

import pytest

from hotswitch.sandbox.outcome import Kind
from hotswitch.sandbox.sandbox import Sandbox

pytestmark = pytest.mark.envoy


def test_sidecar_is_killed_and_nobody_acts() -> None:
    """S4: without hotswitch every request fails until the kubelet has restarted the sidecar."""

    async def story() -> None:
        async with Sandbox() as box:
            pod = await box.pod("web-0")
            client = await box.client("c0")
            await pod.ready()
            run = client.load((pod.ip, 8080), rate=500, seconds=3)
            while run.sent < 200:
                await asyncio.sleep(0.01)
            pid = pod.envoy_pid
            assert pid is not None
            t0_s = time.monotonic()
            os.kill(pid, signal.SIGKILL)
            results = await run.results()
            before = [row.kind for row in results.rows if row.end_s < t0_s]
            assert len(before) > 10 and set(before) == {Kind.VIA_PROXY}
            after = results.summary(t0_s)
            assert after.kinds[Kind.REFUSED] > 50
            assert after.kinds[Kind.VIA_PROXY] > 0, "the kubelet restarts it at once, the first time"
            assert Kind.DIRECT not in after.kinds
            assert pod.proxy.status.restart_count == 1

    asyncio.run(story())
