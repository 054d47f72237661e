"""What 15021 has answered lately, in the order in which it was asked: an answer may come late (S4.2b)."""

from __future__ import annotations

from hotswitch.model import Probe, ProbeOutcome

KEPT_PROBES = 16
CALM_PROBES = 10


class Answers:
    """`calm`: the last CALM_PROBES were good ones, as far as there were so many. `were_ready`: by the newest that says
    anything."""

    def __init__(self) -> None:
        self._probes: list[Probe] = []  # the kept ones: a deque of so few takes four times the memory
        self.calm, self.were_ready = True, False

    def remember(self, result: Probe) -> None:
        late = bool(self._probes) and result.started_s < self._probes[-1].started_s
        self._probes.append(result)
        del self._probes[:-KEPT_PROBES]
        if late:
            self._probes.sort(key=lambda each: each.started_s)
        said = (probe.outcome for probe in reversed(self._probes) if probe.outcome is not ProbeOutcome.INVALID)
        self.were_ready = next(said, None) is ProbeOutcome.OK
        if self.calm and result.outcome is ProbeOutcome.OK:
            return
        recent = self._probes[-CALM_PROBES:]
        self.calm = all(probe.outcome is ProbeOutcome.OK for probe in recent)

    @property
    def kept(self) -> tuple[Probe, ...]:
        return tuple(self._probes)
