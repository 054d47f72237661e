"""What an agent has to say to its controller, in bounded buffers: nothing here waits for a link (S4.2).

Of a pod's state the newest counts, of the journal the last LINES_AT_MOST lines; what is dropped is counted. A state is
said again on the next link, and so is a line of which no controller has said that it is written down: the one that
heard it may have been killed with it. Not for ever, or one that no controller takes would end each link there is. A
controller that never says so (an older one) is told each line once.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import secrets
from collections.abc import Callable
from dataclasses import dataclass

from hotswitch.agent.authority import PodState
from hotswitch.api.agent.reports import ability_message, diagnosis_message, drilled_message, standing_message
from hotswitch.api.agent.v1 import agent_pb2 as wire
from hotswitch.model import PodUid
from hotswitch.report.journal import Entry
from hotswitch.report.lines import line_message
from hotswitch.rescue.calls import Call

LINES_AT_MOST = 2048
SAID_AT_MOST = 4  # of a line: on so many links


@dataclass(slots=True)
class _Line:
    entry: Entry
    said: int = 0


class Outbox:
    """`dropped`: lines of the journal that were never said, or of which nobody has said that they are written down."""

    def __init__(self) -> None:
        self.dropped = 0
        self._states: dict[PodUid, PodState] = {}
        self._lines: dict[int, _Line] = {}  # by number: not said yet, or not known to be written down
        self._newest = secrets.randbits(31) << 32  # another process's lines are never taken for ours
        self._said = self._newest  # on this link
        self._confirms = False
        self._unsaid: set[PodUid] = set()
        self._left: set[PodUid] = set()
        self._questions: dict[str, wire.Question] = {}
        self._beat_due = True
        self._wake = asyncio.Event()

    # ---- what there is to say ----

    def state(self, uid: PodUid, state: PodState) -> None:
        was_open = self.is_open(uid)
        self._states[uid] = state
        self._unsaid.add(uid)
        if was_open is not state.standing.is_open:
            self._beat_due = True
        self._wake.set()

    def is_open(self, uid: PodUid) -> bool:
        return uid in self._states and self._states[uid].standing.is_open

    def came(self, uid: PodUid) -> None:
        """The pod is guarded here, again or from now on."""
        self._left.discard(uid)

    def went(self, uid: PodUid) -> None:
        self._states.pop(uid, None)
        self._unsaid.discard(uid)
        self._left.add(uid)
        self.beat_soon()

    def question(self, question: wire.Question) -> None:
        """Before all else that waits: a hang is not acted on meanwhile."""
        self._questions[question.uid] = question
        self._wake.set()

    def line(self, line: Entry) -> None:
        if len(self._lines) >= LINES_AT_MOST:
            del self._lines[next(iter(self._lines))]
            self.dropped += 1
        self._newest += 1
        self._lines[self._newest] = _Line(line)
        self._wake.set()

    def written(self, uid: PodUid, up_to: int) -> None:
        """By the controller, of a pod's lines."""
        for number in [each for each, line in self._lines.items() if each <= up_to and line.entry.uid == uid]:
            del self._lines[number]

    def beat_soon(self) -> None:
        self._beat_due = True
        self._wake.set()

    def begin_anew(self, *, confirms: bool) -> None:
        """On a new link every state is said, behind a beat, and then the lines. `confirms`: its controller says which
        of them are written down."""
        for number in [each for each, line in self._lines.items() if line.said >= SAID_AT_MOST]:
            del self._lines[number]
            self.dropped += 1
        self._confirms, self._said = confirms, min(self._lines, default=self._newest + 1) - 1
        self._unsaid |= self._states.keys()
        self._questions.clear()
        self._beat_due = True

    # ---- saying it ----

    async def say(self, call: Call, beat: Callable[[], wire.Beat], beat_s: float) -> None:
        """Whatever is due, and a beat about every `beat_s`, until cancelled. Raises CallFailed."""
        loop = asyncio.get_running_loop()
        next_beat_s = loop.time()
        while True:
            if self._beat_due or loop.time() >= next_beat_s:
                self._beat_due = False
                await _write(call, wire.FromAgent(beat=beat()))
                next_beat_s = loop.time() + beat_s * random.uniform(0.8, 1.2)
            await self._say_what_is_new(call)
            self._wake.clear()
            if not (self._beat_due or self._questions or self._unsaid or self._said < self._newest or self._left):
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(max(0.0, next_beat_s - loop.time())):
                        await self._wake.wait()

    async def _say_what_is_new(self, call: Call) -> None:
        while self._left:
            await _write(call, wire.FromAgent(gone=wire.PodGone(uid=self._left.pop())))
        while self._questions or self._unsaid:
            await self._ask(call)
            if self._unsaid and (uid := self._unsaid.pop()) in self._states:
                await _write(call, wire.FromAgent(pod=_report(uid, self._states[uid])))
        while self._said < self._newest:
            number = self._said + 1
            if (line := self._lines.get(number)) is not None:
                line.said += 1
                await _write(call, wire.FromAgent(line=line_message(line.entry, number)))
                if not self._confirms:
                    self._lines.pop(number, None)
            self._said = number
            await self._ask(call)

    async def _ask(self, call: Call) -> None:
        while self._questions:
            _, question = self._questions.popitem()
            await _write(call, wire.FromAgent(question=question))


async def _write(call: Call, message: wire.FromAgent) -> None:
    await call.send(message.SerializeToString())


def _report(uid: PodUid, state: PodState) -> wire.PodReport:
    now_s = asyncio.get_running_loop().time()
    return wire.PodReport(
        uid=uid,
        standing=standing_message(state.standing, now_s),
        diagnosis=diagnosis_message(state.diagnosis, now_s),
        ability=ability_message(state.capabilities),
        identity_expires_in_s=state.identity_expires_in_s,
        path_passes=state.path_passes,
        istio_rules=state.istio_rules,
        istio_incomplete=not state.istio_complete,
        stand_in=state.stand_in,
        drilled=drilled_message(state.drilled),
    )
