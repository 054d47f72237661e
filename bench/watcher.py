"""A naive observer of 15021: what a plain probe sees of a slow but well proxy, and how often it would have switched."""

from __future__ import annotations

import asyncio
import contextlib

from hotswitch.model import HEALTH, Probe, ProbeOutcome
from hotswitch.observe.health import HttpProbe

PERIOD_S = 1.0
SILENT_S = 1.0
LATE_S = 0.25
IN_A_ROW = 3


class Watcher:
    """Asks each second while it lives. Probes during which our own loop was late do not count."""

    def __init__(self, netns: str) -> None:
        self._netns = netns
        self.probes = self.late = self.silent = self.late_runs = self.silent_runs = 0
        self._late_run = self._silent_run = 0
        self._task = asyncio.ensure_future(self._watch())
        self._last: HttpProbe | None = None

    async def _watch(self) -> None:
        where = ("127.0.0.1", HEALTH)
        while True:
            self._last = HttpProbe(
                self._netns, where, "/healthz/ready", self._answered, timeout_s=SILENT_S, lag_s=LATE_S
            )
            await asyncio.sleep(PERIOD_S)

    def _answered(self, probe: Probe) -> None:
        if probe.outcome is ProbeOutcome.INVALID:
            return
        silent = probe.outcome is not ProbeOutcome.OK
        late = silent or probe.ended_s - probe.started_s > LATE_S
        self.probes += 1
        self.late += late
        self.silent += silent
        self._late_run = self._late_run + 1 if late else 0
        self._silent_run = self._silent_run + 1 if silent else 0
        self.late_runs += self._late_run == IN_A_ROW
        self.silent_runs += self._silent_run == IN_A_ROW

    def stop(self) -> None:
        with contextlib.suppress(RuntimeError):
            self._task.cancel()
        if self._last is not None:
            self._last.cancel()
