"""Taking an ordinary Service over for a while, and handing it back, without a moment's gap (S0.2, S4.4, I2, I6).

Kubernetes makes the slices of a Service that has a selector, and leaves out a pod whose sidecar is dead though
hotswitch has led its traffic past it. Where that leaves too few, hotswitch makes them instead. One place is written
down before anything follows from it, and the ways between the places are these:

    idle --too few--> taking --ours are there--> held --enough for a while--> returning --theirs are there--> idle
                         \\--enough again--------------------------------------/
    held --somebody put the selector back--> yielded --told again, or told to leave it--> idle

Ours are there before the selector goes, and theirs before ours go: both are served meanwhile, and of a pod that only
ours call ready a reader may believe either, which is no worse than before. Whoever else says what the selector is has
the last word: once, and not in turns.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from hotswitch.decide.endpoints.shortage import Count, Wish


class Word(StrEnum):
    """Stable: docs/reference/endpoints.md."""

    OTHERS = "HSE010"
    BEGUN = "HSE020"
    HELD = "HSE021"
    RETURNING = "HSE022"
    RETURNED = "HSE023"
    YIELDED = "HSE024"
    REFUSED = "HSE025"
    WAITS = "HSE026"
    ENOUGH = "HSE027"
    FORGED = "HSE028"


class Phase(StrEnum):
    """What is written down."""

    IDLE = "idle"  # Kubernetes makes the slices
    TAKING = "taking"  # ours are made beside them
    HELD = "held"  # the selector is away, or about to go
    RETURNING = "returning"  # it is back, or about to come
    YIELDED = "yielded"  # somebody else wants it back: not again until told


class Do(StrEnum):
    """One step. What is written down before it: `Verdict.phase`."""

    NOTHING = "nothing"
    WRITE = "write the place down"
    REMOVE = "take the selector away"
    CLEAR = "remove what others left"
    FENCE = "mark the Service, so that no earlier write fits it any more"
    RESTORE = "put the selector back"
    RELEASE = "leave the selector to whoever applies it"
    RETIRE = "remove our slices"


PUBLISHING = frozenset({Phase.TAKING, Phase.HELD, Phase.RETURNING})


@dataclass(frozen=True, slots=True, kw_only=True)
class Situation:
    """One Service as it is. `refusal`: why the mesh's policy does not allow it; "": it does. `has_selector`: the
    Service; `is_marked`: it carries the selector that we took; `is_forged`: it carries a mark that we did not write,
    which counts for nothing. `as_written`: its selector was written down to be taken, and surely was not taken yet: it
    is still that version, or the write was refused. `ours_stand`: the API has all our slices as they are to be;
    `ours_left`: it has some. `others`: the API has slices of Kubernetes', or
    an Endpoints object of its. `stay`: names of what others publish besides, which is theirs. `owns`: the selector is
    there, and its field is ours. `covered`: theirs have
    every pod that is ready. `enough_s`: for how long it has had enough, as far as who asks has seen. `again`: the word
    that was there when somebody won."""

    wish: Wish
    count: Count
    phase: Phase
    refusal: str = ""
    has_selector: bool = True
    is_marked: bool = False
    is_forged: bool = False
    as_written: bool = False
    ours_stand: bool = False
    ours_left: bool = False
    others: bool = False
    stay: tuple[str, ...] = ()
    owns: bool = False
    covered: bool = False
    enough_s: float = 0.0
    again: str = ""

    @property
    def released(self) -> str:
        """Why it is not to be taken over at all any more; "": it may be."""
        return self.refusal if self.wish.opted_in else "the annotation is gone"

    @property
    def let_go(self) -> bool:
        """Somebody wants it without a selector, and nobody asks for anything: its endpoints are that one's to make."""
        return not (self.has_selector or self.is_marked or self.wish.opted_in)

    @property
    def wanted(self) -> bool:
        return self.count.too_few and not self.released


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """`phase`: where it is after the step. `publish`: our slices are to be there. `alarm`: a person should know, for as
    long as it lasts."""

    do: Do
    phase: Phase
    word: Word
    sentence: str
    publish: bool = False
    alarm: bool = False


def step(now: Situation) -> Verdict:
    """The next step, one at a time; what was begun is gone on with from wherever it is."""
    return _STEPS[now.phase](now)


def _verdict(now: Situation, do: Do, word: Word, sentence: str, phase: Phase | None = None, **more: bool) -> Verdict:
    after = now.phase if phase is None else phase
    publish = after in PUBLISHING
    return Verdict(do=do, phase=after, word=word, sentence=sentence, **{"publish": publish, **more})


def _idle(now: Situation) -> Verdict:
    if now.is_marked and now.has_selector:
        return _yield(now)
    if now.is_marked:  # what was written down is lost: the Service itself tells
        return _verdict(now, Do.WRITE, Word.BEGUN, "its selector was taken before", Phase.TAKING)
    if now.is_forged and not now.has_selector:
        return _verdict(now, Do.NOTHING, Word.FORGED, f"{_FORGED}; a person has to give it a selector", alarm=True)
    if now.ours_left and now.has_selector:  # left by one whose record is lost
        return _retire(now, Phase.IDLE) if now.covered else _waits(now, f"{_THEIRS} are not there yet; ours stay")
    if not now.wish.opted_in or not now.count.too_few:
        return _rests(now, Word.ENOUGH)
    if now.refusal:
        return _verdict(now, Do.NOTHING, Word.REFUSED, f"{now.count}; not taken over: {now.refusal}")
    return _verdict(now, Do.WRITE, Word.BEGUN, str(now.count), Phase.TAKING)


def _taking(now: Situation) -> Verdict:
    if not now.has_selector and not now.is_marked:
        return _yield(now)
    if not now.wanted and not (now.is_marked and not now.released):
        return _return(now, now.released or str(now.count))
    if not now.ours_stand:
        return _waits(now, _OURS_MISSING)
    return _verdict(now, Do.WRITE, Word.HELD, str(now.count), Phase.HELD)


def _held(now: Situation) -> Verdict:
    if now.has_selector:
        return _not_taken_yet(now) if now.as_written else _yield(now)
    if now.released:
        return _return(now, now.released)
    if not now.count.too_few and now.enough_s >= now.wish.hold_s:
        return _return(now, str(now.count))
    if not now.ours_stand:
        return _waits(now, _OURS_MISSING)
    if now.others:
        return _verdict(now, Do.CLEAR, Word.HELD, "what others wrote for it goes")
    if now.stay:
        names = ", ".join(now.stay)
        return _verdict(now, Do.NOTHING, Word.OTHERS, f"others publish it, too, and keep it: {names}", alarm=True)
    return _rests(now, Word.HELD)


def _rests(now: Situation, word: Word) -> Verdict:
    """Whatever somebody has written for a mark changes nothing, and is told."""
    if now.is_forged:
        return _verdict(now, Do.NOTHING, Word.FORGED, f"{_FORGED}; {now.count}", alarm=True)
    return _verdict(now, Do.NOTHING, word, str(now.count))


def _not_taken_yet(now: Situation) -> Verdict:
    """The next write takes the selector, if the Service is still the version that was looked at."""
    if not now.wanted:
        return _return(now, now.released or str(now.count))
    if not now.ours_stand:
        return _waits(now, _OURS_MISSING)
    return _verdict(now, Do.REMOVE, Word.HELD, str(now.count))


def _return(now: Situation, why: str) -> Verdict:
    return _verdict(now, Do.WRITE, Word.RETURNING, why, Phase.RETURNING)


def _returning(now: Situation) -> Verdict:
    if not now.has_selector or now.is_marked:
        return _verdict(now, Do.RESTORE, Word.RETURNING, "its selector comes back")
    if now.as_written:  # whoever was about to take it away may still do so
        return _verdict(now, Do.FENCE, Word.RETURNING, "its selector stays")
    if now.owns:
        return _verdict(now, Do.RELEASE, Word.RETURNING, "its selector is left to whoever applies it")
    if now.wanted:
        return _verdict(now, Do.WRITE, Word.BEGUN, str(now.count), Phase.TAKING)
    if not now.covered:
        return _waits(now, f"{_THEIRS} are not there yet; ours stay")
    if now.ours_left:
        return _retire(now, Phase.RETURNING)
    return _verdict(now, Do.WRITE, Word.RETURNED, "it is as it was", Phase.IDLE)


def _yield(now: Situation) -> Verdict:
    return _verdict(now, Do.WRITE, Word.YIELDED, _WON, Phase.YIELDED, publish=True, alarm=True)


def _yielded(now: Situation) -> Verdict:
    """Whoever has won keeps it. Ours still go only when theirs are there, or nobody wants either."""
    if now.has_selector and now.is_marked:
        return _verdict(now, Do.RESTORE, Word.YIELDED, _WON, publish=True, alarm=True)
    if now.ours_left and not (now.covered or now.let_go):
        return _verdict(now, Do.NOTHING, Word.YIELDED, f"{_WON}; {_THEIRS} are not there yet", publish=True, alarm=True)
    if now.ours_left:
        return _retire(now, Phase.YIELDED)
    told = bool(now.wish.again) and now.wish.again != now.again
    if told or not now.wish.opted_in:
        why = "told to try again" if told else "told to leave it alone"
        return _verdict(now, Do.WRITE, Word.RETURNED, why, Phase.IDLE)
    return _verdict(now, Do.NOTHING, Word.YIELDED, _WON, alarm=True)


def _waits(now: Situation, sentence: str) -> Verdict:
    return _verdict(now, Do.NOTHING, Word.WAITS, sentence, publish=True, alarm=True)


def _retire(now: Situation, phase: Phase) -> Verdict:
    word = Word.YIELDED if phase is Phase.YIELDED else Word.RETURNING
    why = "told to leave it alone, without a selector" if now.let_go else f"{_THEIRS} are there"
    return _verdict(now, Do.RETIRE, word, why, phase, publish=False, alarm=phase is Phase.YIELDED)


_OURS_MISSING = "our slices are not there yet"
_THEIRS = "the slices that Kubernetes makes"
_FORGED = "its mark is not one that hotswitch wrote, and counts for nothing"
_WON = "somebody else has changed its selector and has it: not taken over again until told"
_STEPS = {
    Phase.IDLE: _idle,
    Phase.TAKING: _taking,
    Phase.HELD: _held,
    Phase.RETURNING: _returning,
    Phase.YIELDED: _yielded,
}
