"""When a Service is taken over and handed back, and that no order of events leaves a gap (S0.2, S4.4, I2, I6)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from hotswitch.api.adopt import (
    ADOPT,
    ADOPT_AGAIN,
    ADOPT_HOLD,
    ADOPT_MINIMUM,
    ADOPTED,
    Wish,
    kept_selector,
    shown_selector,
    wish,
)
from hotswitch.api.service import CHECK
from hotswitch.api.values import Allowance, InvalidValue
from hotswitch.backends import Backend, Rotation
from hotswitch.decide.endpoints.adopt import Do, Phase, Situation, Verdict, Word, step
from hotswitch.decide.endpoints.shortage import Count, count
from hotswitch.model import Level
from tests.endpoints.make import backend

pytestmark = pytest.mark.unit
WISH = Wish(opted_in=True, minimum=Allowance(count=2), hold_s=30.0)
FEW, ENOUGH = Count(ready=1, helped=1, expected=2, needed=2), Count(ready=2, helped=0, expected=2, needed=2)
NEVER = "default says adopt: never"
READY = backend("web-0")
DEAD = replace(READY, kubelet_ready=False, app_ready=True, proxied=True)
BYPASSED = replace(DEAD, inbound=Level.RESCUE)


def at(phase: Phase, **more: Any) -> Situation:
    return Situation(**{"wish": WISH, "count": FEW, "phase": phase, **more})


# ---- what is counted ----


@pytest.mark.parametrize(
    ("backends", "minimum", "expected"),
    [
        ((READY, BYPASSED), Allowance(count=2), (1, 1, 2, 2)),
        ((READY, BYPASSED), Allowance(count=1), (1, 1, 2, 1)),
        ((READY, DEAD), Allowance(count=2), (1, 0, 2, 2)),
        ((BYPASSED,), Allowance(count=3), (0, 1, 1, 1)),  # never more than there are
        ((READY, BYPASSED, BYPASSED), Allowance(percent=50), (1, 2, 3, 2)),  # a share is rounded up
        ((READY, replace(BYPASSED, app_ready=False)), Allowance(count=2), (1, 0, 2, 2)),
        ((READY, replace(BYPASSED, terminating=True)), Allowance(count=2), (1, 0, 1, 1)),
        ((READY, replace(BYPASSED, ended=True)), Allowance(count=2), (1, 0, 1, 1)),
        ((READY, replace(BYPASSED, rotation=Rotation.DRAINING)), Allowance(count=2), (1, 0, 2, 2)),
        ((), Allowance(count=1), (0, 0, 0, 0)),
    ],
)
def test_too_few(backends: tuple[Backend, ...], minimum: Allowance, expected: tuple[int, ...]) -> None:
    assert count(replace(WISH, minimum=minimum), backends) == Count(*expected)


@pytest.mark.parametrize(("found", "few"), [((1, 1, 2, 2), True), ((1, 0, 2, 2), False), ((2, 1, 3, 2), False)])
def test_only_where_bypass_is_why(found: tuple[int, int, int, int], few: bool) -> None:
    assert Count(*found).too_few is few


# ---- what is decided ----


@pytest.mark.parametrize(
    ("now", "do", "phase", "word"),
    [
        (at(Phase.IDLE), Do.WRITE, Phase.TAKING, Word.BEGUN),
        (at(Phase.IDLE, count=ENOUGH), Do.NOTHING, Phase.IDLE, Word.ENOUGH),
        (at(Phase.IDLE, wish=Wish()), Do.NOTHING, Phase.IDLE, Word.ENOUGH),  # never by default
        (at(Phase.IDLE, refusal=NEVER), Do.NOTHING, Phase.IDLE, Word.REFUSED),  # I2
        (at(Phase.IDLE, is_marked=True), Do.WRITE, Phase.YIELDED, Word.YIELDED),
        (at(Phase.IDLE, is_marked=True, has_selector=False), Do.WRITE, Phase.TAKING, Word.BEGUN),  # its record is lost
        (at(Phase.IDLE, ours_left=True), Do.NOTHING, Phase.IDLE, Word.WAITS),
        (at(Phase.IDLE, ours_left=True, covered=True), Do.RETIRE, Phase.IDLE, Word.RETURNING),
        (at(Phase.TAKING), Do.NOTHING, Phase.TAKING, Word.WAITS),
        (at(Phase.TAKING, ours_stand=True), Do.WRITE, Phase.HELD, Word.HELD),
        (at(Phase.TAKING, count=ENOUGH), Do.WRITE, Phase.RETURNING, Word.RETURNING),
        (at(Phase.TAKING, refusal=NEVER), Do.WRITE, Phase.RETURNING, Word.RETURNING),
        (at(Phase.TAKING, has_selector=False), Do.WRITE, Phase.YIELDED, Word.YIELDED),  # somebody else took it away
        (at(Phase.HELD, as_written=True, ours_stand=True), Do.REMOVE, Phase.HELD, Word.HELD),
        (at(Phase.HELD, as_written=True), Do.NOTHING, Phase.HELD, Word.WAITS),
        (at(Phase.HELD, as_written=True, count=ENOUGH), Do.WRITE, Phase.RETURNING, Word.RETURNING),
        (at(Phase.HELD, ours_stand=True), Do.WRITE, Phase.YIELDED, Word.YIELDED),
        (at(Phase.HELD, as_written=True, ours_stand=True, is_marked=True), Do.REMOVE, Phase.HELD, Word.HELD),
        (at(Phase.RETURNING), Do.NOTHING, Phase.TAKING, Word.BEGUN),
        (at(Phase.YIELDED, has_selector=True), Do.NOTHING, Phase.YIELDED, Word.YIELDED),
    ],
)
def test_one_step(now: Situation, do: Do, phase: Phase, word: Word) -> None:
    verdict = step(now)
    if now.phase is Phase.RETURNING:  # too few again: back to the beginning of it
        do = Do.WRITE
    assert (verdict.do, verdict.phase, verdict.word) == (do, phase, word)


@pytest.mark.parametrize("has_selector", [True, False])
@pytest.mark.parametrize("now", [at(Phase.IDLE, count=ENOUGH), at(Phase.IDLE, wish=Wish(), ours_left=True)])
def test_a_mark_that_others_wrote_is_told_and_nothing_is_done(now: Situation, has_selector: bool) -> None:  # I2
    left = now.ours_left and not has_selector
    verdict = step(replace(now, is_forged=True, has_selector=has_selector, ours_left=left))
    assert (verdict.do, verdict.phase, verdict.word) == (Do.NOTHING, Phase.IDLE, Word.FORGED)
    assert verdict.alarm and not verdict.publish


def test_a_mark_that_others_wrote_stops_nothing_either() -> None:
    assert step(at(Phase.IDLE, is_forged=True)).word is Word.BEGUN
    held = at(Phase.HELD, has_selector=False, is_forged=True, ours_stand=True)
    assert (step(held).word, step(held).publish, step(held).alarm) == (Word.FORGED, True, True)
    assert step(replace(held, wish=Wish())).phase is Phase.RETURNING
    assert step(replace(held, phase=Phase.RETURNING)).do is Do.RESTORE


AWAY = {"has_selector": False, "is_marked": True}


@pytest.mark.parametrize(
    ("more", "do", "phase"),
    [
        ({"ours_stand": True, "others": True}, Do.CLEAR, Phase.HELD),
        ({"others": True}, Do.NOTHING, Phase.HELD),  # never before ours stand
        ({"ours_stand": True}, Do.NOTHING, Phase.HELD),
        ({"ours_stand": True, "count": ENOUGH, "enough_s": 29.0}, Do.NOTHING, Phase.HELD),
        ({"ours_stand": True, "count": ENOUGH, "enough_s": 30.0}, Do.WRITE, Phase.RETURNING),
        ({"ours_stand": True, "wish": Wish()}, Do.WRITE, Phase.RETURNING),  # at once
        ({"ours_stand": True, "refusal": NEVER}, Do.WRITE, Phase.RETURNING),
    ],
)
def test_while_the_selector_is_away(more: dict[str, Any], do: Do, phase: Phase) -> None:
    verdict = step(at(Phase.HELD, **AWAY, **more))
    assert (verdict.do, verdict.phase) == (do, phase)


def test_handed_back_step_by_step() -> None:
    back = at(Phase.RETURNING, count=ENOUGH, ours_stand=True, ours_left=True)
    assert step(replace(back, **AWAY)).do is Do.RESTORE
    waits = step(back)
    assert (waits.do, waits.publish, waits.alarm) == (Do.NOTHING, True, True)
    assert step(replace(back, covered=True)).do is Do.RETIRE
    assert step(replace(back, covered=True, as_written=True)).do is Do.FENCE
    assert step(replace(back, ours_left=False, covered=True)).phase is Phase.IDLE


def test_who_has_won_keeps_it_until_told() -> None:
    lost = at(Phase.YIELDED, ours_left=True, again="a")
    assert step(replace(lost, is_marked=True)).do is Do.RESTORE
    assert step(lost).do is Do.NOTHING and step(lost).publish
    assert step(replace(lost, covered=True)).do is Do.RETIRE
    bare = replace(lost, has_selector=False)  # somebody wants it to have none
    assert step(bare).do is step(replace(bare, wish=Wish(), is_marked=True)).do is Do.NOTHING
    assert step(replace(bare, wish=Wish())).do is Do.RETIRE
    over = replace(lost, ours_left=False, covered=True)
    assert step(over).do is Do.NOTHING and step(over).alarm and not step(over).publish
    assert step(replace(over, wish=replace(WISH, again="a"))).do is Do.NOTHING  # the word of last time
    assert step(replace(over, wish=replace(WISH, again="b"))).phase is Phase.IDLE
    assert step(replace(over, wish=Wish())).phase is Phase.IDLE


# ---- no order of events leaves a gap ----


@dataclass
class World:
    """A Service, its slices, a record; Kubernetes and others act when they like, and a leader may die in any step."""

    phase: Phase = Phase.IDLE
    selector: bool = True
    marked: bool = False
    version: int = 1
    written: int = 0
    again: str = ""
    said: str = ""
    ours: bool = False
    theirs: bool = True
    publishing: bool = False
    counted: Count = ENOUGH
    enough_s: float = 0.0
    allowed: bool = True
    taken: int = 0  # how often the selector was
    lost: bool = False
    late: set[int] = field(default_factory=set)  # versions of which a write is under way

    def situation(self) -> Situation:
        return Situation(
            wish=replace(WISH, again=self.said),
            count=self.counted,
            phase=self.phase,
            refusal="" if self.allowed else NEVER,
            has_selector=self.selector,
            is_marked=self.marked,
            as_written=self.written == self.version,
            ours_stand=self.ours,
            ours_left=self.ours,
            others=self.theirs,
            covered=self.selector and self.theirs,
            enough_s=self.enough_s,
            again=self.again,
        )

    def lead(self) -> None:
        verdict = step(self.situation())
        self.publishing = verdict.publish
        self._carry_out(verdict)

    def _carry_out(self, verdict: Verdict) -> None:
        if verdict.do is Do.WRITE:
            if self.phase is Phase.YIELDED:
                self.lost = False
            self.again = self.said if verdict.phase is Phase.YIELDED else ""
            self.lost = self.lost or verdict.phase is Phase.YIELDED
            if verdict.phase is not Phase.RETURNING:
                self.written = self.version if verdict.phase is Phase.HELD else -1
            self.phase = verdict.phase
        elif verdict.do is Do.REMOVE:
            assert not self.lost, "taken over again without having been told"
            self.selector, self.marked, self.version, self.taken = False, True, self.version + 1, self.taken + 1
        elif verdict.do is Do.FENCE:
            self.marked, self.version = True, self.version + 1
        elif verdict.do is Do.RESTORE:
            self.selector, self.marked, self.version = True, False, self.version + 1
        elif verdict.do is Do.CLEAR:
            self.theirs = False
        elif verdict.do is Do.RETIRE:
            self.ours = self.publishing = False

    def stalls(self) -> None:
        """A write is sent that takes the selector away, and is done when it lands."""
        if step(self.situation()).do is Do.REMOVE:
            self.late.add(self.version)

    def lands(self) -> None:
        if self.version in self.late:
            self.selector, self.marked, self.version = False, True, self.version + 1
        self.late.clear()

    # ---- everybody else ----

    def publisher(self) -> None:
        self.ours = self.ours or self.publishing

    def dies(self) -> None:
        self.publishing, self.enough_s = False, 0.0

    def kubernetes(self) -> None:
        self.theirs = self.theirs or self.selector

    def someone_puts_it_back(self) -> None:
        if not self.selector:
            self.selector, self.version = True, self.version + 1

    def someone_writes_it_whole(self) -> None:
        if not self.selector or self.marked:
            self.selector, self.marked, self.version = True, False, self.version + 1

    def someone_changes_something_else(self) -> None:
        self.version += 1

    def too_few(self) -> None:
        self.counted, self.enough_s = FEW, 0.0

    def enough(self) -> None:
        self.counted, self.enough_s = ENOUGH, self.enough_s + 20.0

    def told_again(self) -> None:
        self.said += "x"

    def policy(self) -> None:
        self.allowed = not self.allowed


EVENTS: dict[str, Callable[[World], None]] = {
    name: getattr(World, name)
    for name in (
        "lead", "stalls", "lands", "publisher", "dies", "kubernetes", "someone_puts_it_back", "someone_writes_it_whole",
        "someone_changes_something_else", "too_few", "enough", "told_again", "policy",
    )
}  # fmt: skip
MOSTLY = ["lead", "publisher", "kubernetes", "too_few"] * 3


@given(st.lists(st.sampled_from([*EVENTS, *MOSTLY]), max_size=60))
@settings(max_examples=1000, deadline=None)
def test_no_order_of_events_leaves_a_gap(events: list[str]) -> None:  # I6
    world = World()
    for name in events:
        EVENTS[name](world)
        assert world.ours or world.theirs, f"nobody serves after {name}"
        assert world.selector or world.marked, "its selector is nowhere"


@given(st.lists(st.sampled_from([*EVENTS, *MOSTLY]), max_size=40))
@example(["too_few", "lead", "publisher", "lead", "stalls", "enough"])
@settings(max_examples=300, deadline=None)
def test_it_always_comes_to_rest(events: list[str]) -> None:
    """Whatever happened: when nothing more does, and the policy is withdrawn, it ends as an ordinary Service."""
    world = World()
    for name in events:
        EVENTS[name](world)
    world.allowed = False
    for _ in range(12):
        for name in ("lead", "publisher", "kubernetes"):
            EVENTS[name](world)
    world.lands()
    assert world.phase in (Phase.IDLE, Phase.YIELDED)
    assert (world.selector, world.marked, world.theirs, world.ours) == (True, False, True, False)


# ---- what people write ----


@pytest.mark.parametrize(
    ("name", "text"),
    [
        (ADOPT, "always"),
        (ADOPT, "true"),
        (ADOPT_MINIMUM, "0"),
        (ADOPT_MINIMUM, "0%"),
        (ADOPT_MINIMUM, "-1"),
        (ADOPT_MINIMUM, "101%"),
        (ADOPT_MINIMUM, "half"),
        (ADOPT_HOLD, "0s"),
        (ADOPT_HOLD, "2h"),
        (ADOPT_HOLD, "soon"),
        (ADOPT_AGAIN, "x" * 65),
        (CHECK, "tcp:80"),
        ("endpoints.hotswitch.io/adopt-minmum", "2"),
    ],
)
def test_a_word_that_cannot_be_read_is_named(name: str, text: str) -> None:
    with pytest.raises(InvalidValue) as raised:
        wish({ADOPT: "when-below", name: text})
    assert (raised.value.field, raised.value.value) == (name, text)


def test_words_that_can_be_read() -> None:
    said = {ADOPT: "when-below", ADOPT_MINIMUM: "50%", ADOPT_HOLD: "5m", ADOPT_AGAIN: "x", ADOPTED: "app=web"}
    assert wish(said) == Wish(True, Allowance(percent=50), 300.0, "x")
    assert wish({}) == wish({ADOPT_MINIMUM: "nonsense"}) == Wish() and not Wish().opted_in


@pytest.mark.parametrize("selector", [{"app": "web"}, {"app": "web", "example.org/tier": "a.b_c-1", "empty": ""}])
def test_a_selector_comes_back_as_it_was(selector: dict[str, str]) -> None:
    assert kept_selector({ADOPTED: shown_selector(selector)}) == selector
