"""The agent's configuration server for the rescue Envoy: ADS (delta) on a unix socket that only its uid can open (A11).

`publish` puts a pod's resources in force and waits for Envoy's word; a refusal puts back what was in force before and
leaves other pods alone. The state kept here is what Envoy should have: a respawned Envoy is told all of it, an adopted
one (it outlived its agent) says what it still holds, and is told only what differs. Nothing is removed that nobody
asked to remove: until the agent has looked around, the leftovers of its predecessor keep serving (I1).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from collections.abc import AsyncGenerator, Callable, Coroutine, Mapping
from pathlib import Path
from weakref import WeakValueDictionary

from hotswitch.protowire import Malformed
from hotswitch.rescue.calls import Call, CallFailed, Server
from hotswitch.rescue.resources import NOTHING, Encoded, Kind, PodResources
from hotswitch.rescue.wire import delta_request
from hotswitch.rescue.xds_stream import RescueRejected, Stream, StreamLost

log = logging.getLogger(__name__)

METHOD = "DeltaAggregatedResources"
MOST_BYTES = 4 << 20  # of what Envoy says at once: the names and versions of all that it holds are some 100 kB
SERVICE = "envoy.service.discovery.v3.AggregatedDiscoveryService"
ANSWER_TIMEOUT_S = 5.0
WAVE = 16  # pods that a new Envoy is told of at once
SECRETS_WITHIN_S = 0.5  # an adopted Envoy speaks of its secrets right after its listeners


class RescueUnanswered(TimeoutError):
    """Envoy has not answered in time. What was published stays published, and is sent when Envoy is there again."""


class XdsServer:
    """Serves one Envoy. `socket` is made with mode 0600 for `uid`, in a directory that the caller keeps private."""

    def __init__(self, socket: Path, uid: int, *, answer_timeout_s: float = ANSWER_TIMEOUT_S) -> None:
        self._socket, self._uid, self._answer_timeout_s = socket, uid, answer_timeout_s
        self._pods: dict[str, PodResources] = {}
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._stream: Stream | None = None
        self._connected = asyncio.Event()
        self._server: Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self.urgent: frozenset[str] = frozenset()
        self.on_told: Callable[[str], None] = lambda key: None  # a newly connected Envoy has taken a pod's resources
        self.rejected: dict[str, str] = {}  # pods whose wanted state Envoy does not have: key -> its message

    async def start(self) -> None:
        """Raises OSError when the socket cannot be made."""
        self._server = Server(f"/{SERVICE}/{METHOD}", self._converse, MOST_BYTES)
        await self._server.start(self._socket)
        os.chmod(self._socket, 0o600)
        os.chown(self._socket, self._uid, -1)

    async def stop(self) -> None:
        """Envoy keeps what it has and tries to reconnect."""
        if self._server is not None:
            await self._server.stop()
            self._server = None

    async def connected(self) -> None:
        """Wait until Envoy has asked for listeners, i.e. could take some, and has said what it holds."""
        while True:
            await self._connected.wait()
            with contextlib.suppress(StreamLost):
                return await _introduced(self._current())

    def held(self) -> Mapping[Kind, Mapping[str, str]]:
        """What the connected Envoy holds by its own word: name -> version, by kind."""
        return {} if self._stream is None else self._stream.known

    async def publish(self, key: str, resources: PodResources) -> None:
        """Make this all that Envoy has of pod `key`. On RescueRejected what was in force before is so again.

        Raises RescueRejected, RescueUnanswered.
        """
        async with self._lock(key):
            before = self._pods.get(key, NOTHING)
            self._keep(key, resources)
            try:
                await self._deliver_in_time(key)
            except RescueRejected:
                self._keep(key, before)
                await self._deliver_in_time(key)
                raise

    async def withdraw(self, key: str) -> None:
        """Take everything of pod `key` away, also what a predecessor has left. Raises RescueUnanswered."""
        await self.publish(key, NOTHING)

    def _keep(self, key: str, resources: PodResources) -> None:
        self.rejected.pop(key, None)
        if resources == NOTHING:
            self._pods.pop(key, None)
        else:
            self._pods[key] = resources

    def _lock(self, key: str) -> asyncio.Lock:
        return self._locks.setdefault(key, asyncio.Lock())

    def _stored(self, name: str) -> Encoded | None:
        key, _, _ = name.partition("|")
        return self._pods.get(key, NOTHING).secrets.get(name)

    async def _deliver_in_time(self, key: str) -> None:
        try:
            async with asyncio.timeout(self._answer_timeout_s):
                await self._deliver(key)
        except TimeoutError:
            raise RescueUnanswered(f"{key}: no answer within {self._answer_timeout_s:g} s") from None

    async def _deliver(self, key: str) -> None:
        while True:
            await self._connected.wait()
            try:
                await _bring(self._current(), key, self._pods.get(key, NOTHING))
                return
            except StreamLost:
                continue

    def _current(self) -> Stream:
        assert self._stream is not None
        return self._stream

    async def _converse(self, requests: Call) -> AsyncGenerator[bytes]:
        """One Envoy process's stream, from its connection to its end. A newer one takes the place of an older."""
        if self._stream is not None:
            self._stream.lose()
        stream = self._stream = Stream(self._stored)
        self._connected.set()
        self._start(self._listen(requests, stream))
        self._start(self._tell_everything(stream))
        try:
            async for message in stream.outgoing():
                yield message
        finally:
            self._gone(stream)

    async def _listen(self, requests: Call, stream: Stream) -> None:
        try:
            async for request in requests:
                stream.hear(delta_request(request))
        except (CallFailed, Malformed) as failure:
            log.warning("the rescue Envoy's stream has ended", extra={"reason": str(failure)})
        finally:
            self._gone(stream)

    def _gone(self, stream: Stream) -> None:
        if self._stream is stream:
            self._stream = None
            self._connected.clear()
        if not stream.lost:
            stream.lose()

    async def _tell_everything(self, stream: Stream) -> None:
        """In waves, urgent pods first: gates may be open while a respawned Envoy learns of 250 pods."""
        keys = sorted(self._pods, key=lambda key: key not in self.urgent)
        for start in range(0, len(keys), WAVE):
            await asyncio.gather(*(self._tell(stream, key) for key in keys[start : start + WAVE]))

    async def _tell(self, stream: Stream, key: str) -> None:
        """Bring a newly connected Envoy up to date with one pod."""
        async with self._lock(key):
            try:
                await _bring(stream, key, self._pods.get(key, NOTHING))
            except RescueRejected as rejection:
                self.rejected[key] = str(rejection)
                log.error("rescue configuration refused", extra={"pod": key, "reason": str(rejection)})
            except StreamLost:
                return
        self.on_told(key)

    def _start(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


async def _introduced(stream: Stream) -> None:
    await stream.asked_for(Kind.LISTENER)
    if stream.known[Kind.LISTENER]:
        with contextlib.suppress(TimeoutError):  # pods without mTLS have no secrets to speak of
            await asyncio.wait_for(stream.asked_for(Kind.SECRET), SECRETS_WITHIN_S)


async def _bring(stream: Stream, key: str, resources: PodResources) -> None:
    """Make Envoy have exactly `resources` of this pod, in an order in which nothing refers to what is not there."""
    for name in resources.secrets:
        stream.refused.pop(name, None)
    await _remove(stream, key, Kind.LISTENER, resources)
    await _add(stream, Kind.CLUSTER, resources)
    await _rotate(stream, resources)
    await _add(stream, Kind.LISTENER, resources)
    await _remove(stream, key, Kind.CLUSTER, resources)
    await _secrets_taken(stream, resources)


async def _add(stream: Stream, kind: Kind, resources: PodResources) -> None:
    await stream.asked_for(kind)
    known = stream.known[kind]
    await stream.send(kind, [r for r in resources.of(kind).values() if known.get(r.name) != r.version])


async def _remove(stream: Stream, key: str, kind: Kind, resources: PodResources) -> None:
    await stream.asked_for(kind)
    ours = (name for name in stream.known[kind] if name.partition("|")[0] == key)
    await stream.send(kind, removed=[name for name in ours if name not in resources.of(kind)])


async def _rotate(stream: Stream, resources: PodResources) -> None:
    """Secrets that Envoy uses already and that have changed; new ones it asks for by itself."""
    known = stream.known.get(Kind.SECRET, {})
    changed = [s for s in resources.secrets.values() if s.name in stream.wanted and known.get(s.name) != s.version]
    await stream.send(Kind.SECRET, changed)


async def _secrets_taken(stream: Stream, resources: PodResources) -> None:
    """A listener is not opened before it has its secrets, so the pod is not done before Envoy has taken them."""
    for secret in resources.secrets.values():
        await stream.has_taken(secret)
