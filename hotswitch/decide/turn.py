"""The workbench of one step: the standing as it changes, and the decisions as they come. Nothing outlives the step."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from hotswitch.decide.codes import Code
from hotswitch.decide.damping import changed, in_episode
from hotswitch.decide.words import why
from hotswitch.model import Act, Decision, Diagnosis, Direction, Fault, Generation, Opening, Standing, View


def with_standing(view: View, standing: Standing) -> View:
    return view if standing is view.standing else replace(view, standing=standing)


class Turn:
    """`before`: the standing at the start, once time had had its way; `view.standing` follows `standing`."""

    def __init__(self, view: View, diagnosis: Diagnosis) -> None:
        self.view, self.diagnosis, self.before = view, diagnosis, view.standing
        self.decisions: list[Decision] = []
        self.refusals: Mapping[str, str] = {}
        self._keys: set[str] = set()

    @property
    def standing(self) -> Standing:
        return self.view.standing

    @standing.setter
    def standing(self, standing: Standing) -> None:
        self.view = with_standing(self.view, standing)

    @property
    def now_s(self) -> float:
        return self.view.now_s

    def act(
        self,
        act: Act,
        code: Code,
        sentence: str,
        openings: Mapping[Direction, Opening] | None = None,
        expiry_s: float = 0.0,
    ) -> None:
        """Something that changes the kernel: the generation grows (I6)."""
        self.standing = replace(self.standing, generation=Generation(self.standing.generation + 1))
        self.decisions.append(self._decision(act, code, sentence, openings or {}, expiry_s))

    def say(self, act: Act, code: Code, sentence: str, detail: str = "") -> None:
        """Something people should know, once per episode and `detail`: HOLD, or PAGE if somebody must come."""
        key = f"{code} {detail}".strip()
        self._keys.add(key)
        if key not in self.before.said:
            self.tell(act, code, sentence)

    def tell(self, act: Act, code: Code, sentence: str) -> None:
        self.decisions.append(self._decision(act, code, sentence, {}, 0.0))

    def _decision(
        self, act: Act, code: Code, sentence: str, openings: Mapping[Direction, Opening], expiry_s: float
    ) -> Decision:
        evidence = why(self.diagnosis, self.refusals)
        generation = self.standing.generation
        return Decision(act, self.view.pod, generation, code, sentence, openings, expiry_s, evidence)

    def end(self) -> tuple[Standing, tuple[Decision, ...]]:
        """What was said is remembered as long as something is wrong."""
        goes_on = in_episode(self.standing) or self.diagnosis.fault is not Fault.WELL
        remembered = self.standing.said if goes_on else frozenset[str]()
        return changed(self.standing, said=remembered | self._keys), tuple(self.decisions)
