"""How many actuators may be at work at once, and who is next: a mesh may have thousands of ill pods (I3, I6).

Each look and each act is a command in a pod, over a connection of its own to the API server. Beyond `at_once` they wait
here: acts before looks, and among either one namespace after the other, so that one that is ill as a whole keeps no
other waiting. Whoever has waited asks again whether this controller still leads: a deposed one begins nothing.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from hotswitch.act.order import Ability, Actuator, Answer, Order, Outcome, Target

AT_ONCE = 32  # a connection and a TLS handshake each; a command takes some 50 ms
DEPOSED = "this controller leads no longer"
_Waiters = OrderedDict[str, deque[asyncio.Future[None]]]


class Turns:
    """Not for several event loops."""

    def __init__(self, at_once: int = AT_ONCE) -> None:
        self._free = at_once
        self._acts: _Waiters = OrderedDict()
        self._looks: _Waiters = OrderedDict()

    @asynccontextmanager
    async def taken(self, namespace: str, *, act: bool = False) -> AsyncIterator[None]:
        await self._take(namespace, self._acts if act else self._looks)
        try:
            yield
        finally:
            self._give()

    @property
    def waiting(self) -> int:
        return sum(len(queue) for line in (self._acts, self._looks) for queue in line.values())

    async def _take(self, namespace: str, line: _Waiters) -> None:
        if self._free:
            self._free -= 1
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        line.setdefault(namespace, deque()).append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():  # it had just been given to us
                self._give()
            else:
                _leave(line, namespace, turn)
            raise

    def _give(self) -> None:
        for line in (self._acts, self._looks):
            while line:
                turn = _next(line)
                if not turn.done():  # else who waited was ended, and has not run since
                    turn.set_result(None)
                    return
        self._free += 1


def _next(line: _Waiters) -> asyncio.Future[None]:
    """The first of the namespace whose turn it is, which then goes to the end of the line."""
    namespace, queue = line.popitem(last=False)
    turn = queue.popleft()
    if queue:
        line[namespace] = queue
    return turn


def _leave(line: _Waiters, namespace: str, turn: asyncio.Future[None]) -> None:
    queue = line.get(namespace, deque())
    if turn in queue:
        queue.remove(turn)
        if not queue:
            del line[namespace]


class InTurn:
    """An Actuator that waits for its turn. `leads`: whether this controller still may act."""

    def __init__(self, actuator: Actuator, turns: Turns, leads: Callable[[], bool]) -> None:
        self._actuator, self._turns, self._leads = actuator, turns, leads
        self.name, self.ends_by_itself = actuator.name, actuator.ends_by_itself
        self.all_or_nothing = actuator.all_or_nothing

    async def ability(self, target: Target) -> Ability:
        async with self._turns.taken(target.pod.namespace):
            return await self._actuator.ability(target)

    async def prepare(self, target: Target) -> str:
        async with self._turns.taken(target.pod.namespace):
            return await self._actuator.prepare(target) if self._leads() else DEPOSED

    async def carry_out(self, target: Target, order: Order) -> Answer:
        async with self._turns.taken(target.pod.namespace, act=True):
            if not self._leads():
                return Answer(outcome=Outcome.FAILED, sentence=DEPOSED)
            return await self._actuator.carry_out(target, order)

    def plan(self, target: Target, order: Order) -> list[str]:
        return self._actuator.plan(target, order)
