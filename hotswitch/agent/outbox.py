"""What an agent has to say to its controller, in bounded buffers: nothing here waits for a link (S4.2).

Of a pod's state the newest counts, of the journal the last LINES_AT_MOST lines; what is dropped is counted. What was
taken from a buffer and did not arrive is a line lost; a state is said again on the next link.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections import deque
from collections.abc import Callable

from hotswitch.agent.authority import PodState
from hotswitch.api.agent.reports import ability_message, diagnosis_message, drilled_message, standing_message
from hotswitch.api.agent.v1 import agent_pb2 as wire
from hotswitch.model import PodUid
from hotswitch.report.journal import Entry
from hotswitch.report.lines import line_message
from hotswitch.rescue.calls import Call

LINES_AT_MOST = 2048


class Outbox:
    """`dropped`: lines of the journal that were never said."""

    def __init__(self) -> None:
        self.dropped = 0
        self._states: dict[PodUid, PodState] = {}
        self._lines: deque[Entry] = deque()
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
            self._lines.popleft()
            self.dropped += 1
        self._lines.append(line)
        self._wake.set()

    def beat_soon(self) -> None:
        self._beat_due = True
        self._wake.set()

    def begin_anew(self) -> None:
        """On a new link every state is said, behind a beat."""
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
            if not (self._beat_due or self._questions or self._unsaid or self._lines or self._left):
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
        while self._lines:
            await _write(call, wire.FromAgent(line=line_message(self._lines[0])))
            self._lines.popleft()
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
