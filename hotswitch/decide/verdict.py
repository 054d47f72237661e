"""How a reading of the facts becomes a `Diagnosis`: what is wrong, how sure we are, and why (I8).

The bar depends on what an act gives away. CONFIRMED: the first source is beyond doubt by its own rule. CORROBORATED: a
second, independent source agrees and the fault has stood for `direct_after_s` (architecture.md "Confirmation").
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum, auto

from hotswitch.decide.evidence import Patience, path_blames_proxy
from hotswitch.model import Diagnosis, Facts, Fault, Grade, Thresholds

SURE: frozenset[Grade] = frozenset({Grade.CONFIRMED, Grade.CORROBORATED})


class Source(Enum):
    """Where a second opinion can come from; none shares its reason to be wrong with 15021 or the listeners' dump."""

    CONTAINER = auto()
    DUMPING = auto()
    STOPPED = auto()
    PATH = auto()


@dataclass(frozen=True, slots=True)
class Case:
    """The facts of one pod at one instant, with the thresholds they are measured by."""

    facts: Facts
    thresholds: Thresholds

    @property
    def patience(self) -> Patience:
        return Patience.of(self.facts, self.thresholds)

    def suspects(self, fault: Fault, since_s: float, sentence: str, evidence: Mapping[str, str]) -> Diagnosis:
        return Diagnosis(fault, Grade.SUSPECTED, sentence, evidence, since_s)

    def proves(
        self,
        fault: Fault,
        since_s: float,
        sentence: str,
        evidence: Mapping[str, str],
        *,
        first: Source | None = None,
    ) -> Diagnosis:
        """`first`: the source the proof itself rests on, which cannot be its own second."""
        agreeing = [text for source, text in self._second_sources(since_s).items() if source is not first]
        stood = self.facts.at_s - since_s >= self.thresholds.direct_after_s
        grade = Grade.CORROBORATED if agreeing and stood else Grade.CONFIRMED
        also = {"also": "; ".join(agreeing)} if agreeing else {}
        seen = {**evidence, "stood": f"{self.facts.at_s - since_s:.3f} s", **also}
        return Diagnosis(fault, grade, sentence, seen, since_s)

    def _second_sources(self, since_s: float) -> dict[Source, str]:
        facts, path = self.facts, path_blames_proxy(self.facts, since_s)
        found = {
            Source.CONTAINER: "the container does not run" if facts.container_running is False else "",
            Source.DUMPING: "it writes a core dump" if facts.pressure.dumping else "",
            Source.STOPPED: "every thread is stopped" if facts.pressure.stopped else "",
            Source.PATH: f"the proxied way fails ({path.proxied}), the direct way works" if path else "",
        }
        return {source: text for source, text in found.items() if text}
