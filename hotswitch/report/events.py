"""Kubernetes Events: what was seen and done, on the object that it concerns (S4.6, I8).

Core v1 and not events.k8s.io/v1: there a repeated Event may be counted up and be given its newest sentence, while of
the other nothing but `series` may change, and a sentence with the level of an hour ago would mislead. Both are shown by
`kubectl describe`, and the controller needs rights for one group only. Reason is the code, so that it can be searched.

What began at an instant has one name, whoever tells of it: a controller that goes on from where another was killed, and
cannot know what that one had said, says it again, and there is one Event of it. Nor does it count if one that has led
before leads again, and says again what it said itself.

Flapping folds: one Event for each object and code, counted up at growing intervals, and so many new ones for an object
in a while. `tell` never blocks and never raises. An API server that cannot take an Event now is asked again, for each
Event by itself and by the same name, so that one whose answer was lost is not written twice. What it does not take for
long is given up, for Events are a courtesy and the journal, the condition and the status annotation are the record.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from hashlib import blake2s
from typing import Any, Protocol

from hotswitch.cluster.failure import ApiFailure
from hotswitch.cluster.kinds import EVENTS, PODS, Kind
from hotswitch.report.notice import Notice, Severity
from hotswitch.report.scrub import plain

log = logging.getLogger(__name__)
COMPONENT = "hotswitch"
MESSAGE = 500  # characters
SERIES = 2048  # objects and codes that are remembered
FOLD_S = 1800.0  # a code that was silent for longer begins a new Event (the API server keeps each for an hour)
FIRST_PATCH_S, PATCH_AT_MOST_S = 5.0, 300.0
BURST, REFILL_S = 20, 60.0  # new Events of one object, and how long until it may have one more
SAID = 8  # of a series: more than there are of a code in the minute of which a new leader says things again
AGAIN_S, AGAIN_AT_MOST_S = 0.2, 10.0
GIVE_UP_S = 300.0  # five minutes late an Event is no news


class Api(Protocol):
    """The part of cluster.Cluster that is needed."""

    async def create(self, kind: Kind, namespace: str | None, body: Mapping[str, Any]) -> dict[str, Any]: ...

    async def patch_merge(
        self, kind: Kind, namespace: str | None, name: str, patch: Mapping[str, Any]
    ) -> dict[str, Any]: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Regarding:
    """The object that an Event is about."""

    kind: Kind
    namespace: str
    name: str
    uid: str = ""

    def reference(self) -> dict[str, str]:
        words = {
            "apiVersion": self.kind.api_version, "kind": self.kind.kind, "namespace": self.namespace,
            "name": self.name, "uid": self.uid,
        }  # fmt: skip
        return {name: value for name, value in words.items() if value}


@dataclass(slots=True)
class _Series:
    """One Event and how often it was meant. `due_s`: when its count is to be written, None: it is as told. `failing_s`:
    since when it cannot be written. `said`: what was counted last, by identity."""

    regarding: Regarding
    code: str
    type: str
    sentence: str
    first_unix_s: float
    last_unix_s: float
    name: str
    said: deque[str]
    count: int = 1
    is_made: bool = False  # the API server has it
    due_s: float | None = None
    wait_s: float = FIRST_PATCH_S
    failing_s: float | None = None
    again_s: float = AGAIN_S

    def put_off(self, failure: ApiFailure, now: float) -> bool:
        """Again later; False when that was tried for long enough."""
        self.failing_s = now if self.failing_s is None else self.failing_s
        if now - self.failing_s > GIVE_UP_S:
            self.failing_s = None
            return False
        self.due_s = now + max(self.again_s, failure.retry_after_s or 0.0)
        self.again_s = min(2 * self.again_s, AGAIN_AT_MOST_S)
        return True


@dataclass(slots=True)
class _Bucket:
    left: float = BURST
    at_s: float = 0.0


@dataclass(slots=True)
class EventWriter:
    """`identity`: of this controller. `count`: told what became of each: created, counted, failed, dropped."""

    api: Api
    identity: str
    count: Callable[[str], None] = lambda result: None
    clock: Callable[[], float] = time.time
    _series: OrderedDict[tuple[Regarding, str, str], _Series] = field(default_factory=OrderedDict)
    _buckets: OrderedDict[Regarding, _Bucket] = field(default_factory=OrderedDict)
    _news: asyncio.Event = field(default_factory=asyncio.Event)
    _turn: asyncio.Lock = field(default_factory=asyncio.Lock)  # one Event is written at a time

    def tell(self, notice: Notice) -> None:
        """Of a pod. What concerns no object is no Event."""
        if notice.pod is not None:
            pod = Regarding(kind=PODS, namespace=notice.pod.namespace, name=notice.pod.name, uid=notice.pod.uid)
            harmless = notice.resolved or notice.severity is Severity.INFO
            self.say(pod, notice.code, notice.sentence, warning=not harmless, identity=_identity(notice))

    def say(self, regarding: Regarding, code: str, sentence: str, *, warning: bool, identity: str = "") -> None:
        """About any object; an invalid value of a policy, say. `identity`: the same for the same; "": it has none."""
        try:
            name = identity or secrets.token_hex(8)
            self._say(regarding, code, plain(sentence, MESSAGE), "Warning" if warning else "Normal", name)
        except Exception:
            log.exception("event lost code=%s", code)

    def _say(self, regarding: Regarding, code: str, sentence: str, type_: str, identity: str) -> None:
        now, key = self.clock(), (regarding, code, type_)
        known = self._series.get(key)
        if known is not None and now - known.last_unix_s <= FOLD_S:
            if identity in known.said:
                return
            known.said.append(identity)
            known.count, known.last_unix_s, known.sentence = known.count + 1, now, sentence
            if known.due_s is None:
                known.due_s = now + known.wait_s
                known.wait_s = min(known.wait_s * 2, PATCH_AT_MOST_S)
        elif self._may_begin(regarding, now):
            name, said = _name(regarding, identity), deque([identity], maxlen=SAID)
            self._series[key] = _Series(regarding, code, type_, sentence, now, now, name, said, due_s=now)
            self._series.move_to_end(key)
            self._forget()
        else:
            self.count("dropped")
        self._news.set()

    def _may_begin(self, regarding: Regarding, now: float) -> bool:
        """A few at once, then one in a while."""
        bucket = self._buckets.setdefault(regarding, _Bucket(at_s=now))
        self._buckets.move_to_end(regarding)
        bucket.left = min(BURST, bucket.left + max(0.0, now - bucket.at_s) / REFILL_S)
        bucket.at_s = now
        while len(self._buckets) > SERIES:
            self._buckets.popitem(last=False)
        if bucket.left < 1:
            return False
        bucket.left -= 1
        return True

    def _forget(self) -> None:
        while len(self._series) > SERIES:
            _, old = self._series.popitem(last=False)
            if old.due_s is not None:
                self.count("dropped")

    # ---- writing

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            self._news.clear()
            for series in self._due():
                await self._write(series)
            await self._wait()

    async def try_all(self) -> None:
        """What was never written, once: nobody will come back to it. What is being written now may be put off yet, so
        that is waited for."""
        async with self._turn:
            left = [each for each in self._series.values() if not each.is_made and each.due_s is not None]
        for series in left:
            await self._write(series)

    def _due(self) -> list[_Series]:
        now = self.clock()
        found = [each for each in self._series.values() if each.due_s is not None and each.due_s <= now]
        return sorted(found, key=lambda each: each.due_s or 0.0)

    async def _wait(self) -> None:
        dues = [each.due_s for each in self._series.values() if each.due_s is not None]
        wait_s = min(60.0, max(0.0, min(dues) - self.clock())) if dues else 60.0
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(max(wait_s, 0.005)):
                await self._news.wait()

    async def _write(self, series: _Series) -> None:
        async with self._turn:
            await self._try(series)

    async def _try(self, series: _Series) -> None:
        series.due_s = None
        try:
            self.count(await self._write_once(series))
            series.failing_s, series.again_s = None, AGAIN_S
            return
        except ApiFailure as failure:
            if _may_pass(failure) and series.put_off(failure, self.clock()):
                return
            log.info("event not written code=%s why=%s", series.code, failure)
        except Exception:
            log.exception("event not written code=%s", series.code)
        self.count("failed")

    async def _write_once(self, series: _Series) -> str:
        namespace = series.regarding.namespace or "default"
        if series.is_made:
            try:
                patch = {
                    "count": series.count, "lastTimestamp": instant(series.last_unix_s), "message": series.sentence,
                }  # fmt: skip
                await self.api.patch_merge(EVENTS, namespace, series.name, patch)
                return "counted"
            except ApiFailure as failure:
                if not failure.is_missing:
                    raise
        try:
            await self.api.create(EVENTS, namespace, self._body(series))
        except ApiFailure as failure:
            if not failure.is_taken:  # else an earlier attempt, or a controller before us, has made it
                raise
        series.is_made = True
        return "created"

    def _body(self, series: _Series) -> dict[str, Any]:
        return {
            "metadata": {"name": series.name, "namespace": series.regarding.namespace or "default"},
            "involvedObject": series.regarding.reference(),
            "reason": series.code,
            "message": series.sentence,
            "type": series.type,
            "count": series.count,
            "firstTimestamp": instant(series.first_unix_s),
            "lastTimestamp": instant(series.last_unix_s),
            "source": {"component": COMPONENT},
            "reportingComponent": COMPONENT,
            "reportingInstance": self.identity[:128],
        }


def _name(regarding: Regarding, identity: str) -> str:
    return f"{regarding.name[:200].rstrip('.-')}.{identity}"


def _identity(notice: Notice) -> str:
    """By matter, its beginning, and whether it is its end: to the millisecond, as a pod's status has them."""
    words = f"{notice.key} {notice.code} {round(notice.starts_unix_s * 1000)} {notice.resolved}"
    return blake2s(words.encode(), digest_size=8).hexdigest()


def _may_pass(failure: ApiFailure) -> bool:
    """Is it the moment's fault? Not when the namespace ends or the right is missing."""
    return failure.may_pass or failure.is_conflict


def instant(unix_s: float) -> str:
    """To the second, as meta/v1 Time has it."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(unix_s))
