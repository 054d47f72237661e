"""A person's order: always with an end and a reason, never by half (I4, S4.6)."""

import pytest

from hotswitch.api import names
from hotswitch.api.override import Ended, Order, read, write
from hotswitch.api.values import InvalidValue, instant_unix_s, shown_instant
from hotswitch.model import Direction, Level

pytestmark = pytest.mark.unit
NOW = instant_unix_s("2026-03-01T12:00:00Z")
ORDER = {
    names.OVERRIDE: "rescue",
    names.OVERRIDE_UNTIL: "2026-03-01T12:30:00Z",
    names.OVERRIDE_REASON: "INC-1: proxy wedged",
}


def test_nothing_is_ordered_without_annotations() -> None:
    assert read({"other": "x", names.STATUS: "{}"}, NOW) is None


def test_an_order_is_read_whole() -> None:
    more = {names.OVERRIDE_DIRECTION: "inbound", names.OVERRIDE_BY: "ada", names.OVERRIDE_ACCEPT: "HSW0101, HSW0102"}
    order = read({**ORDER, **more}, NOW)
    assert order is not None
    assert order.levels == {Direction.INBOUND: Level.RESCUE}
    assert (order.until_unix_s - NOW, order.reason, order.by) == (1800, "INC-1: proxy wedged", "ada")
    assert order.accept == {"HSW0101", "HSW0102"}


def test_without_a_direction_both_are_meant() -> None:
    order = read(ORDER, NOW)
    assert order is not None and order.levels == dict.fromkeys(Direction, Level.RESCUE)


def test_the_end_is_told_on_the_deciders_clock() -> None:
    order = read(ORDER, NOW)
    assert order is not None and order.at(now_s=50.0, now_unix_s=NOW).until_s == 1850.0


@pytest.mark.parametrize(
    "text", ["2026-03-01T12:30:00Z", "2026-03-01T13:30:00+01:00", "2026-03-01t12:30:00.000z", "2026-03-01T12:30:00.5Z"]
)
def test_an_end_in_any_zone(text: str) -> None:
    assert read({**ORDER, names.OVERRIDE_UNTIL: text}, NOW) is not None


@pytest.mark.parametrize("word", ["capture", "hold"])
def test_an_order_that_opens_nothing_needs_no_reason(word: str) -> None:
    assert read({names.OVERRIDE: word, names.OVERRIDE_UNTIL: ORDER[names.OVERRIDE_UNTIL]}, NOW) is not None


@pytest.mark.parametrize(
    ("change", "field", "why"),
    [
        ({names.OVERRIDE: "bypass"}, names.OVERRIDE, "none of hold, rescue, direct, capture"),
        ({names.OVERRIDE: ""}, names.OVERRIDE, "none of"),
        ({names.OVERRIDE_UNTIL: None}, names.OVERRIDE_UNTIL, "is missing"),
        ({names.OVERRIDE_UNTIL: "30m"}, names.OVERRIDE_UNTIL, "is not an instant"),
        ({names.OVERRIDE_UNTIL: "2026-03-01 12:30"}, names.OVERRIDE_UNTIL, "is not an instant"),
        ({names.OVERRIDE_UNTIL: "2026-03-01T12:30:00"}, names.OVERRIDE_UNTIL, "is not an instant"),
        ({names.OVERRIDE_UNTIL: "2026-02-30T12:30:00Z"}, names.OVERRIDE_UNTIL, "is not an instant"),
        ({names.OVERRIDE_UNTIL: "0001-01-01T00:00:00+23:59"}, names.OVERRIDE_UNTIL, ""),
        ({names.OVERRIDE_UNTIL: "2026-03-08T12:00:01Z"}, names.OVERRIDE_UNTIL, "more than 7 days"),
        ({names.OVERRIDE_DIRECTION: "both"}, names.OVERRIDE_DIRECTION, "neither inbound nor outbound"),
        ({names.OVERRIDE_REASON: None}, names.OVERRIDE_REASON, "rescue needs one"),
        ({names.OVERRIDE_REASON: "  "}, names.OVERRIDE_REASON, "rescue needs one"),
        ({names.OVERRIDE_REASON: "x" * 1025}, names.OVERRIDE_REASON, "longer than 1024"),
        ({names.OVERRIDE_REASON: "a\x1b[31mb"}, names.OVERRIDE_REASON, "control characters"),
        ({names.OVERRIDE_BY: "x" * 254}, names.OVERRIDE_BY, "longer than 253"),
        ({names.OVERRIDE_ACCEPT: "all"}, names.OVERRIDE_ACCEPT, "'all' is not a code"),
        ({names.OVERRIDE_ACCEPT: "HSW0101,"}, names.OVERRIDE_ACCEPT, "empty place"),
        ({names.OVERRIDE: None}, names.OVERRIDE_UNTIL, f"means nothing without {names.OVERRIDE}"),
    ],
)
def test_a_wrong_order_is_named_and_not_carried_out(change: dict[str, str | None], field: str, why: str) -> None:
    annotations = {name: value for name, value in {**ORDER, **change}.items() if value is not None}
    with pytest.raises(InvalidValue) as failure:
        read(annotations, NOW)
    assert failure.value.field == field
    assert why in failure.value.why


@pytest.mark.parametrize("until", [ORDER[names.OVERRIDE_UNTIL], "2026-03-01T12:00:00Z"])
def test_an_order_whose_time_is_over_has_ended_and_is_not_wrong(until: str) -> None:
    with pytest.raises(Ended):
        read({**ORDER, names.OVERRIDE_UNTIL: until}, NOW + 1800)


def test_what_is_written_is_what_is_read() -> None:
    order = Order(
        levels={Direction.OUTBOUND: Level.DIRECT},
        until_unix_s=NOW + 60,
        reason="r",
        by="ada",
        accept=frozenset({"HSW0101"}),
    )
    said = {name: value for name, value in write("direct", order).items() if value is not None}
    assert read(said, NOW) == order
    assert write("direct", order)[names.OVERRIDE_UNTIL] == shown_instant(NOW + 60)
