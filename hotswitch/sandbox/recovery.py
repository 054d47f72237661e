"""Finding a pod's Envoy, signalling it, and waiting until the sidecar is well again: what every fault needs."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from hotswitch.model import HEALTH
from hotswitch.sandbox.estate import ProcessId

if TYPE_CHECKING:
    from hotswitch.sandbox.pod import Pod

POLL_S = 0.005
PATIENCE_S = 15.0


class FaultUnavailable(RuntimeError):
    """This machine or pod cannot have that fault; the message says why."""


class Recovery:
    """The sidecar of one pod, from death to readiness."""

    def __init__(self, pod: Pod) -> None:
        self._pod = pod

    def envoy(self) -> int:
        """Its pid. Raises FaultUnavailable when there is none."""
        pid = self._pod.envoy_pid
        if pid is None:
            raise FaultUnavailable(f"{self._pod.name}: Envoy does not run")
        return pid

    def signal(self, number: int) -> float:
        """Send it, and the instant just before."""
        pid, at_s = self.envoy(), time.monotonic()
        os.kill(pid, number)
        return at_s

    async def kill(self) -> None:
        """SIGKILL, and wait for its end."""
        process = ProcessId.of(self.envoy())
        self.signal(signal.SIGKILL)
        await until(lambda: not process.alive, "Envoy did not end")

    async def recover(self) -> None:
        """Wait until the sidecar runs and is ready; if it is dead or dying, its restart comes without back-off."""
        proxy, process = self._pod.proxy, self._pod.proxy.process
        if not self._pod.envoy_is_well_or_starting:
            proxy.hurry()
            await self._pod.kubelet.until(lambda: proxy.process is not process and proxy.status.running)
        await self._pod.ready()

    async def replace(self) -> None:
        """A fresh Envoy in place of the present one."""
        await self.kill()
        await self.recover()

    async def until_health_answers(self) -> None:
        """Whatever 15021 says."""
        async with asyncio.timeout(PATIENCE_S):
            while True:
                with contextlib.suppress(OSError):
                    await self._pod.ask(self._pod.ip, HEALTH, "/healthz/ready")
                    return
                await asyncio.sleep(POLL_S)


async def until(condition: Callable[[], bool], complaint: str) -> float:
    """Wait for it; the last instant at which it did not hold yet. Raises TimeoutError."""
    before = started = time.monotonic()
    while not condition():
        before = time.monotonic()
        if before > started + PATIENCE_S:
            raise TimeoutError(complaint)
        await asyncio.sleep(POLL_S)
    return before
