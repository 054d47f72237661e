"""How much one agent may say: whoever says more is cut off, and counted (I2)."""

from __future__ import annotations

from dataclasses import dataclass

MESSAGE_BYTES = 512 * 1024  # a hello, or the report of a pod with long evidence
RECEIVED_BYTES = 4 * 2**20  # what gRPC takes at all; what is between is refused with a reason
MESSAGES_A_SECOND, BURST = 100.0, 2000.0  # all pods of a full node at once, ten times over
HELLO_WITHIN_S = 10.0
PODS_AT_MOST = 1000  # that one agent reports
LINES_AT_MOST = 256  # of one pod that wait to be told
SCOPES_AT_MOST = 4096


class Rejected(Exception):
    """The agent is not heard any further. `reason`: one word, for the metric; the message is a sentence."""

    def __init__(self, reason: str, sentence: str) -> None:
        super().__init__(sentence)
        self.reason = reason


@dataclass(slots=True)
class Bucket:
    """`take` raises Rejected when there were more than `burst` beyond `rate` a second."""

    now_s: float
    rate: float = MESSAGES_A_SECOND
    burst: float = BURST
    left: float = BURST

    def take(self, now_s: float) -> None:
        self.left = min(self.burst, self.left + (now_s - self.now_s) * self.rate) - 1.0
        self.now_s = now_s
        if self.left < 0:
            raise Rejected("too-many", f"more than {self.rate:g} messages a second")
