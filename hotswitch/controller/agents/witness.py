"""The controller as the second observer of a hang that an agent sees (S4.2, S4.2b, I2).

It asks 15021 itself, at that moment, and says what came of it; what follows is the agent's to decide (decide.second).
Of one pod there is one question at a time: who asks again meanwhile is told at once that nobody can tell.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from hotswitch.api.agent.checked import seconds
from hotswitch.api.agent.v1 import agent_pb2 as wire
from hotswitch.model import Opinion, PodUid

TIMEOUT_AT_LEAST_S, TIMEOUT_AT_MOST_S = 0.02, 2.0

Look = Callable[[str, float, Callable[[Opinion], None]], None]
"""Of which pod, how long a question may stand, and who is told what came of it (once, or never)."""


class Wire(Protocol):
    """The way to one agent; `send` never waits."""

    def send(self, message: wire.ToAgent) -> None: ...

    def end(self, reason: str, sentence: str) -> None: ...


def nobody_looks(uid: str, timeout_s: float, done: Callable[[Opinion], None]) -> None:
    done(Opinion())


class Witness:
    def __init__(self, look: Look) -> None:
        self._look = look
        self._looking: set[PodUid] = set()

    def asked(self, link: Wire, uid: PodUid, question: wire.Question) -> None:
        """Raises Malformed."""
        timeout_s = seconds("timeout_s", question.timeout_s, at_least=TIMEOUT_AT_LEAST_S, at_most=TIMEOUT_AT_MOST_S)
        number = question.number
        if uid in self._looking:
            link.send(_message(uid, number, Opinion()))
            return

        def heard(opinion: Opinion) -> None:
            self._looking.discard(uid)
            link.send(_message(uid, number, opinion))

        self._looking.add(uid)
        self._look(uid, timeout_s, heard)


def _message(uid: PodUid, number: int, opinion: Opinion) -> wire.ToAgent:
    told = wire.Opinion(uid=uid, number=number, asked=opinion.asked, answered=opinion.answered, silent=opinion.silent)
    return wire.ToAgent(opinion=told)
