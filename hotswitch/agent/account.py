"""What people are told of one pod: lines of the journal, metrics, evidence of a fault (S4.7, I8). After the act."""

from __future__ import annotations

from collections.abc import Mapping

from hotswitch.agent.evidence import Keeper
from hotswitch.config.agentfile import Pod
from hotswitch.decide.levels import justified
from hotswitch.kernel.netns import Where
from hotswitch.model import Diagnosis, Direction, Facts, Level, PodRef, Standing
from hotswitch.report.journal import Journal, entry
from hotswitch.report.metrics import Metrics


class Account:
    def __init__(self, pod: PodRef, journal: Journal, metrics: Metrics, evidence: Keeper) -> None:
        self._pod, self._journal, self._metrics, self._evidence = pod, journal, metrics, evidence
        self._evidence_of_s: float | None = None  # the fault whose evidence is being kept
        self._shown: dict[Direction, Level] = {}

    def note(self, event: str, *, generation: int, evidence: Mapping[str, str] | None = None, **fields: object) -> None:
        self._journal.write(entry(event, self._pod, evidence=evidence, generation=generation, **fields))

    def show(self, standing: Standing, diagnosis: Diagnosis) -> None:
        """What stands and what is seen, for metrics."""
        self._metrics.saw(self._pod, diagnosis)
        for way in Direction:
            if self._shown.get(way) is not standing.levels[way]:
                self._shown[way] = standing.levels[way]
                self._metrics.stands(self._pod, way, standing.levels[way])

    def keep_evidence(
        self, settings: Pod, netns: Where, facts: Facts, diagnosis: Diagnosis, standing: Standing
    ) -> None:
        """Once for each fault, as soon as it is proven."""
        since_s = standing.fault_since_s
        if since_s not in (None, self._evidence_of_s) and justified(diagnosis):
            self._evidence_of_s = since_s
            self._evidence.keep(settings, netns, facts, diagnosis, standing.generation)
