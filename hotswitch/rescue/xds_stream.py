"""One ADS stream (delta) of the rescue Envoy: what it has accepted, what it was sent, and how it answered.

Every response carries resources of one pod only, so an answer belongs to exactly one pod, and a refusal (NACK) cannot
hold up anybody else's configuration. `known` grows by what Envoy has acknowledged, never by what was merely sent: after
a lost answer the same thing is simply sent again.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from dataclasses import dataclass

from hotswitch.rescue.resources import Encoded, Kind
from hotswitch.rescue.wire import DeltaRequest, delta_response


class RescueRejected(RuntimeError):
    """Envoy refused a pod's configuration; what it had accepted before stays in force. The message is Envoy's own."""


class StreamLost(ConnectionError):
    """Envoy went away before it answered."""


@dataclass(frozen=True, slots=True)
class _Sent:
    kind: Kind
    versions: Mapping[str, str]
    removed: tuple[str, ...]
    answer: asyncio.Future[None]


class Stream:
    """`stored` finds a secret's encoding by name when Envoy asks for it."""

    def __init__(self, stored: Callable[[str], Encoded | None]) -> None:
        self.known: dict[Kind, dict[str, str]] = {}  # name -> version; a kind is there once Envoy has asked for it
        self.wanted: set[str] = set()  # secrets that listeners and clusters refer to
        self.refused: dict[str, str] = {}  # secrets that Envoy would not take: name -> its message
        self._stored = stored
        self._sent: dict[str, _Sent] = {}
        self._nonces = itertools.count(1)
        self._outgoing: asyncio.Queue[bytes | None] = asyncio.Queue()
        self._watchers: dict[str, list[asyncio.Future[None]]] = {}  # by kind or secret: most news concern one pod
        self.lost = False

    async def send(self, kind: Kind, resources: Iterable[Encoded] = (), removed: Iterable[str] = ()) -> None:
        """Send and wait for the answer. Nothing to say is no message. Raises RescueRejected, StreamLost."""
        resources, removed = tuple(resources), tuple(removed)
        if resources or removed:
            await self._say(kind, resources, removed)

    async def asked_for(self, kind: Kind) -> None:
        """Wait for Envoy's first request of this kind: then `known` says what it holds. Raises StreamLost."""
        while kind not in self.known:
            await self._news_of(kind)

    async def has_taken(self, secret: Encoded) -> None:
        """Wait for Envoy's word on a secret that it asks for by itself. Raises RescueRejected, StreamLost."""
        while self.known.get(Kind.SECRET, {}).get(secret.name) != secret.version:
            if secret.name in self.refused:
                raise RescueRejected(self.refused[secret.name])
            await self._news_of(secret.name)

    def hear(self, request: DeltaRequest) -> None:
        """Take in what Envoy says: an answer, a first request, or a wish for secrets."""
        try:
            kind = Kind(request.kind)
        except ValueError:
            return  # nothing that we serve
        if request.nonce in self._sent:
            self._answered(self._sent.pop(request.nonce), request)
        if kind not in self.known:
            self.known[kind] = dict(request.held)
            if kind is not Kind.SECRET:
                self._post(kind, (), ())  # Envoy starts its workers only after a first answer, be it empty
            self._wake(kind)
        self._wish(request)

    async def outgoing(self) -> AsyncIterator[bytes]:
        while (message := await self._outgoing.get()) is not None:
            yield message

    def lose(self) -> None:
        """The stream has ended: whoever waits for an answer gets StreamLost."""
        self.lost = True
        self._outgoing.put_nowait(None)
        for sent in self._sent.values():
            if not sent.answer.done():
                sent.answer.set_exception(StreamLost("the rescue Envoy went away"))
                sent.answer.exception()  # seen: nobody may be waiting any more
        self._sent.clear()
        for topic in tuple(self._watchers):
            self._wake(topic)

    async def _say(self, kind: Kind, resources: tuple[Encoded, ...], removed: tuple[str, ...]) -> None:
        if self.lost:
            raise StreamLost("the rescue Envoy went away")
        await self._post(kind, resources, removed)

    def _post(self, kind: Kind, resources: tuple[Encoded, ...], removed: tuple[str, ...]) -> asyncio.Future[None]:
        nonce, answer = str(next(self._nonces)), asyncio.get_running_loop().create_future()
        versions = {resource.name: resource.version for resource in resources}
        self._sent[nonce] = _Sent(kind, versions, removed, answer)
        self._outgoing.put_nowait(delta_response(kind, nonce, removed, (resource.wire for resource in resources)))
        return answer

    def _answered(self, sent: _Sent, request: DeltaRequest) -> None:
        if request.refusal is not None:
            self._rejected(sent, request.refusal)
            return
        known = self.known[sent.kind]
        known.update(sent.versions)
        for name in sent.removed:
            known.pop(name, None)
        self._tell(sent)
        if not sent.answer.done():
            sent.answer.set_result(None)

    def _tell(self, sent: _Sent) -> None:
        for name in sent.versions if sent.kind is Kind.SECRET else ():
            self._wake(name)

    def _rejected(self, sent: _Sent, message: str) -> None:
        if sent.kind is Kind.SECRET:
            self.refused.update(dict.fromkeys(sent.versions, message))
            self._tell(sent)
        if not sent.answer.done():
            sent.answer.set_exception(RescueRejected(message))
            sent.answer.exception()  # seen: nobody may be waiting any more

    def _wish(self, request: DeltaRequest) -> None:
        """Envoy asks for a secret when a listener first refers to it, and gives it up with the last one that did."""
        if request.kind != Kind.SECRET:
            return
        known = self.known[Kind.SECRET]
        for name in request.unsubscribe:
            self.wanted.discard(name)
            known.pop(name, None)
        for name in request.subscribe:
            self.wanted.add(name)
            held = request.held.get(name)
            secret = self._stored(name)
            if secret is not None and secret.version != held:
                self._post(Kind.SECRET, (secret,), ())

    async def _news_of(self, topic: str) -> None:
        if self.lost:
            raise StreamLost("the rescue Envoy went away")
        watcher: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._watchers.setdefault(topic, []).append(watcher)
        await watcher

    def _wake(self, topic: str) -> None:
        for watcher in self._watchers.pop(topic, ()):
            if not watcher.done():
                watcher.set_result(None)
