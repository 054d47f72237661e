"""One receiver's worker: sends what its ledger says is due, waits when that fails, saves the ledger (S4.6).

Nobody waits for it. Saving is a task of its own, so that a slow store delays no message, and a slow receiver no saving.
Only the first message waits, and not for long: what an earlier life has said is read first, or it would be said anew.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal, Protocol, get_args

import msgspec

from hotswitch.report.alerts import payload
from hotswitch.report.alerts.backoff import Backoff
from hotswitch.report.alerts.ledger import Ledger, Taken
from hotswitch.report.alerts.payload import About, Telling
from hotswitch.report.alerts.post import Outcome, Posted
from hotswitch.report.alerts.receiver import Receiver
from hotswitch.report.alerts.store import Store
from hotswitch.report.notice import Notice

log = logging.getLogger(__name__)
STORE_TIMEOUT_S = 10.0
State = Literal["keep", "leave", "forget"]
KEEP, LEAVE, FORGET = get_args(State)
WAIT_AT_MOST_S = 60.0  # then the clock is looked at again, whatever happened to it


class Counts(Protocol):
    """Told of what becomes of notices; must not raise. `result`: sent, failed, refused, dropped."""

    def alert(self, receiver: str, result: str, number: int = 1) -> None: ...

    def alerts_queued(self, receiver: str, number: int) -> None: ...

    def forget_receiver(self, receiver: str) -> None: ...


class Sender(Protocol):
    async def post(self, body: payload.Body, message_id: str) -> Posted: ...

    async def close(self) -> None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What all workers share. `save_every_s`: at most so often a ledger is saved. `read_within_s`: so long the first
    message waits for what was said before."""

    store: Store
    counts: Counts
    about: About = field(default_factory=About)
    save_every_s: float = 1.0
    read_within_s: float = 5.0
    backoff_base_s: float = 1.0
    clock: Callable[[], float] = time.time


class Worker:
    def __init__(self, receiver: Receiver, sender: Sender, around: Surroundings) -> None:
        self.receiver = receiver
        self._sender = sender
        self._around = around
        self._ledger = Ledger(receiver.repeats_after_s)
        self._backoff = Backoff(around.backoff_base_s)
        self._not_before = 0.0
        self._news = asyncio.Event()
        self._loaded = False
        self._asked = asyncio.Event()  # the store, once, whatever came of it
        self._saved = 0
        self._batch = payload.at_most(receiver.kind)
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def standing(self) -> dict[str, Notice]:
        return self._ledger.standing

    def knows(self, key: str) -> bool:
        return self._ledger.knows(key)

    def tell(self, notice: Notice) -> None:
        taken, dropped = self._ledger.tell(notice, self._around.clock())
        if dropped is not None:
            self._around.counts.alert(self.receiver.name, "dropped")
            log.warning("alert dropped, too many wait receiver=%s code=%s", self.receiver.name, dropped.code)
        if taken is Taken.QUEUED:
            self._count()
        self._news.set()

    def start(self) -> None:
        self._tasks = [asyncio.create_task(self._send_on()), asyncio.create_task(self._save_on())]

    async def stop(self, state: State = KEEP) -> None:
        """What is not yet said is saved for the next life, left as it was saved last, or removed."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._sender.close()
        with contextlib.suppress(Exception):
            async with asyncio.timeout(STORE_TIMEOUT_S):
                if state == FORGET:
                    await self._around.store.remove(self.receiver.name)
                elif state == KEEP and await self._load():
                    await self._save()

    async def change(self, receiver: Receiver, sender: Sender) -> None:
        """The same receiver by name, with other settings: it goes on where it is."""
        before, self.receiver, self._sender = self._sender, receiver, sender
        self._ledger.repeat_s = receiver.repeats_after_s
        self._batch = payload.at_most(receiver.kind)
        self._not_before = 0.0
        self._news.set()
        await before.close()

    # ---- sending

    async def _send_on(self) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._around.read_within_s):
                await self._asked.wait()
        while True:
            self._news.clear()
            try:
                await self._round()
            except Exception:
                log.exception("alert worker receiver=%s", self.receiver.name)
                self._put_off(None)
            await self._wait()

    async def _round(self) -> None:
        now = self._around.clock()
        if now < self._not_before or not (tellings := self._ledger.due(now, self._batch)):
            return
        body = payload.body(self.receiver.kind, tellings, self._around.about)
        posted = await self._sender.post(body, tellings[0].id)
        self._book(posted, tellings)
        self._count()

    def _book(self, posted: Posted, tellings: list[Telling]) -> None:
        name, counts, now = self.receiver.name, self._around.counts, self._around.clock()
        counts.alert(name, posted.outcome, len(tellings))
        if posted.outcome is Outcome.SENT:
            self._ledger.taken(tellings, now)
            self._backoff.succeeded()
            self._batch = payload.at_most(self.receiver.kind)
            return
        log.warning("alert not sent receiver=%s number=%d why=%s", name, len(tellings), posted.sentence)
        if posted.outcome is Outcome.FAILED:
            self._put_off(posted.retry_after_s)
        elif len(tellings) > 1:
            self._batch = 1  # one of them is at fault: the others are not to suffer
        else:
            counts.alert(name, "dropped", len(self._ledger.refused(tellings, now)))

    def _put_off(self, retry_after_s: float | None) -> None:
        self._not_before = self._around.clock() + self._backoff.failed(retry_after_s)

    async def _wait(self) -> None:
        now = self._around.clock()
        wait_s = min(max(self._ledger.next_due(), self._not_before) - now, WAIT_AT_MOST_S)
        if wait_s > 0:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(wait_s):
                    await self._news.wait()
        await asyncio.sleep(0)

    def _count(self) -> None:
        self._around.counts.alerts_queued(self.receiver.name, self._ledger.waiting(self._around.clock()))

    # ---- keeping

    async def _save_on(self) -> None:
        while True:
            try:
                async with asyncio.timeout(STORE_TIMEOUT_S):
                    if await self._load():
                        await self._save()
            except Exception as failure:
                log.warning("alert state receiver=%s error=%s", self.receiver.name, type(failure).__name__)
            self._asked.set()
            await asyncio.sleep(self._around.save_every_s)

    async def _load(self) -> bool:
        """Before anything is saved; content that cannot be read is not ours, and no reason to say nothing."""
        if not self._loaded:
            content = await self._around.store.load(self.receiver.name)
            self._loaded = True
            try:
                if content:
                    self._ledger.adopt(content, self._around.clock())
            except (msgspec.DecodeError, ValueError) as failure:
                log.warning("alert state unreadable receiver=%s error=%s", self.receiver.name, failure)
            self._news.set()
        return self._loaded

    async def _save(self) -> None:
        if self._ledger.changes != self._saved:
            changes = self._ledger.changes
            await self._around.store.save(self.receiver.name, self._ledger.encode())
            self._saved = changes
