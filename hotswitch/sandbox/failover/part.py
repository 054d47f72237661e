"""One process of the stage, which can be killed, frozen and started again."""

from __future__ import annotations

import signal
from collections.abc import Callable

from hotswitch.sandbox.process import Process


class Part:
    def __init__(self, begin: Callable[[], Process]) -> None:
        self._begin = begin
        self.process = begin()

    @property
    def running(self) -> bool:
        return self.process.running

    def freeze(self) -> None:
        self.process.signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self.process.signal(signal.SIGCONT)

    async def kill(self) -> None:
        await self.process.stop()

    def again(self) -> None:
        if not self.running:
            self.process = self._begin()
