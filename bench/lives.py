"""When a pod's Envoy was really gone, by the kernel's word on that very process.

The container's status comes later: at its memory limit Envoy may be killed while pilot-agent, short of memory too, is
many seconds in leaving; and in a crash loop nothing runs for minutes. A gate that opens then does not open needlessly.
"""

from __future__ import annotations

import asyncio
import math
import os
import time
from dataclasses import dataclass

from hotswitch.sandbox.pod import Pod

MARGIN_S = 15.0  # an opening so soon after Envoy was back, or so long before its last sign of life, is no needless one
POLL_S = 0.2


@dataclass(slots=True)
class Gone:
    """Monotonic instants; `until_s`: when the next one was there."""

    from_s: float
    until_s: float = math.inf


class Lives:
    """Watches one pod until it is stopped."""

    def __init__(self, pod: Pod) -> None:
        self._pod = pod
        self.gone: list[Gone] = []
        self._task = asyncio.get_running_loop().create_task(self._watch())

    def explain(self, instant_s: float) -> bool:
        """Was Envoy gone then, or about to go, or hardly back?"""
        return any(each.from_s - MARGIN_S <= instant_s <= each.until_s + MARGIN_S for each in self.gone)

    def stop(self) -> None:
        self._task.cancel()

    async def _watch(self) -> None:
        while True:
            while (pid := self._pod.envoy_pid) is None:
                await asyncio.sleep(POLL_S)
            if self.gone:
                self.gone[-1].until_s = time.monotonic()
            await _ended(pid)
            self.gone.append(Gone(time.monotonic()))


async def _ended(pid: int) -> None:
    try:
        fd = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    loop, ended = asyncio.get_running_loop(), asyncio.Event()
    loop.add_reader(fd, ended.set)
    try:
        await ended.wait()
    finally:
        loop.remove_reader(fd)
        os.close(fd)
