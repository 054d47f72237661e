"""Timers that all watches share: one of the loop's for each instant, however many pods it wakes (S4.2).

With 250 pods the loop's own heap of timers was a fifth of the agent's cost at rest.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from weakref import WeakKeyDictionary

SLOT_S = 0.04
_EARLY = 1e-6  # of a slot: less than this is no difference, but an error of floating point


class Due:
    """One call at an instant, as asyncio.TimerHandle is."""

    __slots__ = ("_at_s", "call")

    def __init__(self, at_s: float, call: Callable[[], None]) -> None:
        self._at_s = at_s
        self.call: Callable[[], None] | None = call

    def when(self) -> float:
        return self._at_s

    def cancel(self) -> None:
        self.call = None


class Slots:
    """Of one loop. What fails is told to the loop, and the others of its slot are called all the same."""

    def __init__(self) -> None:
        self._due: dict[int, list[Due]] = {}

    def call_at(self, at_s: float, call: Callable[[], None]) -> Due:
        """A little later, at the next instant that is shared."""
        slot = math.ceil(at_s / SLOT_S - _EARLY)
        due = Due(slot * SLOT_S, call)
        if (others := self._due.get(slot)) is not None:
            others.append(due)
        else:
            self._due[slot] = [due]
            asyncio.get_running_loop().call_at(due.when(), self._run, slot)
        return due

    def _run(self, slot: int) -> None:
        for due in self._due.pop(slot):
            if due.call is not None:
                try:
                    due.call()
                except Exception as failure:
                    told = {"message": f"a call that was due failed: {due.call}", "exception": failure}
                    asyncio.get_running_loop().call_exception_handler(told)


_OF_LOOP: WeakKeyDictionary[asyncio.AbstractEventLoop, Slots] = WeakKeyDictionary()


def slots_of(loop: asyncio.AbstractEventLoop) -> Slots:
    if loop not in _OF_LOOP:
        _OF_LOOP[loop] = Slots()
    return _OF_LOOP[loop]
