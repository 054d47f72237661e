"""The app's own probe through the proxy and straight, again and again: seldom when idle, often on suspicion (S4.2, I2).

What failed in a proxy while it started, or in the one before, says nothing of the one that is ready: it is forgotten.
"""

from __future__ import annotations

import asyncio
import random
import time
from dataclasses import replace
from typing import Protocol

from hotswitch.model import Facts, PathComparison, ProbeOutcome
from hotswitch.observe.pace import Pace
from hotswitch.observe.path import PathProbe, PathReport


class Watcher(Protocol):
    """Who watches the pod."""

    @property
    def urgent(self) -> bool:
        """There is a suspicion, or a gate is open."""
        ...

    def blamed(self) -> None:
        """A request failed in the proxy and worked without it."""
        ...

    def compared(self) -> None:
        """Something is to be told."""
        ...


class Comparisons:
    """`probe` None: the app declares none, and nothing is ever compared. `certificate_ends_unix_s`: the proxy's own, as
    it was last presented (S4.2c)."""

    def __init__(self, probe: PathProbe | None, pace: Pace, watcher: Watcher) -> None:
        self._probe, self._pace, self._watcher = probe, pace, watcher
        self._rest: asyncio.Future[None] | None = None  # the long wait, while it lasts
        self._task: asyncio.Task[None] | None = None
        self.certificate_ends_unix_s: float | None = None
        self.forget()

    def forget(self) -> None:
        """The proxy is ready from now on, and has to prove itself anew."""
        self._path: PathComparison | None = None
        self._streak = 1
        self._passes = None if self._probe is None else 0

    def start(self) -> None:
        if self._probe is not None:
            self._task = asyncio.get_running_loop().create_task(self._compare(self._probe))

    def close(self) -> None:
        if self._task:
            self._task.cancel()

    def hurry(self) -> None:
        """The long wait, if it lasts, is over."""
        if self._rest is not None and not self._rest.done():
            self._rest.set_result(None)

    def obey(self, *, strict: bool) -> None:
        """`strict`: the port of the app's probe takes mTLS only."""
        if self._probe is not None:
            self._probe.strict = strict

    def add_to(self, facts: Facts) -> Facts:
        return replace(facts, path=self._path, path_streak=self._streak, path_passes=self._passes)

    async def _compare(self, probe: PathProbe) -> None:
        idle_s = random.uniform(0, self._pace.path_idle_s)  # not all pods of an agent at once
        while True:
            await self._until_next(idle_s)
            self._compared(await probe.compare())
            idle_s = self._pace.path_idle_s

    async def _until_next(self, idle_s: float) -> None:
        """Idle: a long wait, which suspicion ends at once. A way that failed is tried again soon."""
        if self._watcher.urgent or (self._path is not None and self._path.blames_proxy):
            await asyncio.sleep(self._pace.path_fast_s)
            return
        loop = asyncio.get_running_loop()
        self._rest = loop.create_future()
        end = loop.call_later(idle_s, self.hurry)
        try:
            await self._rest
        finally:
            end.cancel()

    def _compared(self, report: PathReport) -> None:
        last, this = self._path, report.comparison
        same = last is not None and (last.blames_proxy, last.blames_app) == (this.blames_proxy, this.blames_app)
        through = this.proxied in (ProbeOutcome.OK, ProbeOutcome.TLS)
        self._path = this
        self._streak = self._streak + 1 if same else 1
        self._passes = (self._passes or 0) + 1 if through else 0
        if this.blames_proxy:
            self._watcher.blamed()
        if self._certificate_matters(report) or not same or self._watcher.urgent or not through:
            self._watcher.compared()

    def _certificate_matters(self, report: PathReport) -> bool:
        """Another one than before, or one that has ended: nothing else of a proxy changes with it."""
        before, ends = self.certificate_ends_unix_s, report.certificate_ends_unix_s
        if ends is None:
            return False
        self.certificate_ends_unix_s = ends
        return ends != before or ends <= time.time()
