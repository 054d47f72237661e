"""Questions to 15021 on fresh connections that are under way: only those can meet a worker that is stuck (S4.2b)."""

from __future__ import annotations

from collections.abc import Callable

from hotswitch.kernel.netns import Where
from hotswitch.model import HEALTH, Probe, Thresholds
from hotswitch.observe.health import READY_PATH, HttpProbe

PENDING_AT_MOST = 8  # unanswered ones of one pod at a time: they wait in the accept queue of a hung proxy


class FreshQuestions:
    """`answered` gets every result."""

    def __init__(self, netns: Where, answered: Callable[[Probe], None]) -> None:
        self._netns, self._answered = netns, answered
        self._pending: set[HttpProbe] = set()

    def __bool__(self) -> bool:
        return bool(self._pending)

    def ask(self, thresholds: Thresholds) -> None:
        """Unless too many are waiting already."""
        if len(self._pending) >= PENDING_AT_MOST:
            return
        probe = HttpProbe(
            self._netns,
            ("127.0.0.1", HEALTH),
            READY_PATH,
            lambda result: self._done(probe, result),
            timeout_s=thresholds.probe_timeout_s,
            lag_s=thresholds.loop_lag_s,
        )
        self._pending.add(probe)

    def _done(self, probe: HttpProbe, result: Probe) -> None:
        self._pending.discard(probe)
        self._answered(result)

    def wait_longer_than(self, seconds: float) -> bool:
        return any(probe.age_s > seconds for probe in self._pending)

    def close(self) -> None:
        for probe in self._pending:
            probe.cancel()
