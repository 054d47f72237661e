"""What agents said of one pod: the newest state, and the lines that were not told to people yet (I8).

A line is the agent's to keep until it is told and the pod's status says so: then whoever leads next can go on from it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from hotswitch.api.agent.checked import seconds, text
from hotswitch.api.agent.reports import ability_of, diagnosis_of, drilled_of, standing_of
from hotswitch.api.agent.v1 import agent_pb2 as wire
from hotswitch.api.drills import Drilled
from hotswitch.controller.agents.limits import LINES_AT_MOST
from hotswitch.decide.levels import justified
from hotswitch.model import Capabilities, Diagnosis, Fault, PodUid, Standing
from hotswitch.report.journal import Entry

SAME_S = 1.0
_INSTANTS = ("opened_s", "expires_s", "fault_since_s", "hold_down_until_s")
_WELL = frozenset({Fault.WELL, Fault.UNKNOWN, Fault.STARTING})


@dataclass(frozen=True, slots=True, kw_only=True)
class PodState:
    """Instants are the loop's of this controller. `agent`: who says so, in words."""

    agent: str
    standing: Standing
    diagnosis: Diagnosis
    able: Capabilities
    identity_expires_in_s: float | None = None
    path_passes: int | None = None
    istio_rules: str = ""
    drilled: Drilled | None = None

    @property
    def is_restless(self) -> bool:
        """Whether there is anything that people should be told."""
        standing = self.standing
        return standing.is_open or standing.fault is not Fault.WELL or self.diagnosis.fault not in _WELL

    @property
    def is_sick(self) -> bool:
        return justified(self.diagnosis)

    @property
    def waits(self) -> bool:
        """A fault that would be acted on, and is not."""
        return justified(self.diagnosis) and not self.standing.is_open


def state_of(report: wire.PodReport, agent: str, now_s: float) -> PodState:
    """Raises Malformed."""
    left_s = report.identity_expires_in_s if report.HasField("identity_expires_in_s") else None
    return PodState(
        agent=agent,
        standing=standing_of(report.standing, now_s),
        diagnosis=diagnosis_of(report.diagnosis, now_s),
        able=ability_of(report.ability),
        identity_expires_in_s=None if left_s is None else seconds("identity_expires_in_s", left_s, at_least=-1e9),
        path_passes=report.path_passes if report.HasField("path_passes") else None,
        istio_rules=text(report.istio_rules),
        drilled=drilled_of(report.drilled) if report.HasField("drilled") else None,
    )


def steady(known: PodState, state: PodState) -> PodState:
    """With the instants of `known` where they are the same: they come as ages, of messages that were on their way for a
    little longer or shorter, and each that differs would be a write to the pod."""
    was, now = known.standing, state.standing
    same = {name: getattr(was, name) for name in _INSTANTS if _is_same(getattr(was, name), getattr(now, name))}
    before, recent = was.recent_faults_s, now.recent_faults_s
    if len(before) == len(recent) and all(map(_is_same, before, recent)):
        same["recent_faults_s"] = before
    return replace(state, standing=replace(now, **same))


def _is_same(one_s: float | None, other_s: float | None) -> bool:
    return one_s is not None and other_s is not None and abs(one_s - other_s) <= SAME_S


def nobody_waits(up_to: int) -> None:
    return None


@dataclass(slots=True)
class Told:
    """`confirm(up_to)`: tells the agent what it need not say again. Numbers are the agent's, 0 where it has none."""

    uid: PodUid
    state: PodState
    lines: deque[Entry] = field(default_factory=lambda: deque(maxlen=LINES_AT_MOST))
    dropped: int = 0
    confirm: Callable[[int], None] = nobody_waits
    _heard: int = 0
    _taken: int = 0
    _written: int = 0

    def add(self, line: Entry, number: int = 0) -> None:
        """The oldest goes when nobody fetches them; that it went is counted. One that was heard on a link before this
        one is not heard again."""
        if number and number >> 32 == self._heard >> 32 and number <= self._heard:
            if number <= self._written:
                self.confirm(self._written)
            return
        self.dropped += len(self.lines) == LINES_AT_MOST
        self.lines.append(line)
        self._heard = number

    def take(self) -> list[Entry]:
        taken = list(self.lines)
        self.lines.clear()
        self._taken = self._heard
        return taken

    def written(self) -> None:
        """All that was taken so far is told, and the pod's status says so."""
        if self._written != self._taken:
            self._written = self._taken
            self.confirm(self._written)
