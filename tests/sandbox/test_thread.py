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
            await asyncio.sleep(0.5)
            pid = pod.envoy_pid
            assert pid is not None
            t0_s = time.monotonic()
            os.kill(pid, signal.SIGKILL)
            results = await run.results()
            before = results.started_between(0, t0_s - 0.1).summary()
            assert before.requests > 50 and before.failed == 0
            after = results.summary(t0_s)
            assert after.kinds[Kind.REFUSED] > 50
            assert after.kinds[Kind.VIA_PROXY] > 0, "the kubelet restarts it at once, the first time"
            assert Kind.DIRECT not in after.kinds
            assert pod.proxy.status.restart_count == 1

    asyncio.run(story())
