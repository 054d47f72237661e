"""How often a pod is decided on although there is no news of it: for renewals, and for thresholds of time."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable

from hotswitch.model import Diagnosis, Fault, Standing

OPEN_STEP_S = 0.25  # an open or faulty pod
IDLE_STEP_S = 30.0
REFUSED_STEP_S = 1.0  # while the rules are not as they must be: istio-init has not run yet, or somebody's NAT is there


def pause_s(standing: Standing, diagnosis: Diagnosis, refusal: str) -> float:
    """`refusal`: why the gate must not be written; empty when it may be."""
    if standing.is_open or diagnosis.fault is not Fault.WELL:
        return OPEN_STEP_S
    return REFUSED_STEP_S if refusal else IDLE_STEP_S


class Rounds:
    """Calls `call` after what `pause` says, again and again, until it is closed."""

    def __init__(self, call: Callable[[], None], pause: Callable[[], float]) -> None:
        self._call, self._pause = call, pause
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._part = random.random()  # of the first pause: not all pods of an agent are decided on at once
        self._closed = False

    def begin(self) -> None:
        """The pause begins now, and is as long as it should be now."""
        if self._timer:
            self._timer.cancel()
        if not self._closed:
            self._timer = self._loop.call_later(self._part * self._pause(), self._round)

    def _round(self) -> None:
        self._part = 1.0
        self.begin()
        self._call()

    def close(self) -> None:
        self._closed = True
        if self._timer:
            self._timer.cancel()
