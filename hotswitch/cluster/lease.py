"""One leader among several controllers, by a Lease; whoever was deposed knows it before anyone else leads (I6).

Invariant: at no moment do two of them find `leading` true. A leader counts from before it sent the renewal that
succeeded, and stops a fifth of the lease early; all others count the whole lease from after they saw that renewal.
Both by clocks of their own that go on while a machine sleeps; so a silent API server, a stopped process or a slow loop
makes a leader stop, and never makes two. What a deposed leader still sends is fenced by `term` and by the
resourceVersion it was made of. A Lease that is new, or was deleted, waits for a whole lease, in case somebody still
leads; and the term does not go back (`least_term`). Only a Lease that was given away is taken at once.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
import uuid
from collections.abc import Callable
from contextlib import suppress

from hotswitch.cluster import lease_record
from hotswitch.cluster.client import Cluster
from hotswitch.cluster.failure import ApiFailure
from hotswitch.cluster.kinds import LEASES
from hotswitch.cluster.lease_record import MOST_TRANSITIONS, Record

LEASE_S, RENEW_S, RETRY_S = 15, 5.0, 2.0
EARLY = 0.2  # of the lease: for clocks that do not run alike, and for an act that has just begun
SOON_S = 0.05  # within that much of its end a lease is looked at, not by all in one moment
LOOK_S = 0.5  # how often a leader looks at the clock to see that it is none any more
NEVER = float("-inf")
log = logging.getLogger("hotswitch.cluster.lease")


def clock_s() -> float:
    """Monotonic, and goes on while the machine sleeps."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def retry_s(lease_s: float) -> float:
    """How often those that do not lead look, for a lease of this length."""
    return max(0.2, lease_s / 7.5)


class Elector:
    """`identity`: for people; something unique is added, so that a process never takes a former self for itself.
    `least_term`: the highest term that was ever seen in something written, 0 when none. Raises ValueError."""

    def __init__(
        self,
        cluster: Cluster,
        namespace: str,
        name: str,
        identity: str,
        *,
        lease_s: int = LEASE_S,
        renew_s: float = RENEW_S,
        retry_s: float = RETRY_S,
        least_term: Callable[[], int] = lambda: 0,
        clock: Callable[[], float] = clock_s,
    ) -> None:
        self._sure_s = lease_s * (1 - EARLY)
        if lease_s < 1 or renew_s >= self._sure_s:
            raise ValueError(f"a lease of {lease_s} s cannot be renewed only every {renew_s:g} s")
        self._cluster, self._namespace, self._name = cluster, namespace, name
        self._path = LEASES.path(namespace, name)
        self.identity = f"{identity}_{uuid.uuid4().hex[:8]}"
        self._lease_s, self._renew_s, self._retry_s = lease_s, renew_s, retry_s
        self._timeout_s = self._sure_s / 3
        self._least_term, self._clock = least_term, clock
        self._sure_until_s = NEVER
        self._term = 0
        self._highest = 0  # of all terms seen
        self._known: Record | None = None  # as last read or written; None: look first
        self._seen = ("", 0.0)  # a version of the Lease, and when it was first seen
        self._moved = asyncio.Event()
        self.problem = ""
        """Why the last attempt failed; "" when it did not."""

    @property
    def leading(self) -> bool:
        return self._clock() < self._sure_until_s

    @property
    def remaining_s(self) -> float:
        """How long it is certain that nobody else leads, if no renewal succeeds any more."""
        return max(0.0, self._sure_until_s - self._clock())

    @property
    def term(self) -> int:
        """The fencing token of the leadership now, or of the last one. It grows with every change of leader."""
        return self._term

    @property
    def holder(self) -> str:
        """Who leads, as far as is known; "" for nobody."""
        return self._known.holder if self._known else ""

    async def run(self, on_started: Callable[[int], None], on_stopped: Callable[[], None]) -> None:
        """Until cancelled; then the Lease is given away, so that another can lead at once: finish what you do as
        leader before you cancel. `on_started` gets the term; each call of it is followed by one of `on_stopped`."""
        try:
            async with asyncio.TaskGroup() as both:
                both.create_task(self._strive())
                both.create_task(self._tell(on_started, on_stopped))
        finally:
            self._stop()
            await asyncio.shield(self._release())

    async def _strive(self) -> None:
        while True:
            await self._attempt()
            await asyncio.sleep(self._pause_s())

    def _pause_s(self) -> float:
        """Who waits for a lease to run out looks again when it does, and not at some time after."""
        due_s = self._renew_s if self.leading and not self.problem else self._retry_s
        due_s *= random.uniform(0.9, 1.0)
        known = self._known
        if known is None or self.leading or known.holder == self.identity:
            return due_s
        left_s = self._seen[1] + max(known.duration_s, self._lease_s) - self._clock()
        return min(due_s, left_s + SOON_S * random.random()) if left_s > 0 else due_s

    async def _attempt(self) -> None:
        before = self.problem
        for _ in range(2):  # after a conflict look at once: somebody else may lead
            is_conflict = await self._tried()
            if not is_conflict:
                break
        if self.problem != before:
            log.warning("lease %s/%s: %s", self._namespace, self._name, self.problem or "well again")

    async def _tried(self) -> bool:
        """Whether somebody else was faster."""
        try:
            await self._turn()
        except ApiFailure as failure:
            self._known, self.problem = None, str(failure)  # whether it was written is not known: look
            return failure.is_conflict or failure.is_taken
        except ValueError as nonsense:
            self._known, self.problem = None, f"the lease cannot be read: {nonsense}"
        else:
            self.problem = ""
        return False

    async def _turn(self) -> None:
        """Renew, take, or wait."""
        known = self._known
        if known is None or known.holder != self.identity:
            known = await self._look()
        if known.holder != self.identity and not self._is_free(known):
            self._stop()
            return
        began_s = self._clock()
        renews = known.holder == self.identity and known.term == self._term and self.leading
        term = known.term if renews else self._next_term(known.term)
        self._known = await self._write(known, self.identity, term)
        if self.leading or not renews:  # else it ran out meanwhile: the next leadership has another term
            self._hold(term, began_s)

    async def _look(self) -> Record:
        try:
            raw = await self._cluster.request("GET", self._path, timeout_s=self._timeout_s)
        except ApiFailure as failure:
            if not failure.is_missing:
                raise
            raw = await self._create()
        self._known = lease_record.read(raw)
        self._highest = max(self._highest, self._known.term)
        if self._known.version != self._seen[0]:
            self._seen = (self._known.version, self._clock())
        return self._known

    async def _create(self) -> bytes:
        """It may be that somebody deleted it while another leads: so it is made, not taken."""
        path, body = LEASES.path(self._namespace), lease_record.unheld(self._name)
        return await self._cluster.request("POST", path, None, body, timeout_s=self._timeout_s)

    def _is_free(self, known: Record) -> bool:
        """Given away; or it has been as it is for a whole lease, its own or ours, whichever is longer."""
        has_run_out = self._clock() - self._seen[1] > max(known.duration_s, self._lease_s)
        return known.was_released or has_run_out

    def _next_term(self, last: int) -> int:
        return min(MOST_TRANSITIONS, max(last, self._highest, self._least_term()) + 1)

    async def _write(self, over: Record, holder: str, term: int) -> Record:
        duration_s = self._lease_s if holder else 1
        body = lease_record.held(
            self._name, over, holder=holder, duration_s=duration_s, term=term, now_unix_s=time.time()
        )
        return lease_record.read(await self._cluster.request("PUT", self._path, None, body, timeout_s=self._timeout_s))

    def _hold(self, term: int, began_s: float) -> None:
        self._term = self._highest = term
        self._sure_until_s = began_s + self._sure_s
        self._moved.set()

    def _stop(self) -> None:
        self._sure_until_s = NEVER
        self._moved.set()

    async def _tell(self, on_started: Callable[[int], None], on_stopped: Callable[[], None]) -> None:
        while True:
            self._moved.clear()
            if not self.leading:
                await self._moved.wait()
                continue
            await self._lead(on_started, on_stopped)

    async def _lead(self, on_started: Callable[[int], None], on_stopped: Callable[[], None]) -> None:
        term = self._term
        log.info("leading %s/%s as %s, term %d", self._namespace, self._name, self.identity, term)
        on_started(term)
        try:
            while self.leading and self._term == term:
                self._moved.clear()
                with suppress(TimeoutError):  # not wait_for: in Python 3.11 it may forget that it was cancelled
                    async with asyncio.timeout(min(LOOK_S, self.remaining_s)):
                        await self._moved.wait()
        finally:
            log.info("no longer leading %s/%s, term %d", self._namespace, self._name, term)
            on_stopped()

    async def _release(self) -> None:
        """Only what is ours; if it cannot be written, the lease will run out."""
        with suppress(ApiFailure, ValueError):
            known = await self._look()
            if known.holder == self.identity:
                await self._write(known, "", known.term)
