"""An agent sees a hang: whom it asks, how long it waits, and what it does without an answer (S4.2, I1, I2)."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import pytest

from hotswitch.agent.authority import OwnAuthority
from hotswitch.agent.second import LONGEST_PAUSE_S, SecondObserver
from hotswitch.decide.engine import step
from hotswitch.model import Direction, Facts, Fault, Grade, Level, Mode, Opinion, PodUid, Pressure, Standing, View
from tests.decide.scenes import AUTO, NOW, POD, codes, dead, hung, view, well

pytestmark = pytest.mark.unit

STOPPED = Pressure(known=True, stopped=True)
WITHIN_S = AUTO.thresholds.second_within_s


@dataclass
class Asked(OwnAuthority):
    """A controller as the link shows it. `up`: whether there is a link."""

    up: bool = True
    says: Opinion | None = None
    questions: list[float] = field(default_factory=list)

    def ask(self, uid: PodUid, timeout_s: float) -> bool:
        if self.up:
            self.questions.append(timeout_s)
            self.says = None
        return self.up

    def opinion(self, uid: PodUid) -> Opinion | None:
        return self.says


@dataclass
class Agent:
    authority: Asked = field(default_factory=Asked)
    standing: Standing = field(default_factory=Standing)
    at_s: float = NOW

    def __post_init__(self) -> None:
        self.second = SecondObserver(POD.uid, self.authority)

    def sees(self, facts: Facts, *, later_s: float = 0.1) -> list[str]:
        self.at_s += later_s
        self.view: View = self.second.shown(replace(view(facts, self.standing), now_s=self.at_s))
        self.standing, decisions = step(self.view)
        return codes(decisions)

    @property
    def open(self) -> bool:
        return self.standing.is_open

    @property
    def evidence(self) -> str:
        judged = self.view.facts.judged
        return "" if judged is None else judged.evidence.get("second observer", "")


def facts(agent: Agent, *, for_s: float = 0.8, later_s: float = 0.1, **changed: object) -> Facts:
    return hung(agent.at_s + later_s, for_s=for_s, **changed)


def test_the_controller_agrees() -> None:
    agent = Agent()
    agent.sees(facts(agent, for_s=0.3))  # one is not answered yet
    assert agent.authority.questions == [AUTO.thresholds.probe_timeout_s / 2]
    agent.sees(facts(agent))
    assert not agent.open and agent.evidence.startswith("none")
    agent.authority.says = Opinion(3, 0, 3)
    agent.sees(facts(agent))
    assert agent.open and agent.evidence.startswith("the controller: 3 of 3")
    assert agent.second.alone is None


def test_the_controller_contradicts() -> None:  # I2
    """Whatever else is seen here, for as long as it is answered."""
    agent = Agent()
    for _ in range(200):
        agent.sees(facts(agent, pressure=STOPPED))
        agent.authority.says = Opinion(3, 3, 0)
    assert not agent.open
    alone = agent.second.alone
    assert alone is not None and (alone.why, alone.code) == ("contradicted", "HSD029")
    assert 3 <= len(agent.authority.questions) < 10  # asked again, and less and less often
    agent.sees(facts(agent, later_s=LONGEST_PAUSE_S + 1), later_s=LONGEST_PAUSE_S + 1)
    agent.authority.says = Opinion(3, 0, 3)
    agent.sees(facts(agent))
    assert agent.open


def test_the_controller_contradicts_and_goes() -> None:  # I1
    agent = Agent()
    agent.sees(facts(agent, pressure=STOPPED))
    agent.authority.says = Opinion(3, 1, 2)
    agent.sees(facts(agent, pressure=STOPPED))
    assert not agent.open
    agent.authority.up, agent.authority.says = False, None
    agent.sees(facts(agent, pressure=STOPPED), later_s=0.5)
    assert not agent.open, "the last word stands until it is asked anew"
    agent.sees(facts(agent, pressure=STOPPED), later_s=WITHIN_S)
    assert agent.open and agent.evidence.startswith("the kernel")


def test_the_controller_does_not_answer() -> None:  # I1
    agent = Agent()
    for _ in range(9):
        agent.sees(facts(agent, pressure=STOPPED))
        assert not agent.open
    agent.sees(facts(agent, pressure=STOPPED), later_s=0.3)
    assert agent.open and agent.evidence.startswith("the kernel")


def test_nobody_can_be_asked() -> None:  # I1
    agent = Agent(Asked(up=False))
    agent.sees(facts(agent, pressure=STOPPED))
    assert agent.open


def test_the_controller_had_answered_about_a_hang_before() -> None:  # I2
    agent = Agent(Asked(up=False, says=Opinion(3, 0, 3)))
    agent.sees(facts(agent))
    assert not agent.open


def test_the_controller_cannot_tell() -> None:
    agent = Agent()
    agent.sees(facts(agent, for_s=0.3))
    agent.authority.says = Opinion()
    agent.sees(facts(agent, pressure=STOPPED))
    assert not agent.open, "it is waited for as for one that is silent"
    agent.sees(facts(agent, pressure=STOPPED), later_s=WITHIN_S)
    assert agent.open and agent.evidence.startswith("the kernel")


def test_the_controller_contradicts_and_then_cannot_tell() -> None:  # I2
    """Its own loop is late, or it has too many to look at: what it saw a moment ago is not undone by that."""
    agent = Agent()
    agent.sees(facts(agent, pressure=STOPPED))
    agent.authority.says = Opinion(3, 3, 0)
    agent.sees(facts(agent, pressure=STOPPED))
    asked = len(agent.authority.questions)
    agent.sees(facts(agent, pressure=STOPPED), later_s=WITHIN_S)
    assert len(agent.authority.questions) == asked + 1
    agent.authority.says = Opinion()
    agent.sees(facts(agent, pressure=STOPPED))
    assert not agent.open and agent.second.alone is not None and agent.second.alone.why == "contradicted"
    agent.sees(facts(agent, pressure=STOPPED), later_s=WITHIN_S - 0.05)
    assert agent.open


def test_nothing_but_one_socket_shows_it() -> None:  # I2
    agent = Agent(Asked(up=False))
    agent.sees(facts(agent))
    assert not agent.open and agent.second.alone is None
    agent.sees(facts(agent), later_s=WITHIN_S)
    alone = agent.second.alone
    assert not agent.open and alone is not None and alone.why == "alone"
    agent.sees(well(agent.at_s + 0.1))
    assert agent.second.alone is None


def test_a_death_asks_nobody() -> None:
    agent = Agent()
    assert "HSD001" in agent.sees(dead(agent.at_s + 0.1))
    assert agent.open and not agent.authority.questions


def test_what_is_open_is_not_asked_about_again() -> None:
    agent = Agent()
    agent.sees(dead(agent.at_s + 0.1))
    for _ in range(5):
        agent.sees(facts(agent))
    assert agent.open and not agent.authority.questions


def test_a_gate_that_a_predecessor_left_open_stays() -> None:  # I1
    agent = Agent()
    agent.sees(dead(agent.at_s + 0.1))
    agent.standing = replace(agent.standing, fault=Fault.WELL, fault_since_s=None, rebuilt=True)
    agent.sees(facts(agent))
    assert agent.open and agent.standing.levels[Direction.INBOUND] is Level.RESCUE


def test_an_old_answer_is_not_about_this_hang() -> None:
    agent = Agent()
    agent.sees(facts(agent, for_s=0.3))
    agent.authority.says = Opinion(3, 0, 3)
    agent.sees(well(agent.at_s + 0.1))
    agent.sees(facts(agent, pressure=STOPPED))
    assert len(agent.authority.questions) == 1 and not agent.open, "too soon to ask, and not the time to do without"
    agent.sees(facts(agent, pressure=STOPPED), later_s=0.4)
    assert len(agent.authority.questions) == 2 and not agent.open
    agent.authority.says = Opinion(3, 0, 3)
    agent.sees(facts(agent, pressure=STOPPED))
    assert agent.evidence.startswith("the controller")


def test_it_hangs_and_answers_in_turn_all_day() -> None:
    """As with one worker of several stuck: the controller is not asked each time."""
    agent = Agent()
    for _ in range(100):
        agent.sees(facts(agent, for_s=0.3), later_s=0.05)
        agent.sees(well(agent.at_s + 0.05), later_s=0.05)
    assert 10 <= len(agent.authority.questions) <= 20 + 1


def test_many_probes_are_silent_before_there_was_time_for_an_answer() -> None:
    """People are told of a hang that one alone has seen, and not of one that is being asked about."""
    agent = Agent()
    said = [code for _ in range(9) for code in agent.sees(facts(agent, for_s=4.0))]
    assert not said and not agent.open


def test_who_may_do_nothing_is_told_nothing() -> None:
    agent = Agent(Asked(up=False))
    for _ in range(3):
        off = replace(view(facts(agent), policy=replace(AUTO, mode=Mode.OFF)), now_s=agent.at_s)
        assert agent.second.shown(off) is off
        agent.at_s += WITHIN_S
    assert agent.second.alone is None


def test_it_is_told_as_suspected() -> None:
    agent = Agent()
    agent.sees(facts(agent))
    judged = agent.view.facts.judged
    assert judged is not None and (judged.fault, judged.grade) == (Fault.HUNG, Grade.SUSPECTED)
    assert "seen by one only" in judged.sentence
