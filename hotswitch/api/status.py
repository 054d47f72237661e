"""The annotation `hotswitch.io/status`: what hotswitch is doing to a pod, written before it is done (I6, I8).

It is the controller's only memory of a pod: a controller that starts, or takes over as leader, goes on from here. A
status of another pod's uid came with a copied template and is not believed. Instants are RFC 3339 in UTC.
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from hotswitch.model import OPEN_LEVELS, Direction, Level

SHOWN_BYTES = 16_384  # an annotation may have 256 KiB with all others; a status far over what we write is not ours


class StatusError(ValueError):
    """The annotation cannot be read; the message names the field."""


class PodStatus(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """`levels`: where new flows go. `wanted`: what the act under way leads to, empty when none is. `step`: the step of
    that act that was begun last. `standing`: the decider's memory (controller.memory), not for people; `after`: the one
    that holds once the act under way is carried out. `term`: the leader's, so that a deposed one's late write is known
    as one."""

    v: int = 1
    uid: str
    generation: int = 0
    term: int = 0
    levels: dict[Direction, Level] = msgspec.field(default_factory=dict)
    wanted: dict[Direction, Level] = msgspec.field(default_factory=dict)
    step: str = ""
    actuator: str = ""
    fault: str = "well"
    code: str = ""
    why: str = ""
    by: str = "hotswitch"
    since: str = ""
    expires: str = ""
    tls_mode_before: str | None = None  # the label's value before it was changed; None: it was not changed
    standing: dict[str, Any] = msgspec.field(default_factory=dict)
    after: dict[str, Any] = msgspec.field(default_factory=dict)
    alerts: dict[str, str] = msgspec.field(default_factory=dict)  # what people were told and must be told the end of
    at: str = ""

    @property
    def under_way(self) -> bool:
        return bool(self.step)

    @property
    def may_be_open(self) -> bool:
        return self.under_way or any(level in OPEN_LEVELS for level in self.levels.values())


State = Literal["CAPTURED", "RESCUED", "DIRECT", "HELD"]
_STATES: dict[Level, State] = {
    Level.CAPTURE: "CAPTURED", Level.RESCUE: "RESCUED", Level.DIRECT: "DIRECT", Level.HOLD: "HELD",
}  # fmt: skip


def shown(level: Level) -> State:
    """A level as people are shown it."""
    return _STATES[level]


def encode(status: PodStatus) -> str:
    return msgspec.json.encode(status).decode()


def decode(text: str, uid: str) -> PodStatus | None:
    """None for a status that tells of another pod. Raises StatusError."""
    if len(text) > SHOWN_BYTES:
        raise StatusError(f"hotswitch.io/status: {len(text)} bytes are more than hotswitch writes ({SHOWN_BYTES})")
    try:
        status = msgspec.json.decode(text, type=PodStatus)
    except (msgspec.ValidationError, msgspec.DecodeError) as failure:
        raise StatusError(f"hotswitch.io/status: {failure}") from failure
    return status if status.uid == uid else None
