"""Whom an agent asks before it acts on a hang, how long it waits, and what counts when nobody answers (S4.2, I1, I2).

The controller is asked at the first sign, so that its answer is there about when the agent's own evidence is complete.
It may contradict: then nothing is done, and it is asked again while the hang lasts. It may be silent, unable to tell,
or gone: after `second_within_s` from the question, and at once where there is no link, what the agent sees beside 15021
decides (decide.second). So a node that is starved or cut off does not take out its own pods as long as somebody can
tell, and nobody has to be there for an agent to act within its grant. What is open already is not asked about again.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from hotswitch.agent.authority import Authority
from hotswitch.decide.codes import Code
from hotswitch.decide.damping import in_episode
from hotswitch.decide.levels import justified
from hotswitch.decide.second import HANGS, SECOND_OBSERVER, Word, beside, may_hang, word
from hotswitch.decide.track import seen
from hotswitch.model import Diagnosis, Grade, Mode, Opinion, PodUid, View

FIRST_PAUSE_S, LONGEST_PAUSE_S = 1.0, 10.0  # between questions about the same hang
SHORTEST_PAUSE_S = 0.5  # between any two: a stuck worker looks hung and well in turn
QUESTION_S = (0.05, 2.0)  # how long one question from elsewhere may stand, at least and at most
"""Half as long as one asked here: a well proxy answers in a millisecond, and the answer is there when the proof is."""


@dataclass(frozen=True, slots=True)
class Alone:
    """A hang that is proven here and that nobody else sees. `why`: one word, for the metric."""

    why: str
    sentence: str
    code: Code = Code.NOT_SECONDED


class SecondObserver:
    """Of one pod. `alone`: why nothing may be done about the hang that is seen; None: there is none, or it may."""

    def __init__(self, uid: PodUid, authority: Authority) -> None:
        self._uid, self._authority = uid, authority
        self._asked_s = -math.inf  # also about a hang before this one
        self._rest()

    def _rest(self) -> None:
        self.alone: Alone | None = None
        self._since_s: float | None = None  # when this hang was first seen here
        self._agreed = ""
        self._asked, self._reachable = False, True
        self._word = Word.NOTHING
        self._heard = ""  # what the newest answer says
        self._pause_s = FIRST_PAUSE_S

    def shown(self, view: View) -> View:
        """What may be decided on: a hang that only one has seen is no more than suspected."""
        if self._since_s is None and not may_hang(view.facts):
            return view
        hang = seen(view)
        if hang.fault not in HANGS or hang.grade is Grade.NONE or view.policy.mode is Mode.OFF:
            self._rest()
            return view
        if view.standing.is_open and in_episode(view.standing):
            return view
        self._since_s = view.now_s if self._since_s is None else self._since_s
        self._ask(view)
        if not justified(hang):
            return view
        self._agreed = self._agreed or self._agreement(view, hang, view.now_s - self._since_s)
        return _judged(view, _seconded(hang, self._agreed) if self._agreed else self._doubted(hang))

    # ---- asking ----

    def _ask(self, view: View) -> None:
        pause_s = self._pause_s if self._asked else SHORTEST_PAUSE_S
        if self._agreed or view.now_s - self._asked_s < pause_s:
            return
        timeout_s = min(max(view.policy.thresholds.probe_timeout_s / 2, QUESTION_S[0]), QUESTION_S[1])
        self._reachable = self._authority.ask(self._uid, timeout_s)
        if self._reachable:
            self._pause_s = min(2 * self._pause_s, LONGEST_PAUSE_S) if self._asked else FIRST_PAUSE_S
            self._asked, self._asked_s = True, view.now_s

    @property
    def _opinion(self) -> Opinion | None:
        return self._authority.opinion(self._uid) if self._asked and self._reachable else None

    def _hear(self, view: View, hang: Diagnosis) -> None:
        """A contradiction stands until another answer comes, or the next question stays without one; that nobody could
        tell, or was too late for it himself, is none."""
        opinion = self._opinion
        if opinion is not None and opinion.asked:
            self._word = word(hang.fault, opinion)
            count = opinion.silent if self._word is Word.AGREES else opinion.answered
            verb = "were not answered" if self._word is Word.AGREES else "were answered"
            self._heard = f"{count} of {opinion.asked} questions to 15021 from elsewhere {verb}"
        elif not self._reachable or view.now_s - self._asked_s >= view.policy.thresholds.second_within_s:
            self._word = Word.NOTHING

    # ---- two of them ----

    def _agreement(self, view: View, hang: Diagnosis, for_s: float) -> str:
        """Who agrees; "" nobody, and `alone` says so once there was time enough."""
        self._hear(view, hang)
        if self._word is Word.CONTRADICTS:
            self.alone = Alone("contradicted", f"the controller gets answers: {self._heard}")
            return ""
        waited = for_s >= view.policy.thresholds.second_within_s
        who = f"the controller: {self._heard}" if self._word is Word.AGREES else self._here(view, hang, waited)
        self.alone = None if who else self.alone
        return who

    def _here(self, view: View, hang: Diagnosis, waited: bool) -> str:
        """What else shows it where we are, if it is time to look for that."""
        opinion = self._opinion
        untold = self._reachable and (opinion is None or not opinion.asked)
        if untold and not waited:
            return ""
        nobody = "no word from the controller" if opinion is None else "the controller cannot tell"
        nobody = nobody if self._reachable else "no controller to ask"
        found = beside(view.facts, hang, view.policy.thresholds)
        if not found and waited:
            self.alone = Alone("alone", f"{nobody}, and nothing but 15021 shows it here")
        return f"{found} ({nobody})" if found else ""

    def _doubted(self, hang: Diagnosis) -> Diagnosis:
        why = self.alone.sentence if self.alone is not None else "not known yet"
        evidence = {**hang.evidence, SECOND_OBSERVER: f"none: {why}"}
        return replace(hang, grade=Grade.SUSPECTED, sentence=f"{hang.sentence}; seen by one only", evidence=evidence)


def _seconded(hang: Diagnosis, who: str) -> Diagnosis:
    return replace(hang, evidence={**hang.evidence, SECOND_OBSERVER: who})


def _judged(view: View, diagnosis: Diagnosis) -> View:
    return replace(view, facts=replace(view.facts, judged=diagnosis))
