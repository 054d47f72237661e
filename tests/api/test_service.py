"""What Services and pods say about endpoints: read, or refused with the annotation and the value (S0, S2.1)."""

from __future__ import annotations

from typing import Any

import pytest

from hotswitch.api import service as said
from hotswitch.api.values import InvalidValue
from hotswitch.backends import ActivityLease, Check, CheckKind, Rotation, ServiceMode, ServiceOptions

pytestmark = pytest.mark.unit
P = said.PREFIX


def annotations(**words: str) -> dict[str, str]:
    return {P + key.replace("_", "-"): text for key, text in words.items()}


def test_what_is_left_out_is_usual() -> None:
    assert said.options({}) == ServiceOptions()
    assert said.mode({}) is None and said.switchover({}) is None
    assert said.standing({}) == (0, 1, None, Rotation.IN)


def test_everything_said() -> None:
    found = said.options(
        annotations(
            check="http:8008/healthz", check_period="2s", check_timeout="300ms", check_rise="2", check_fall="5",
            preempt="true", activity_lease="5s", paused="true", stale_after="5s", lost_after="20s",
        )
    )  # fmt: skip
    assert found == ServiceOptions(
        check=Check(CheckKind.HTTP, 8008, "/healthz", 2.0, 0.3, 2, 5),
        preempt=True,
        lease=ActivityLease(5.0, frozenset({"gone", "agent", "lease"})),
        paused=True,
        stale_after_s=5.0,
        lost_after_s=20.0,
    )


@pytest.mark.parametrize(
    ("text", "check"),
    [
        ("kubelet", (CheckKind.KUBELET, 0, "")),
        ("tcp:5432", (CheckKind.TCP, 5432, "")),
        ("http:80", (CheckKind.HTTP, 80, "/")),
        ("grpc:9000", (CheckKind.GRPC, 9000, "")),
        ("grpc:9000/shop.Db", (CheckKind.GRPC, 9000, "shop.Db")),
    ],
)
def test_checks(text: str, check: tuple[Any, ...]) -> None:  # S0.1
    found = said.options(annotations(check=text)).check
    assert (found.kind, found.port, found.path) == check


@pytest.mark.parametrize(
    ("words", "field"),
    [
        ({"check": "tcp"}, "check"),
        ({"check": "tcp:0"}, "check"),
        ({"check": "tcp:70000"}, "check"),
        ({"check": "tcp:80/path"}, "check"),
        ({"check": "http:80/a b"}, "check"),
        ({"check": "exec:80"}, "check"),
        ({"check_period": "1"}, "check-period"),
        ({"check_period": "1ms"}, "check-period"),
        ({"check_timeout": "2m"}, "check-timeout"),
        ({"check_fall": "0"}, "check-fall"),
        ({"check_rise": "many"}, "check-rise"),
        ({"preempt": "yes"}, "preempt"),
        ({"activity_lease": "1s"}, "activity-lease"),
        ({"activity_lease": "1h"}, "activity-lease"),
        ({"fences": "lease"}, "fences"),
        ({"fences": ""}, "fences"),
        ({"fences": "hope"}, "fences"),
        ({"paused": "1"}, "paused"),
        ({"stale_after": "60s", "lost_after": "10s"}, "lost-after"),
        ({"chek": "tcp:80"}, "chek"),
    ],
)
def test_what_cannot_be_read_names_field_and_value(words: dict[str, str], field: str) -> None:
    with pytest.raises(InvalidValue) as refused:
        said.options(annotations(**words))
    assert refused.value.field == P + field and refused.value.why


@pytest.mark.parametrize("text", ["", "app", "app=db,app=web", "app==db", "a b=c", "/x=y"])
def test_a_selector_that_selects_nothing_or_everything_is_refused(text: str) -> None:
    with pytest.raises(InvalidValue):
        said.selector(annotations(selector=text))


def test_a_mode_without_a_selector_is_refused() -> None:
    with pytest.raises(InvalidValue, match="selector"):
        said.selector(annotations(mode="all"))
    assert said.mode(annotations(mode="all")) is ServiceMode.ALL


@pytest.mark.parametrize("text", ["db-1", "db-1@", "@2026-01-01T00:00:00Z", "db-1@noon", "DB@2026-01-01T00:00:00Z"])
def test_an_order_that_cannot_be_read(text: str) -> None:
    with pytest.raises(InvalidValue):
        said.switchover(annotations(switchover=text))


def test_an_order() -> None:
    assert said.switchover(annotations(switchover="db-1@1970-01-01T00:01:00Z")) == ("db-1", 60.0)


@pytest.mark.parametrize("words", [{"priority": "1.5"}, {"priority": "9999"}, {"weight": "0"}, {"rotation": "away"}])
def test_a_pods_own_words(words: dict[str, str]) -> None:
    with pytest.raises(InvalidValue):
        said.standing(annotations(**words))
