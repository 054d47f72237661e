"""The walk: the same faults, in both worlds, at the same instants; each undone and recovered from before the next.

What happened is kept as marks (a fault and its instants) for the table and the picture. Nothing here knows how it is
shown: a `Teller` is told what begins, what hotswitch says, and how things stand four times a second.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Coroutine, Mapping, Sequence
from dataclasses import replace
from typing import Protocol

from hotswitch.sandbox.board import Board, Remark, board, remark
from hotswitch.sandbox.faults import Fault, FaultUnavailable
from hotswitch.sandbox.protector import DRAIN_S
from hotswitch.sandbox.score import WITH, Mark
from hotswitch.sandbox.walk import Step
from hotswitch.sandbox.world import World

TICK_S = 0.25
POLL_S = 0.05
LEAD_S = 2.0  # undisturbed traffic before the first fault
SETTLE_S = 0.6  # of traffic as it was before
RECOVERY_TIMEOUT_S = 40.0


class WalkFailed(RuntimeError):
    """The walk cannot go on; the message is a sentence."""


class Teller(Protocol):
    def begin(self, elapsed_s: float, step: Step, number: int, of: int) -> None: ...

    def remark(self, elapsed_s: float, said: Remark) -> None: ...

    def say(self, elapsed_s: float, sentence: str) -> None: ...

    def show(self, board: Board) -> None: ...


class Story:
    """Both worlds are built and traffic flows. After `walk`, `marks` has what was made, `start_s` and `end_s` when."""

    def __init__(self, worlds: Mapping[str, World], teller: Teller) -> None:
        self._worlds, self._teller = worlds, teller
        self.marks: list[Mark] = []
        self.start_s = self.end_s = time.monotonic()
        self._told = 0

    @property
    def _elapsed_s(self) -> float:
        return time.monotonic() - self.start_s

    async def walk(self, steps: Sequence[Step]) -> None:
        """Raises WalkFailed, ProtectorFailed."""
        self.start_s = time.monotonic()
        try:
            async with self._ticking() as ticker:
                await _first_of(self._all(steps), ticker)
            await self._tick()
        finally:
            self.end_s = time.monotonic()

    async def _all(self, steps: Sequence[Step]) -> None:
        await asyncio.sleep(LEAD_S)
        for number, step in enumerate(steps, 1):
            self._teller.begin(self._elapsed_s, step, number, len(steps))
            try:
                await self._step(step)
            except FaultUnavailable as missing:
                self._teller.say(self._elapsed_s, f"left out: {missing}")

    async def _step(self, step: Step) -> None:
        began_s = time.monotonic()
        faults = await self._make(step)
        await asyncio.sleep(began_s + step.hold_s - time.monotonic())
        now_s = time.monotonic()
        self.marks[-1] = replace(self.marks[-1], undone_s=now_s)
        if step.after:
            self.marks.append(Mark(step.after, True, dict.fromkeys(faults, now_s)))
        await asyncio.gather(*(fault.undo() for fault in faults.values()))
        await self._recovery(step)
        settle_s = SETTLE_S + (DRAIN_S if step.bypass or step.after else 0)
        await asyncio.sleep(max(settle_s, began_s + step.hold_s + step.rest_s - time.monotonic()))

    async def _make(self, step: Step) -> dict[tuple[str, str], Fault]:
        places = {(name, pod.name): pod for name, world in self._worlds.items() for pod in world.hit}
        now_s = time.monotonic()
        self.marks.append(Mark(step.name, step.bypass, dict.fromkeys(places, now_s)))
        try:
            made = await asyncio.gather(*(step.make(pod.faults) for pod in places.values()))
        except FaultUnavailable:
            self.marks.pop()
            raise
        faults = dict(zip(places, made, strict=True))
        self.marks[-1] = Mark(step.name, step.bypass, {place: fault.at_s for place, fault in faults.items()})
        return faults

    async def _recovery(self, step: Step) -> None:
        try:
            async with asyncio.timeout(RECOVERY_TIMEOUT_S):
                while not all(world.recovered for world in self._worlds.values()):
                    await asyncio.sleep(POLL_S)
        except TimeoutError:
            late = [sentence for world in self._worlds.values() for sentence in world.not_recovered()]
            wait = f"within {RECOVERY_TIMEOUT_S:g} s"
            raise WalkFailed(f"after {step.name!r} not everything was well again {wait}: {'; '.join(late)}") from None

    # ---- telling ----

    @contextlib.asynccontextmanager
    async def _ticking(self) -> AsyncIterator[asyncio.Task[None]]:
        task = asyncio.create_task(self._tick_on())
        try:
            yield task
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def _tick_on(self) -> None:
        while True:
            await self._tick()
            await asyncio.sleep(TICK_S)

    async def _tick(self) -> None:
        protector = self._worlds[WITH].protector
        if protector is not None:
            await protector.look()
            protector.journal.catch_up()
            for entry in protector.journal.entries[self._told :]:
                self._tell(remark(entry, self.marks, WITH))
            self._told = len(protector.journal.entries)
        self._teller.show(board(self._worlds, self.start_s))

    def _tell(self, said: Remark | None) -> None:
        if said is not None and said.at_s >= self.start_s:
            self._teller.remark(said.at_s - self.start_s, said)


async def _first_of(main: Coroutine[None, None, None], side: asyncio.Task[None]) -> None:
    """Until `main` ends; the side task only ever ends by an error, which is then ours."""
    task = asyncio.create_task(main)
    try:
        await asyncio.wait({task, side}, return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            side.result()
        await task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
