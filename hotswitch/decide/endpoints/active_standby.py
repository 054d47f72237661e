"""Mode `active-standby`: exactly one serves, and the old one is fenced before the new one is (S0.3 to S0.7, I7).

The memory of it is one `Election`, written down before anything follows from it. There are three places to be in, and
the only ways between them are these:

    nobody --promote--> serving (generation + 1) --withdraw--> fencing --fenced--> nobody, or serving (generation + 1)
                                                                     --well again, long not fenced--> the same one
A generation is made by promoting alone, and only where nobody serves and nobody is still to be fenced: so there are
never two of one generation, whoever dies in between. Whom to promote is decided when the old one is fenced and not
before: the best one may have fallen ill meanwhile.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from enum import StrEnum

from hotswitch.backends import (
    NO_GENERATION,
    Backend,
    BackendId,
    Conditions,
    Published,
    PublishedEndpoint,
    Role,
    ServiceRecord,
    Staleness,
)
from hotswitch.decide.endpoints.availability import answers, conditions, is_available
from hotswitch.model import Generation

REINSTATE_AFTER_S = 10.0  # so long proof is waited for, before one that is well again gets its place back
PREEMPT_AFTER_S = 10.0  # so long the active one has served, before a better one may take its place
Order = tuple[str, float]
"""A planned switchover: the pod's name, and when it was ordered (Unix seconds)."""


class Word(StrEnum):
    """What a step came to. Stable: docs/reference/endpoints.md."""

    SERVES = "HSE001"
    PROMOTED = "HSE002"
    WITHDRAWN = "HSE003"
    FENCING = "HSE004"
    NONE_AVAILABLE = "HSE005"
    PAUSED = "HSE006"
    ORDER_REFUSED = "HSE007"
    UNREADABLE = "HSE008"


@dataclass(frozen=True, slots=True, kw_only=True)
class Election:
    """`active` serves in `generation`; `fencing` served in it, gets nothing any more, and is not yet known to be
    fenced. At most one of the two. `target`: the pod that a planned switchover wants next. `handled_unix_s`: of the
    newest order that was carried out or refused. `ttl_s`: how long a word that the active one is active may be
    believed; the same for a whole generation, whatever becomes of the annotation."""

    generation: Generation = NO_GENERATION
    active: BackendId | None = None
    fencing: BackendId | None = None
    ttl_s: float | None = None
    target: str = ""
    handled_unix_s: float = 0.0
    why: str = ""

    def __post_init__(self) -> None:
        if self.active is not None and self.fencing is not None:
            raise ValueError(f"{self.active.uid} serves while {self.fencing.uid} is not fenced")


@dataclass(frozen=True, slots=True, kw_only=True)
class Situation:
    """`fenced`: how the one that is to be fenced is known to be; "": it is not. `since_s`: for how long it has been as
    the election says, as far as who asks has seen. `silent`: those that should ask for their role, and do not: nobody
    could reach them, for their permit has run out, or they would never get one."""

    service: ServiceRecord
    backends: tuple[Backend, ...]
    election: Election
    fenced: str = ""
    order: Order | None = None
    since_s: float = 0.0
    silent: frozenset[BackendId] = frozenset()

    def find(self, wanted: BackendId | None) -> Backend | None:
        return next((each for each in self.backends if each.id == wanted), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """`election`: what is to be written before anything else is done; the same as before: nothing. `alarm`: a person
    should know, for as long as it lasts."""

    word: Word
    sentence: str
    election: Election
    alarm: bool = False


def step(now: Situation) -> Verdict:
    """The next step, one at a time."""
    if now.election.fencing is not None:
        return _fencing(now)
    if now.election.active is None:
        return _nobody(now)
    return _serving(now)


# ---- nobody serves ----


def _nobody(now: Situation) -> Verdict:
    if now.service.options.paused:
        return _stays(now, Word.PAUSED, "nobody serves, and promoting is paused", alarm=True)
    return _promoted(now, now.election.why or "nobody served")


def _promoted(now: Situation, why: str) -> Verdict:
    """Or nobody, when there is nobody to promote (S0.7)."""
    best = _next(now)
    if best is None:
        left = replace(now.election, active=None, fencing=None, target="")
        return Verdict(word=Word.NONE_AVAILABLE, sentence=_none(now), election=left, alarm=True)
    generation = Generation(now.election.generation + 1)
    ttl_s = now.service.options.lease.ttl_s
    chosen = replace(now.election, generation=generation, active=best.id, fencing=None, ttl_s=ttl_s, target="", why=why)
    sentence = f"{best.pod.name} is active in generation {generation}: {why}"
    return Verdict(word=Word.PROMOTED, sentence=sentence, election=chosen)


def _next(now: Situation) -> Backend | None:
    """Whom a switchover wants, if it is available; else the highest priority, of clusters that are heard of, then by
    name."""
    able = [each for each in now.backends if is_available(each, now.service.options)]
    wanted = [each for each in able if each.pod.name == now.election.target]
    return min(wanted or able, key=lambda each: (each.id in now.silent, _rank(each)), default=None)


def _rank(backend: Backend) -> tuple[bool, int, str, str, str]:
    place = backend.locality.cluster
    return backend.staleness is not Staleness.FRESH, -backend.priority, place, backend.pod.name, backend.pod.uid


def _none(now: Situation) -> str:
    return f"none of {len(now.backends)} pods is available: nobody is promoted"


# ---- somebody is still to be fenced ----


def _fencing(now: Situation) -> Verdict:
    old = now.find(now.election.fencing)
    if not now.fenced and old is not None and _may_return(now, old):
        return _promoted(replace(now, backends=(old,)), f"{old.pod.name} is well again, and was not known to be fenced")
    if not now.fenced:
        named = _name(now, now.election.fencing)
        return _stays(now, Word.FENCING, f"nobody serves until {named} is known to be fenced: {now.election.why}", True)
    return _promoted(now, f"{now.election.why}; fenced: {now.fenced}")


def _may_return(now: Situation, old: Backend) -> bool:
    """Two generations of one pod never serve beside each other, so it needs no fence to succeed itself."""
    patience_s = max(REINSTATE_AFTER_S, 2 * (now.election.ttl_s or 0.0))
    return is_available(old, now.service.options) and now.since_s >= patience_s


# ---- somebody serves ----


def _serving(now: Situation) -> Verdict:
    active = now.find(now.election.active)
    if active is None or active.ended:
        return _withdrawn(now, "the active pod is gone" if active is None else f"{active.pod.name} has ended")
    if now.order is not None and now.order[1] > now.election.handled_unix_s:
        return _ordered(now, active, now.order)
    if is_available(active, now.service.options):
        return _well(now, active)
    return _unwell(now, active)


def _well(now: Situation, active: Backend) -> Verdict:
    best = _next(now)
    if active.id in now.silent and best is not None and best.id not in now.silent and not now.service.options.paused:
        return _withdrawn(now, f"{active.pod.name} does not ask for its role any more")
    better = best is not None and _rank(best)[:2] < _rank(active)[:2]
    if better and now.service.options.preempt and not now.service.options.paused and now.since_s >= PREEMPT_AFTER_S:
        return _withdrawn(now, f"{best.pod.name if best else ''} has a higher priority than {active.pod.name}")
    return _stays(now, Word.SERVES, f"{active.pod.name} is active in generation {now.election.generation}")


def _unwell(now: Situation, active: Backend) -> Verdict:
    """It keeps its role while there is nobody else: should it get well, nothing has to be fenced (S0.7)."""
    if now.service.options.paused:
        return _stays(now, Word.PAUSED, f"{active.pod.name} is unavailable, and promoting is paused", True)
    if _next(now) is None:
        alarm = not answers(active, now.service.options)
        return _stays(now, Word.NONE_AVAILABLE, f"{_none(now)}; {active.pod.name} stays active", alarm)
    return _withdrawn(now, f"{active.pod.name} {_what(active)}")


def _what(active: Backend) -> str:
    if active.terminating:
        return "is being deleted"
    if active.staleness is not Staleness.FRESH:
        return f"is in cluster {active.locality.cluster}, which is {active.staleness}"
    return f"is {active.rotation}" if active.rotation != "in" else "is unavailable"


def _ordered(now: Situation, active: Backend, order: Order) -> Verdict:
    """A person's word counts while promoting is paused, too. An order that cannot be carried out is refused for good:
    it must not be carried out at some later moment that nobody expects."""
    name, at_unix_s = order
    target = next((each for each in now.backends if each.pod.name == name), None)
    refusal = ""
    if target is None:
        refusal = f"no pod of this Service is called {name}"
    elif target.id == active.id:
        refusal = f"{name} is the active one already"
    elif not is_available(target, now.service.options):
        refusal = f"{name} is not available"
    handled = replace(now.election, handled_unix_s=at_unix_s)
    if refusal:
        sentence = f"the switchover to {name} is refused: {refusal}"
        return Verdict(word=Word.ORDER_REFUSED, sentence=sentence, election=handled)
    return _withdrawn(replace(now, election=replace(handled, target=name)), f"a switchover to {name} was ordered")


def _withdrawn(now: Situation, why: str) -> Verdict:
    old = now.election.active
    left = replace(now.election, active=None, fencing=old, why=why)
    return Verdict(
        word=Word.WITHDRAWN, sentence=f"{_name(now, old)} is withdrawn: {why}", election=left, alarm=_next(now) is None
    )


def _stays(now: Situation, word: Word, sentence: str, alarm: bool = False) -> Verdict:
    return Verdict(word=word, sentence=sentence, election=now.election, alarm=alarm)


def _name(now: Situation, backend: BackendId | None) -> str:
    found = now.find(backend)
    return found.pod.name if found is not None else f"pod {backend.uid if backend else 'unknown'}"


# ---- what is told to data planes ----


def published(service: ServiceRecord, backends: Iterable[Backend], election: Election, sentence: str = "") -> Published:
    """The active one, ready if it is available; all others are standbys, and never ready (S0.4, S0.5)."""
    told = [_role(each, election) for each in backends if each.staleness is not Staleness.LOST and not each.ended]
    endpoints = [PublishedEndpoint(each, _conditions(each, service)) for each in told]
    endpoints.sort(key=lambda each: each.backend.role is not Role.ACTIVE)
    return Published(service, tuple(endpoints), election.generation, sentence)


def _role(backend: Backend, election: Election) -> Backend:
    is_active = backend.id == election.active
    generation = election.generation if is_active else NO_GENERATION
    return replace(backend, role=Role.ACTIVE if is_active else Role.STANDBY, generation=generation)


def _conditions(backend: Backend, service: ServiceRecord) -> Conditions:
    if backend.role is Role.ACTIVE:
        return conditions(backend, service.options)
    return Conditions(ready=False, serving=False, terminating=backend.terminating)
