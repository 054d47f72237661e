"""How a reading of the facts becomes a `Diagnosis`: what is wrong, how sure we are, and why (I8).

The bar depends on what an act gives away. CONFIRMED: the first source is beyond doubt by its own rule. CORROBORATED: a
second, independent source agrees and the fault has stood for `direct_after_s`.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum, auto
from functools import cached_property

from hotswitch.decide.evidence import Patience, answers, fresh_dump, path_blames_proxy, trailing
from hotswitch.model import Diagnosis, Facts, Fault, Grade, Listeners, Port, Probe, ProbeOutcome, Thresholds

SURE: frozenset[Grade] = frozenset({Grade.CONFIRMED, Grade.CORROBORATED})


class Source(Enum):
    """Where a second opinion can come from; none shares its reason to be wrong with 15021 or the listeners' dump."""

    CONTAINER = auto()
    DUMPING = auto()
    STOPPED = auto()
    PATH = auto()


class Case:
    """The facts of one pod at one instant, with the thresholds they are measured by. Each reading asks for the same few
    things, and this is the hot path, so they are worked out once."""

    def __init__(self, facts: Facts, thresholds: Thresholds) -> None:
        self.facts, self.thresholds = facts, thresholds

    @cached_property
    def patience(self) -> Patience:
        return Patience.of(self.facts, self.thresholds)

    @cached_property
    def answers(self) -> tuple[Probe, ...]:
        return answers(self.facts)

    @cached_property
    def newest(self) -> ProbeOutcome | None:
        return self.answers[-1].outcome if self.answers else None

    @cached_property
    def silent(self) -> tuple[Probe, ...]:
        """The newest probes, as far as none was answered."""
        return self.run_of(ProbeOutcome.TIMEOUT)

    def run_of(self, outcome: ProbeOutcome) -> tuple[Probe, ...]:
        return trailing(self.answers, outcome)

    @cached_property
    def dump(self) -> Listeners | None:
        return fresh_dump(self.facts)

    @cached_property
    def listening(self) -> frozenset[Port]:
        """By a fresh dump; look at `dump` for whether there is one."""
        return self.dump.ports if self.dump else frozenset()

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
