"""Drills in annotations: an order is one or a sentence; what anybody else wrote is no record (S4.6, I2, I6)."""

from __future__ import annotations

import json
from typing import Any

import pytest

from hotswitch.api import names
from hotswitch.api.drills import DrillOrder, DrillRecord, read_order, read_record, text_of
from hotswitch.api.values import InvalidValue

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
