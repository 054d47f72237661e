"""Drills in annotations: an order is one or a sentence; what anybody else wrote is no record (S4.6, I2, I6)."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest

from hotswitch.api import names
from hotswitch.api.agent.checked import Malformed
from hotswitch.api.agent.reports import drilled_message, drilled_of
from hotswitch.api.drills import Drilled, DrillOrder, DrillRecord, read_order, read_record, text_of
from hotswitch.api.values import InvalidValue, shown_instant

pytestmark = pytest.mark.unit

AT = "2026-01-31T12:00:00Z"
ORDER = DrillOrder(id="k3x9", at=AT, for_s=7.0, by="ann")
RECORD = DrillRecord(
    uid="u1", id="k3x9", at=AT, for_s=7.0, by="ann", term=3, result="passed", ended=AT, ran=AT, passed=AT
)


def said(**more: Any) -> str:
    return json.dumps({"id": "a", "at": AT, **more})


def test_an_order_and_a_record_are_read_as_they_were_written() -> None:
    assert read_order({names.DRILL_ORDER: text_of(ORDER)}) == ORDER
    assert read_order({}) is None
    assert read_record({names.DRILLED: text_of(RECORD)}, "u1") == RECORD


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("now", "JSON|truncated"),
        ('{"id": "a"}', "at"),
        ('{"id": "a", "at": "yesterday"}', "is not an instant"),
        (said(id="A B"), "id: "),
        (said(for_s=61), "for_s: 61 is not between"),
        (said(level="direct"), "level"),
        (said(by="a\nb"), "control characters"),
        ("x" * 5000, "longer than"),
    ],
)
def test_an_order_that_is_none_names_field_and_value(text: str, why: str) -> None:
    with pytest.raises(InvalidValue, match=why) as raised:
        read_order({names.DRILL_ORDER: text})
    assert raised.value.field == names.DRILL_ORDER


@pytest.mark.parametrize("text", ["", "{}", "x" * 5000, text_of(RECORD).replace(AT, "soon"), "[1]"])
def test_what_is_no_record_of_ours_counts_for_nothing(text: str) -> None:
    assert read_record({names.DRILLED: text}, "u1") is None


def test_a_record_that_came_with_a_template_counts_for_nothing() -> None:
    assert read_record({names.DRILLED: text_of(RECORD)}, "u2") is None


@pytest.mark.parametrize(
    "odd",
    [
        {"for_s": 1e300},
        {"for_s": 61.0},
        {"for_s": 0.0},
        {"at": ""},
        {"at": "9999-12-31T23:59:59Z"},
        {"at": shown_instant(time.time() + 3600)},
        {"ran": "9999-12-31T23:59:59Z"},
    ],
)
def test_a_feigned_drill_that_would_never_end_counts_for_nothing(odd: dict[str, Any]) -> None:  # I2
    """Else one pod's annotation would stop the drills of all."""
    feigned = DrillRecord(**{"uid": "u1", "id": "x", "at": AT, "for_s": 7.0, "by": "ann", "term": 3, **odd})
    assert read_record({names.DRILLED: text_of(feigned)}, "u1") is None


@pytest.mark.parametrize("result", ["", "PASSED", "x" * 300])
def test_an_agent_tells_an_end_that_is_none(result: str) -> None:  # I2
    """It would leave the drill under way for ever, or be a label of a metric."""
    message = drilled_message(Drilled(id="k3x9", result=result, why=""))
    assert message is not None
    with pytest.raises(Malformed, match=r"drilled\.result: .* is none of passed, failed"):
        drilled_of(message)
