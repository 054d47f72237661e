"""All objects of a kind, kept up with: list, then watch, for ever. What was missed is made up for, never skipped.

Invariant: what `on_event` was told, taken together, is what the API server had when it last answered. A connection
that is cut is taken up where it broke off. If that is too long ago (410), or something was garbled, everything is
listed again and the differences are told: what vanished meanwhile is DELETED, what changed is MODIFIED. One object that
cannot be decoded is counted and named; what was known of it before stays (S4.2a). A watch in which nothing moves, not
even a bookmark, is taken up anew from where it was: so `age_s` grows only while nobody can be heard, and shows a watch
that merely seems to live.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Callable, Iterable
from contextlib import aclosing
from typing import Generic, TypeVar

import aiohttp
import msgspec

from hotswitch.cluster.backoff import Backoff
from hotswitch.cluster.client import Cluster, selectors
from hotswitch.cluster.counters import Counters
from hotswitch.cluster.failure import ApiFailure, from_status
from hotswitch.cluster.kinds import Kind
from hotswitch.cluster.objects import Identity, Key, head, identity
from hotswitch.cluster.paging import pages
from hotswitch.cluster.store import Change, ChangeType, Store
from hotswitch.cluster.stream import Garbled, batches, event, version_of, whole_events

__all__ = ["Change", "ChangeType", "Counters", "Watcher"]

T = TypeVar("T")
SILENCE_S = 150.0
"""Bookmarks come about each minute, but a real API server (1.34) sends none while nothing changes in a whole kind."""
LIST_TIMEOUT_S = 20.0  # for a page
WATCH_S = (300, 600)  # how long the API server is asked to keep a watch open; at random, so that not all end at once
AT_ONCE = 50  # objects of a list, before others have their turn
SHORT_S = 1.0  # a watch that ends sooner has something against us
_OF_OBJECTS = frozenset(ChangeType)
log = logging.getLogger("hotswitch.cluster.watch")


class Silent(RuntimeError):
    """Nothing was heard in a watch for long: nothing happened, or it is dead."""


class Watcher(Generic[T]):
    """`decode_type`: dict, or a msgspec Struct whose `metadata` is an objects.Metadata. `on_event` and `on_synced` are
    called in the event loop and must not wait; `on_synced` once, after the first whole list was told. `on_problem`: a
    sentence, each time the API server cannot be followed or an object cannot be read."""

    def __init__(
        self,
        cluster: Cluster,
        kind: Kind,
        decode_type: type[T],
        *,
        on_event: Callable[[Change[T]], None],
        on_synced: Callable[[], None] | None = None,
        on_problem: Callable[[str], None] | None = None,
        namespace: str | None = None,
        label_selector: str = "",
        field_selector: str = "",
        silence_s: float = SILENCE_S,
    ) -> None:
        self._cluster, self._kind, self._path = cluster, kind, kind.path(namespace)
        self._decode = msgspec.json.Decoder(decode_type).decode
        self._decode_event = whole_events(decode_type)
        self._on_event, self._on_synced, self._on_problem = on_event, on_synced, on_problem
        self._selected, self._silence_s = selectors(label_selector, field_selector), silence_s
        self._version = ""  # resourceVersion to go on from; "": list first
        self._heard_s = time.monotonic()
        self._backoff = Backoff()
        self.problem = ""
        """Why the API server cannot be followed now; "" when it can."""
        self._store: Store[T] = Store()
        self.unreadable: dict[Key, str] = {}
        self.counters = Counters()
        self.synced = asyncio.Event()

    @property
    def store(self) -> dict[Key, T]:
        """What is known, by namespace and name. Not to be changed."""
        return self._store.objects

    @property
    def age_s(self) -> float:
        """Since the API server last said anything: an event, a bookmark, a page of a list, a watch begun."""
        return time.monotonic() - self._heard_s

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            problem = await self._turn()
            if problem is not None:
                self.counters.failures += 1
                self._say(problem, logging.DEBUG if problem == self.problem else logging.WARNING)
                self.problem = problem
                await asyncio.sleep(self._backoff.next_s())

    async def _turn(self) -> str | None:
        """One list, if one is due, and one watch to its end. A sentence when it did not end as it should."""
        try:
            if not self._version:
                await self._list()
            return await self._watch()
        except ApiFailure as failure:
            self._version = "" if failure.is_expired else self._version
            return str(failure)
        except Silent:
            return None
        except Garbled as garbled:
            self._version = ""
            return str(garbled)
        except Exception as unforeseen:  # a watcher that has ended would only seem to watch
            self._version = ""
            log.exception("watch of %s failed", self._kind)
            return f"{type(unforeseen).__name__}: {unforeseen}"

    async def _list(self) -> None:
        """Everything, told as differences to what is known: page by page, and at the end what vanished."""
        seen: set[Key] = set()
        version = ""
        async with aclosing(pages(self._cluster, self._path, self._selected, LIST_TIMEOUT_S)) as listed:
            async for read in listed:
                self._heard()
                seen |= await self._listed_all(read.items or [])
                version = read.metadata.resource_version
        self._tell(self._store.only(seen))
        self.unreadable = {key: why for key, why in self.unreadable.items() if key in seen}
        self._version = version
        self.counters.lists += 1
        self._be_synced()

    async def _listed_all(self, items: list[msgspec.Raw]) -> set[Key]:
        seen: set[Key] = set()
        for done, item in enumerate(items, 1):
            if key := self._listed(item):
                seen.add(key)
            if done % AT_ONCE == 0:
                await asyncio.sleep(0)
        return seen

    def _listed(self, raw: msgspec.Raw) -> Key | None:
        """Its key, so that it does not count as vanished; None when not even that can be read."""
        read = self._read(raw)
        if read is not None:
            self._tell(self._store.present(*read, memoryview(raw)))
            return read[0].key
        return self._unread(raw)

    def _unread(self, raw: msgspec.Raw) -> Key | None:
        """What was known of it stays, unless it is another one."""
        known = head(raw)
        if known is None:
            return None
        self._tell(self._store.replaced(known))
        return known.key

    def _be_synced(self) -> None:
        if not self.synced.is_set():
            self.synced.set()
            if self._on_synced:
                self._on_synced()

    async def _watch(self) -> str | None:
        began_s = time.monotonic()
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=10.0, sock_read=self._silence_s)
        async with self._cluster.opened("GET", self._path, self._watch_query(), None, {}, timeout) as answer:
            self.counters.watches += 1
            self.problem = ""
            self._heard()
            try:
                async for lines in batches(answer):
                    self._heard()
                    self._take_all(lines)
                    await asyncio.sleep(0)  # a burst must not keep everybody else waiting
            except TimeoutError as silence:
                self.counters.silences += 1
                raise Silent(f"nothing was heard for {self._silence_s:g} s") from silence
        took_s = time.monotonic() - began_s
        return None if took_s > SHORT_S else f"the watch was ended after {took_s:.1f} s"

    def _watch_query(self) -> dict[str, str]:
        return self._selected | {
            "watch": "true",
            "allowWatchBookmarks": "true",
            "resourceVersion": self._version,
            "timeoutSeconds": str(random.randint(*WATCH_S)),
        }

    def _heard(self) -> None:
        self._heard_s = time.monotonic()

    def _take_all(self, lines: list[bytes]) -> None:
        for line in lines:
            if line and not line.isspace():
                self._take(line)

    def _take(self, line: bytes) -> None:
        """One event. Raises Garbled, and ApiFailure when it is an error."""
        if not self._take_whole(line):
            self._take_apart(line)

    def _take_whole(self, line: bytes) -> bool:
        """An event of an object that can be read: nearly all of them, so they are read in one go. False: it is none."""
        try:
            told = self._decode_event(line)
            now = identity(told.object)
        except (msgspec.DecodeError, msgspec.ValidationError, ValueError):
            return False
        if told.type not in _OF_OBJECTS:
            return False
        self._backoff.reset()
        self.counters.events += 1
        if self.unreadable:
            self.unreadable.pop(now.key, None)
        gone = told.type == ChangeType.DELETED
        store, content = self._store, told.object
        self._tell(store.gone(now.key, content, line) if gone else store.present(now, content, line))
        self._version = now.version
        return True

    def _take_apart(self, line: bytes) -> None:
        """What is not an event of an object, or not of one that can be read."""
        told = event(line)
        if told.type == "ERROR":
            raise from_status(bytes(told.object))
        self._backoff.reset()
        if told.type == "BOOKMARK":
            self.counters.bookmarks += 1
            self._version = version_of(told.object)
            return
        self.counters.events += 1
        self._version = self._changed(told.type == "DELETED", told.object)

    def _changed(self, is_gone: bool, raw: msgspec.Raw) -> str:
        """The version after it."""
        read = self._read(raw)
        if read is None:
            return self._changed_unread(is_gone, raw)
        now, content = read
        view = memoryview(raw)
        self._tell(self._store.gone(now.key, content, view) if is_gone else self._store.present(now, content, view))
        return now.version

    def _changed_unread(self, is_gone: bool, raw: msgspec.Raw) -> str:
        known = head(raw)
        if known is None:
            raise Garbled("an event of an object that cannot even be named")
        if is_gone:
            self.unreadable.pop(known.key, None)
            self._tell(self._store.gone(known.key))
        else:
            self._tell(self._store.replaced(known))
        return known.version

    def _read(self, raw: msgspec.Raw) -> tuple[Identity, T] | None:
        try:
            content = self._decode(raw)
            now = identity(content)
        except (msgspec.DecodeError, msgspec.ValidationError, ValueError) as failure:
            self._cannot_read(raw, str(failure))
            return None
        if self.unreadable:
            self.unreadable.pop(now.key, None)
        return now, content

    def _cannot_read(self, raw: msgspec.Raw, why: str) -> None:
        self.counters.unreadable += 1
        known = head(raw)
        if known is not None:
            self.unreadable[known.key] = why
        self._say(f"{known or 'an object without a name'} cannot be read: {why}")

    def _tell(self, changes: Iterable[Change[T]]) -> None:
        for change in changes:
            try:
                self._on_event(change)
            except Exception:  # whatever one object does to its worker, the others are still watched
                self.counters.failed_callbacks += 1
                log.exception("on_event failed kind=%s object=%s", self._kind, identity(change.object))

    def _say(self, problem: str, level: int = logging.WARNING) -> None:
        log.log(level, "watch of %s: %s", self._kind, problem)
        if self._on_problem:
            self._on_problem(problem)
