"""15021 of many pods, asked from afar: the controller's own eyes where nobody sits beside the proxy (S4.2b).

One connection held per pod, over which health is asked: a killed Envoy closes it, and that is known at once without
asking. Silence or a break is a reason to ask anew on fresh connections, fast, until it is clear again. Now and then one
is asked freshly although all is well: whether we still reach the pod, the held one does not tell. No task per pod:
callbacks and one timer for all. What the network loses looks like a hang, so nobody acts on this alone (decide.agree).
"""

from __future__ import annotations

import asyncio
import math
import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from hotswitch.model import HEALTH, Facts, Opinion, Port, Probe, ProbeOutcome
from hotswitch.observe.asked import SAID, Asked
from hotswitch.observe.health import READY_PATH, HttpProbe, outcome_of_status

REMEMBERED = 8
LOOKS_AT_MOST = 128  # at once, for agents that ask
LOOK_TRIES = 4
FRESH_S = 20.0  # at most, in the calm, from one question on a connection of its own to the next
WITNESS_S = 60.0  # three of these: who was answered so lately can still reach the pod, and silence means something


@dataclass(frozen=True, slots=True)
class CentralPace:
    """Seconds. `idle_s`: between questions to a proxy that is well; `fast_s`: to one that is not."""

    idle_s: float = 2.0
    fast_s: float = 0.1
    timeout_s: float = 0.5
    lag_s: float = 0.1


@dataclass(slots=True)
class _Held:
    """The connection kept to one pod, and whether a question stands on it."""

    transport: asyncio.Transport | None = None
    asked_s: float | None = None
    connecting: bool = False


@dataclass(slots=True, eq=False)
class Target:
    """One pod's 15021. `probes`: the newest answers, oldest first."""

    uid: str
    address: str
    due_s: float
    probes: deque[Probe] = field(default_factory=lambda: deque(maxlen=REMEMBERED))
    alike: int = 0  # newest answers that are the same
    held: _Held = field(default_factory=_Held)
    fresh: HttpProbe | None = None
    answered: bool = False  # it was ready once: only who has seen that is a witness of a hang
    reached_s: float = -math.inf  # when a fresh connection was last answered, whatever the answer
    fresh_due_s: float = -math.inf

    @property
    def well(self) -> bool:
        return bool(self.probes) and self.probes[-1].outcome is ProbeOutcome.OK

    def is_known(self, now_s: float, idle_s: float) -> bool:
        """Whether we are a witness of what it does now: a policy of the network may have come since it was ready."""
        return self.answered and now_s - self.reached_s <= WITNESS_S + 2 * idle_s


class _Keeper(asyncio.Protocol):
    """Hears on the held connection: answers, and its end."""

    def __init__(self, prober: CentralProber, target: Target) -> None:
        self._prober, self._target = prober, target

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._target.held = _Held(transport)

    def data_received(self, data: bytes) -> None:
        asked_s, self._target.held.asked_s = self._target.held.asked_s, None
        if asked_s is not None:  # else the rest of an answer
            self._prober.heard(self._target, asked_s, *outcome_of_status(data))

    def connection_lost(self, exc: Exception | None) -> None:
        if self._target.held.transport is not None:
            self._target.held = _Held()
            self._prober.suspect(self._target)


class CentralProber:
    """`news(uid)` is called when a pod's newest answer is another than before, and for some more that are not OK."""

    def __init__(self, news: Callable[[str], None], pace: CentralPace | None = None, *, port: Port = HEALTH) -> None:
        self._news, self.pace, self._port = news, pace or CentralPace(), port
        self._targets: dict[str, Target] = {}
        self._connecting: set[asyncio.Task[object]] = set()
        self._looks: set[Asked] = set()

    def watch(self, uid: str, address: str) -> None:
        """Begin, or go on with another address. The first questions are spread over one idle pause."""
        known = self._targets.get(uid)
        if known is not None and known.address == address:
            return
        self.forget(uid)
        start_s = asyncio.get_running_loop().time() + random.random() * self.pace.idle_s
        self._targets[uid] = Target(uid, address, start_s)

    def forget(self, uid: str) -> None:
        target = self._targets.pop(uid, None)
        if target is not None:
            _drop(target)

    def hurry(self, uid: str) -> None:
        """Something is wrong with this pod: ask now, on a fresh connection."""
        target = self._targets.get(uid)
        if target is not None:
            self.suspect(target)

    def facts(self, uid: str) -> Facts | None:
        """None: not watched, or nothing heard yet."""
        target = self._targets.get(uid)
        if target is None or not target.probes:
            return None
        return Facts(at_s=asyncio.get_running_loop().time(), probes=tuple(target.probes))

    def doubts(self, uid: str) -> bool:
        """Whether its newest answer was another than it should be. Cheap: asked at every event of every pod."""
        target = self._targets.get(uid)
        return target is not None and bool(target.probes) and not target.well

    def look(self, uid: str, timeout_s: float, done: Callable[[Opinion], None], tries: int = LOOK_TRIES) -> None:
        """What does its 15021 say now? Several questions at once, whatever was heard before; again where our own loop
        was late for all of them. `done` may be called at once, by somebody who cannot tell."""
        target, now_s = self._targets.get(uid), asyncio.get_running_loop().time()
        if target is None or not target.is_known(now_s, self.pace.idle_s) or len(self._looks) >= LOOKS_AT_MOST:
            done(Opinion())
            return

        def heard(opinion: Opinion) -> None:
            self._looks.discard(asked)
            if opinion.answered:
                target.reached_s = asyncio.get_running_loop().time()
            if opinion.asked or tries <= 1:
                done(opinion)
            else:
                self.look(uid, timeout_s, done, tries - 1)

        asked = Asked(target.address, heard, timeout_s=timeout_s, lag_s=self.pace.lag_s, port=self._port)
        self._looks.add(asked)

    async def run(self) -> None:
        """Until cancelled. Wakes ten times in an idle pause, or as often as the fast pace wants."""
        try:
            while True:
                self._round()
                anyone_ill = any(
                    0 < target.alike <= REMEMBERED and not target.well for target in self._targets.values()
                )
                await asyncio.sleep(self.pace.fast_s if anyone_ill else min(self.pace.idle_s / 10, 0.2))
        finally:
            for target in self._targets.values():
                _drop(target)
            for task in self._connecting:
                task.cancel()
            for look in self._looks:
                look.cancel()

    # ---- asking ----

    def _round(self) -> None:
        now_s = asyncio.get_running_loop().time()
        for target in self._targets.values():
            held = target.held
            if held.asked_s is not None and now_s - held.asked_s > self.pace.timeout_s:
                _drop_held(target)  # silence on one connection: ask on a fresh one
                self.suspect(target)
            elif now_s >= target.due_s and target.fresh is None and held.asked_s is None:
                self._ask(target, now_s)

    def _ask(self, target: Target, now_s: float) -> None:
        transport = target.held.transport
        if not target.well or transport is None or transport.is_closing() or now_s >= target.fresh_due_s:
            self._ask_freshly(target)
            return
        target.held.asked_s, target.due_s = now_s, now_s + self.pace.idle_s
        host = f"[{target.address}]" if ":" in target.address else target.address
        transport.write(f"GET {READY_PATH} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: hotswitch\r\n\r\n".encode())

    def suspect(self, target: Target) -> None:
        if target.fresh is None and target.uid in self._targets:
            self._ask_freshly(target)

    def _ask_freshly(self, target: Target) -> None:
        pace = self.pace
        target.fresh = HttpProbe(
            None,
            (target.address, self._port),
            READY_PATH,
            lambda probe: self._answered(target, probe),
            timeout_s=pace.timeout_s,
            lag_s=pace.lag_s,
        )

    def _answered(self, target: Target, probe: Probe) -> None:
        target.fresh = None
        if self._targets.get(target.uid) is target:
            if probe.outcome in SAID:
                target.reached_s = probe.ended_s
                target.fresh_due_s = probe.ended_s + FRESH_S * (1 + random.random()) / 2  # not all at once
            self._take(target, probe)
            if target.well and target.held.transport is None and not target.held.connecting:
                self._hold(target)

    def heard(self, target: Target, asked_s: float, outcome: ProbeOutcome, detail: str) -> None:
        self._take(target, Probe(asked_s, asyncio.get_running_loop().time(), outcome, detail))

    def _take(self, target: Target, probe: Probe) -> None:
        before = target.probes[-1].outcome if target.probes else None
        target.alike = 1 if probe.outcome is not before else target.alike + 1
        target.probes.append(probe)
        target.answered = target.answered or probe.outcome is ProbeOutcome.OK
        at_rest = target.well or target.alike > REMEMBERED  # ill for long: nothing new is to be learnt in a hurry
        target.due_s = probe.ended_s + (self.pace.idle_s if at_rest else self.pace.fast_s)
        if target.alike <= (1 if target.well else REMEMBERED):
            self._news(target.uid)

    def _hold(self, target: Target) -> None:
        target.held.connecting = True
        task = asyncio.get_running_loop().create_task(self._connect(target))
        self._connecting.add(task)
        task.add_done_callback(self._connecting.discard)

    async def _connect(self, target: Target) -> object:
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(self.pace.timeout_s):
                return await loop.create_connection(lambda: _Keeper(self, target), target.address, self._port)
        except OSError:  # TimeoutError is one; the next question will tell
            target.held.connecting = False
            return None


def _drop_held(target: Target) -> None:
    transport, target.held = target.held.transport, _Held()
    if transport is not None:
        transport.abort()


def _drop(target: Target) -> None:
    _drop_held(target)
    if target.fresh is not None:
        target.fresh.cancel()
        target.fresh = None
