"""What an agent has asked its controller about pods whose proxy seems to hang: of each pod the newest counts (S4.2).

An answer to an older question tells of a time before the hang, perhaps, and is passed over.
"""

from __future__ import annotations

from hotswitch.api.agent.checked import count
from hotswitch.api.agent.v1 import agent_pb2 as wire
from hotswitch.model import Opinion, PodUid

ASKED_AT_MOST = 1000  # by one question


class Questions:
    def __init__(self) -> None:
        self._number = 0
        self._asked: dict[PodUid, int] = {}
        self._opinions: dict[PodUid, Opinion] = {}

    def ask(self, uid: PodUid, timeout_s: float) -> wire.Question:
        self._number += 1
        self._asked[uid] = self._number
        self._opinions.pop(uid, None)
        return wire.Question(uid=uid, number=self._number, timeout_s=timeout_s)

    def hear(self, message: wire.Opinion) -> bool:
        """Whether it answers the newest. Raises Malformed."""
        asked, answered, silent = (
            count(name, getattr(message, name), ASKED_AT_MOST) for name in ("asked", "answered", "silent")
        )
        uid = PodUid(message.uid)
        if self._asked.get(uid) != message.number:
            return False
        self._opinions[uid] = Opinion(asked=asked, answered=answered, silent=silent)
        return True

    def opinion(self, uid: PodUid) -> Opinion | None:
        return self._opinions.get(uid)

    def forget(self, uid: PodUid) -> None:
        self._asked.pop(uid, None)
        self._opinions.pop(uid, None)
