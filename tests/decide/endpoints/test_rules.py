"""Orders of a Service and of its requests, as annotations say them (S2.8)."""

from __future__ import annotations

import pytest

from hotswitch.api.service import ORDER, ROUTES
from hotswitch.api.values import InvalidValue
from hotswitch.backends import ServiceMode
from hotswitch.decide.endpoints.place import DEFAULT, Distance, Order
from hotswitch.decide.endpoints.rules import MOST_RULES, RequestRule
from hotswitch.endpoints.orders import orders

pytestmark = pytest.mark.unit


def test_nearest_has_the_whole_order_and_the_other_modes_no_preference_at_home() -> None:
    assert orders(ServiceMode.NEAREST, {}).own == DEFAULT
    for mode in (ServiceMode.ALL, ServiceMode.ACTIVE_STANDBY):
        assert orders(mode, {}).own.all == (Distance.CLUSTER, Distance.OTHER, Distance.STALE)


def test_order_and_rules_are_read() -> None:
    said = {ORDER: "same-host", ROUTES: "batch header X-Batch=yes other-cluster; report prefix /r only: same-zone ;"}
    found = orders(ServiceMode.NEAREST, said)
    assert found.own == Order((Distance.HOST,))
    assert found.rules == (
        RequestRule("batch", Order((Distance.OTHER,)), header="x-batch", value="yes"),
        RequestRule("report", Order((Distance.ZONE,), only=True), prefix="/r"),
    )
    assert found.of("report") == found.rules[1].order and found.of("") == found.own and found.of("none") is None


@pytest.mark.parametrize(
    ("field", "value"),
    [
        (ORDER, "nearby"),
        (ROUTES, "batch"),
        (ROUTES, "batch cookie a=b same-host"),
        (ROUTES, "Batch header a=b same-host"),
        (ROUTES, "batch header a same-host"),
        (ROUTES, "batch prefix r same-host"),
        (ROUTES, "batch prefix /r nearby"),
        (ROUTES, "a prefix /r same-host; a prefix /s same-host"),
        (ROUTES, "; ".join(f"a{number} prefix /r same-host" for number in range(MOST_RULES + 1))),
    ],
)
def test_value_that_cannot_be_used_is_named(field: str, value: str) -> None:
    with pytest.raises(InvalidValue, match=field):
        orders(ServiceMode.NEAREST, {field: value})
