"""For how long may nobody answer, by what fails? Reckoned from the settings, term by term (S0.6, S0.7, I7). Pure.

What takes time by design is in here: questions, thresholds, leases, what a clock may be off by. What takes time because
machines work has an allowance for each step, and a step that takes longer makes the gap longer by as much.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from hotswitch.backends import Check, CheckKind
from hotswitch.decide.endpoints.activity import CONNECT_S, PAUSE_S, STANDS_S, over_s, renewal_s

HURRY = 0.1  # of a period: how soon it is asked again while failures are being counted
OPEN_S = 0.5
"""How long data planes are not told of a new one whose keeper has not opened its port: who is refused there comes back
later, gRPC after a second at the earliest. Within that its app takes the role; one that takes longer makes the gap
longer by as much."""
STEP_S = 0.1  # allowed for one write to the API server, or for one act of a keeper and its word on it
LED_S = 0.1  # within so much a new leader has begun to ask


class Fault(StrEnum):
    APP = "the app fails"
    POD = "the whole pod stops, or is cut off"
    KEEPER = "its keeper stops"
    LEADER = "the leader dies"
    LEADER_AND_ACTIVE = "the leader and the app die together"


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """`ttl_s`: of the activity lease; `lease_s`, `retry_s`: of the controllers' own; `controllers`: how many."""

    check: Check
    ttl_s: float
    lease_s: float
    retry_s: float
    controllers: int = 2


@dataclass(frozen=True, slots=True)
class Term:
    what: str
    seconds: float


@dataclass(frozen=True, slots=True)
class Bound:
    terms: tuple[Term, ...]

    @property
    def seconds(self) -> float:
        return sum(each.seconds for each in self.terms)


def found_s(check: Check) -> float | None:
    """From when an app stops answering until it is unavailable; None: the kubelet asks, by settings of its own."""
    if check.kind is CheckKind.KUBELET:
        return None
    return check.period_s + check.fall * check.timeout_s + (check.fall - 1) * HURRY * check.period_s


def bounds(timing: Timing) -> Mapping[Fault, Bound]:
    """By fault; one that cannot be told is left out."""
    found = found_s(timing.check)
    led, follows = _led(timing), _follows(timing)
    every = {Fault.KEEPER: (*_silent(timing), *_next()), Fault.LEADER: (*led, *follows)}
    if found is not None:
        known = Term("checks find that it does not answer", found)
        every[Fault.APP] = (known, *_fenced(), *_next())
        every[Fault.POD] = (_stopped(timing, found), *_next())
        every[Fault.LEADER_AND_ACTIVE] = (*led, _counted(timing, found), *_next())
    return {fault: Bound(every[fault]) for fault in Fault if fault in every}


def _fenced() -> tuple[Term, ...]:
    return (
        Term("it is withdrawn: one write", STEP_S),
        Term("its keeper shuts the port and confirms", 2 * STEP_S),
    )


def _next() -> tuple[Term, ...]:
    return (
        Term("the next one is promoted: one write", STEP_S),
        Term("its app takes the role, and its keeper opens the port", OPEN_S),
        Term("data planes are told: one write and its news", 2 * STEP_S),
    )


def _stopped(timing: Timing, found: float) -> Term:
    """It was told for the last time before it stopped, so its lease runs while checks still count."""
    ended = over_s(0.0, timing.ttl_s)
    if ended >= found + STEP_S:
        return Term("its activity lease has run out; meanwhile checks find it, and it is withdrawn", ended)
    return Term("checks find it, and it is withdrawn; meanwhile its activity lease has run out", found + STEP_S)


def _silent(timing: Timing) -> tuple[Term, ...]:
    """The gap begins with the end of its permit, which is counted from a question before the last one."""
    ttl_s = timing.ttl_s
    return (
        Term("it asked once more, and did not hear the answer", renewal_s(ttl_s) + STEP_S),
        Term("its lease has surely run out later than its port is shut", over_s(0.0, ttl_s) - ttl_s),
        Term("it is withdrawn: one write", STEP_S),
    )


def _led(timing: Timing) -> tuple[Term, ...]:
    """A renewal is seen up to a retry late, and the lease counted from then."""
    seen_s = timing.retry_s + timing.lease_s
    return (
        Term("another controller leads: its predecessor's lease, seen late", seen_s + 2 * STEP_S),
        Term("it reads, and asks every pod once", LED_S + timing.check.timeout_s + STEP_S),
    )


def _follows(timing: Timing) -> tuple[Term, ...]:
    """Its keeper may be waiting for one that is frozen, and asks all others before it is there again; the first of
    these questions, which stands, began before the leader froze."""
    ring_s = timing.controllers * PAUSE_S + max(CONNECT_S, STANDS_S + CONNECT_S - timing.lease_s)
    return (Term("its keeper finds the new leader, and opens the port", ring_s + STEP_S),)


def _counted(timing: Timing, found: float) -> Term:
    """Who leads anew does not know what was told before: everybody's lease counts from when it began."""
    return Term("the lease of whoever served runs out, counted from when it led", max(over_s(0.0, timing.ttl_s), found))
