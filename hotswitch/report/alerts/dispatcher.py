"""The one to tell: gives each notice to the workers of those receivers whom it concerns (S4.6).

`tell` does no I/O and raises nothing: reporting never stands in the way of a switch, and never breaks one.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Iterable

from hotswitch.report.alerts.post import Poster
from hotswitch.report.alerts.receiver import Receiver, SecretReader
from hotswitch.report.alerts.worker import FORGET, KEEP, LEAVE, Sender, Surroundings, Worker
from hotswitch.report.notice import Notice
from hotswitch.report.scrub import scrub

log = logging.getLogger(__name__)
EARLY = 256  # notices that are kept until the receivers are known


class Dispatcher:
    """For one event loop, in which everything of it is called. `configure` again whenever the policies change."""

    def __init__(
        self, secrets: SecretReader, around: Surroundings, make_sender: Callable[..., Sender] = Poster
    ) -> None:
        self._secrets = secrets
        self._around = around
        self._make_sender = make_sender
        self._workers: dict[str, Worker] = {}
        self._configured = self._stopped = False
        self._changing = asyncio.Lock()
        self._early: deque[Notice] = deque(maxlen=EARLY)

    async def configure(self, receivers: Iterable[Receiver]) -> None:
        """Start, change and end workers so that these receivers, unique by name, are served. Several calls are carried
        out one after the other; after `stop` nothing is started any more."""
        async with self._changing:
            if not self._stopped:
                await self._configure(receivers)

    async def _configure(self, receivers: Iterable[Receiver]) -> None:
        wanted = {receiver.name: receiver for receiver in receivers}
        for name in self._workers.keys() - wanted.keys():
            await self._workers.pop(name).stop(FORGET)
            self._around.counts.forget_receiver(name)
        for name, receiver in wanted.items():
            known = self._workers.get(name)
            if known is None:
                self._workers[name] = Worker(receiver, self._sender(receiver), self._around)
                self._workers[name].start()
            elif known.receiver != receiver:
                await known.change(receiver, self._sender(receiver))
        self._configured = True
        while self._early:
            self.tell(self._early.popleft())

    def _sender(self, receiver: Receiver) -> Sender:
        return self._make_sender(receiver, self._secrets, self._around.clock)

    def tell(self, notice: Notice) -> None:
        """Never blocks, never raises. The same key again folds into what is known."""
        try:
            clean = scrub(notice)
            if not self._configured:
                self._early.append(clean)
            for worker in self._of(clean):
                worker.tell(clean)
        except Exception:
            log.exception("alert lost code=%s", getattr(notice, "code", "?"))

    def _of(self, notice: Notice) -> list[Worker]:
        """An end: whoever was told of the matter. Else those it names or, where none of these exists, the defaults:
        somebody has to hear it."""
        knowing = [each for each in self._workers.values() if each.knows(notice.key)]
        if notice.resolved and knowing:
            return knowing
        named = [self._workers[name] for name in dict.fromkeys(notice.receivers) if name in self._workers]
        chosen = named or [each for each in self._workers.values() if each.receiver.default]
        wanting = {each.receiver.name for each in chosen if each.receiver.wants(notice)}
        return [each for name, each in self._workers.items() if name in wanting or each in knowing]

    def standing(self) -> dict[str, Notice]:
        """What receivers believe to be going on, by (shortened) key: a controller that starts resolves what is not."""
        return {key: notice for each in self._workers.values() for key, notice in each.standing.items()}

    async def stop(self, *, save: bool = True) -> None:
        """What is unsaid is kept in the store for the next life. `save` False: leave the store alone, it is another
        leader's by now."""
        self._stopped = True
        async with self._changing:
            workers, self._workers = list(self._workers.values()), {}
            await asyncio.gather(*(worker.stop(KEEP if save else LEAVE) for worker in workers))
