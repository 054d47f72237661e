"""Drills in a pod's annotations: a person's order for one, and what the leader wrote of the last (S4.4, S4.6, I6, I8).

`hotswitch.io/drill-order` is JSON that a person's command writes: `{"id": "k3x9", "at": "2026-01-31T12:00:00Z"}`. An
order is for now: one that nobody heeded within START_WITHIN_S is over. `hotswitch.io/drilled` is the leader's memory:
written before a drill begins, so that whoever leads next orders none a second time, and again when it has ended.
"""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

import msgspec

from hotswitch.api import names
from hotswitch.api.values import InvalidValue, instant_unix_s

START_WITHIN_S = 120.0
FOR_AT_MOST_S = 60.0
SKEW_S = 60.0  # by which another controller's clock may be ahead of ours
LONGEST = 4096  # characters of one annotation
_ID = re.compile(r"[a-z0-9-]{1,64}")


class Result(StrEnum):
    PASSED = "passed"
    FAILED = "failed"
    INTERRUPTED = "interrupted"
    REFUSED = "refused"


class DrillOrder(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, kw_only=True):
    """`id`: of this order and no other. `at`: when it was given, RFC 3339. `for_s`: seconds."""

    id: str
    at: str
    for_s: float = 5.0
    by: str = "annotation"


class DrillRecord(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """`result` "": under way. `term`: of the leader that ordered it. `ran`, `passed`: when a drill of this pod was last
    carried out, and when one passed last; "": never. `uid`: the pod's; a record of another one came with a template.
    `heeded`: the person's order that was heeded last, whatever drills came after it; "": none. `actuator`: by which it
    was ordered, where no agent looks after the pod."""

    v: int = 1
    uid: str
    id: str
    at: str
    for_s: float
    by: str
    term: int
    result: str = ""
    why: str = ""
    ended: str = ""
    served: int = 0
    lost: int = 0
    open_ms: float | None = None
    restore_ms: float | None = None
    ran: str = ""
    passed: str = ""
    heeded: str = ""
    actuator: str = ""

    @property
    def under_way(self) -> bool:
        return not self.result


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """What an agent is told of a drill: `id` of the order, `for_s` in seconds, `by` whom."""

    id: str
    for_s: float
    by: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Drilled:
    """What became of the drill that was ordered as `id`. `result`: a Result. Durations: "open" and "restore", as far as
    it came to them."""

    id: str
    result: str
    why: str
    served: int = 0
    lost: int = 0
    durations_s: Mapping[str, float] = field(default_factory=dict)


def read_order(annotations: Mapping[str, str]) -> DrillOrder | None:
    """Raises InvalidValue."""
    text = annotations.get(names.DRILL_ORDER)
    if text is None:
        return None
    if len(text) > LONGEST:
        raise InvalidValue(names.DRILL_ORDER, text, f"is longer than {LONGEST} characters")
    try:
        order = msgspec.json.decode(text, type=DrillOrder)
        instant_unix_s(order.at)
    except (msgspec.MsgspecError, ValueError) as failure:
        raise InvalidValue(names.DRILL_ORDER, text, str(failure)) from failure
    for wrong, why in (
        (not _ID.fullmatch(order.id), "id: is not made of a-z, 0-9 and -, at most 64"),
        (not 1.0 <= order.for_s <= FOR_AT_MOST_S, f"for_s: {order.for_s:g} is not between 1 and {FOR_AT_MOST_S:g}"),
        (not order.by.isprintable() or len(order.by) > 253, "by: has control characters, or more than 253"),
    ):
        if wrong:
            raise InvalidValue(names.DRILL_ORDER, text, why)
    return order


def read_record(annotations: Mapping[str, str], uid: str) -> DrillRecord | None:
    """What is none of ours, or another pod's, is none. Who may write the pod can feign one: that makes a drill of his
    workload more or less, and holds up those of others until the feigned one should have ended, not for longer."""
    text = annotations.get(names.DRILLED, "")
    if not text or len(text) > LONGEST:
        return None
    try:
        record = msgspec.json.decode(text, type=DrillRecord)
        newest_s = max(instant_unix_s(each) for each in (record.at, record.ended, record.ran, record.passed) if each)
        instant_unix_s(record.at)
    except (msgspec.MsgspecError, ValueError):
        return None
    plausible = 0.0 < record.for_s <= FOR_AT_MOST_S and newest_s <= time.time() + SKEW_S
    return record if plausible and record.uid == uid else None


def text_of(content: DrillOrder | DrillRecord) -> str:
    return msgspec.json.encode(content).decode()
