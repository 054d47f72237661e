"""Several questions to one proxy's 15021 at once, from where this process is (S4.2b).

Each on a fresh connection: which worker gets it is the kernel's choice, so several tell more than one, and take no
longer. What our own loop was too late for counts as not asked.
"""

from __future__ import annotations

from collections.abc import Callable

from hotswitch.model import HEALTH, Opinion, Port, Probe, ProbeOutcome
from hotswitch.observe.health import READY_PATH, HttpProbe

AT_ONCE = 3
SAID = frozenset({ProbeOutcome.OK, ProbeOutcome.UNREADY})


class Asked:
    """`done(Opinion)` is called exactly once, unless `cancel()` comes first."""

    def __init__(
        self, address: str, done: Callable[[Opinion], None], *, timeout_s: float, lag_s: float, port: Port = HEALTH
    ) -> None:
        self._done = done
        self._heard: list[ProbeOutcome] = []
        self._probes = [
            HttpProbe(None, (address, port), READY_PATH, self._hear, timeout_s=timeout_s, lag_s=lag_s)
            for _ in range(AT_ONCE)
        ]

    def _hear(self, probe: Probe) -> None:
        self._heard.append(probe.outcome)
        if len(self._heard) == AT_ONCE:
            heard = [each for each in self._heard if each is not ProbeOutcome.INVALID]
            silent = heard.count(ProbeOutcome.TIMEOUT)
            self._done(Opinion(asked=len(heard), answered=sum(each in SAID for each in heard), silent=silent))

    def cancel(self) -> None:
        for probe in self._probes:
            probe.cancel()
