"""One watch: what was there, what happened since, and what happens, as lines of JSON until its time is over.

A change reaches a watch as bytes that were encoded once for all. A watch that does not read as fast as changes come is
ended, as a real API server does; its client then resumes from the last version that it saw.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Callable, Mapping

from hotswitch.sandbox.kubeapi.failure import ApiError, Obj, invalid
from hotswitch.sandbox.kubeapi.record import Record, encode
from hotswitch.sandbox.kubeapi.request import Ask, truth
from hotswitch.sandbox.kubeapi.selectors import Matches, selector
from hotswitch.sandbox.kubeapi.store import Change, Store
from hotswitch.sandbox.kubeapi.tables import table

BOOKMARK_EVERY_S = 60.0  # a real API server's, and kopf takes a watch for dead after 70 s without a word
LASTS_S = (1800.0, 3600.0)  # without timeoutSeconds: at random between --min-request-timeout and twice that
BACKLOG = 10_000  # changes that wait for a slow reader
INITIAL_END = {"k8s.io/initial-events-end": "true"}


class Watch:
    def __init__(
        self, ask: Ask, store: Store, *, bookmark_every_s: float = BOOKMARK_EVERY_S, as_table: bool = False
    ) -> None:
        self.ask, self._store, self._bookmark_every_s = ask, store, bookmark_every_s
        self._as_table, self._columns_sent = as_table, False
        self._matches: Matches | None = selector(
            ask.resource, ask.query.get("labelSelector", ""), ask.query.get("fieldSelector", "")
        )
        self._lines: list[bytes] = []
        self._wake = asyncio.Event()
        self._ended = self._silent = False
        self.broken = False  # the connection is to be reset, not closed
        said = ask.query.get("resourceVersion", "")
        self._since = None if said in ("", "0") else _version(said)
        if truth(ask.query, "sendInitialEvents") and ask.query.get("resourceVersionMatch") != "NotOlderThan":
            why = "Forbidden: sendInitialEvents requires setting resourceVersionMatch to NotOlderThan"
            raise invalid("ListOptions", "", [("resourceVersionMatch", why)])

    def end(self, error: ApiError | None = None, *, broken: bool = False) -> None:
        """Now: with an ERROR event, without a word, or with a connection that breaks."""
        if error is not None:
            self._lines.append(_line("ERROR", encode(error.status())))
        self._ended, self._silent, self.broken = True, False, broken
        self._wake.set()

    def silence(self) -> None:
        """Stay open and say nothing any more, not even bookmarks: the watch is dead, and nobody has told its client."""
        self._silent = True

    async def lines(self) -> AsyncIterator[bytes]:
        """Chunks of whole lines. Ends by timeoutSeconds, by `end`, or when the reader is too slow."""
        stop = self._start()
        ends, bookmark = time.monotonic() + _lasts_s(self.ask.query), self._next_bookmark()
        try:
            while True:
                if self._lines and not self._silent:
                    chunk, self._lines = b"".join(self._lines), []
                    yield chunk
                    continue
                if self._ended or time.monotonic() >= ends:
                    return
                if time.monotonic() >= bookmark:
                    bookmark = self._next_bookmark()
                    self._bookmark()
                    continue
                await self._sleep(min(ends, bookmark))
        finally:
            stop()

    def _next_bookmark(self) -> float:
        wanted = truth(self.ask.query, "allowWatchBookmarks")
        return time.monotonic() + (self._bookmark_every_s if wanted else float("inf"))

    async def _sleep(self, until: float) -> None:
        self._wake.clear()
        try:
            async with asyncio.timeout(max(until - time.monotonic(), 0.0)):
                await self._wake.wait()
        except TimeoutError:
            return

    def _start(self) -> Callable[[], None]:
        """Queue what the client has not seen, then listen: nothing comes between, since this does not wait."""
        initial = truth(self.ask.query, "sendInitialEvents")
        try:
            if initial or self._since is None:
                self._send_all()
            else:
                for change in self._store.since(self.ask.resource.table, self._since):
                    self._tell(change)
        except ApiError as error:
            self.end(error)
        if initial:
            self._bookmark(INITIAL_END)
        return self._store.listen(self.ask.resource.table, self._tell)

    def _send_all(self) -> None:
        for record in self._store.records(self.ask.resource.table, self.ask.namespace):
            if self._is_asked(record):
                self._send("ADDED", record)

    def _is_asked(self, record: Record) -> bool:
        ask = self.ask
        if (ask.namespace and record.namespace != ask.namespace) or (ask.name and record.name != ask.name):
            return False
        return self._matches is None or self._matches(record)

    def _tell(self, change: Change) -> None:
        """What the change is for this watch: an object may come into its selection, or leave it."""
        was = change.before is not None and self._is_asked(change.before)
        now = change.type != "DELETED" and self._is_asked(change.record)
        if was and now:
            self._send("MODIFIED", change.record)
        elif was or now:
            self._send("ADDED" if now else "DELETED", change.record)

    def _send(self, kind: str, record: Record) -> None:
        if self._ended:
            return
        self._lines.append(_line(kind, self._shown(record)))
        self._wake.set()
        if len(self._lines) > BACKLOG and kind != "ADDED":
            self._lines.clear()
            self.end()

    def _shown(self, record: Record) -> bytes:
        if not self._as_table:
            return record.sent(self.ask.resource)
        head, self._columns_sent = not self._columns_sent, True
        return encode(table(self.ask.resource, [record], str(record.version), head=head))

    def _bookmark(self, annotations: Mapping[str, str] | None = None) -> None:
        meta: Obj = {"resourceVersion": str(self._store.version)}
        if annotations:
            meta["annotations"] = annotations
        resource = self.ask.resource
        mark = {"kind": resource.kind, "apiVersion": resource.api_version, "metadata": meta}
        self._lines.append(_line("BOOKMARK", encode(mark)))


def _line(kind: str, raw: bytes) -> bytes:
    return b'{"type":"%s","object":%s}\n' % (kind.encode(), raw)


def _version(said: str) -> int:
    try:
        return int(said)
    except ValueError:
        raise ApiError(400, f'resourceVersion: Invalid value: "{said}"') from None


def _lasts_s(query: Mapping[str, str]) -> float:
    said = query.get("timeoutSeconds", "")
    return float(said) if said.isdigit() and said != "0" else random.uniform(*LASTS_S)
