"""The pod's condition says where its traffic goes, and since when (S4.6)."""

import pytest

from hotswitch.api.names import CONDITION
from hotswitch.model import Direction, Level
from hotswitch.report.conditions import condition, find, fragment

pytestmark = pytest.mark.unit
IN, OUT = Direction.INBOUND, Direction.OUTBOUND
T = 1_764_230_400.0


def of(levels, **fields):
    return condition(levels, **({"code": "HSD001", "sentence": "It died.", "at_unix_s": T} | fields))


@pytest.mark.parametrize(
    ("levels", "status", "reason"),
    [
        ({}, "True", "Captured"),
        ({IN: Level.CAPTURE, OUT: Level.CAPTURE}, "True", "Captured"),
        ({IN: Level.HOLD, OUT: Level.CAPTURE}, "True", "Held"),
        ({IN: Level.RESCUE, OUT: Level.HOLD}, "False", "Rescued"),
        ({IN: Level.RESCUE, OUT: Level.DIRECT}, "False", "Direct"),
        ({OUT: Level.DIRECT}, "False", "Direct"),
    ],
)
def test_status_is_true_only_while_all_traffic_passes_the_proxy(levels, status, reason) -> None:
    made = of(levels)
    assert (made["type"], made["status"], made["reason"]) == (CONDITION, status, reason)


def test_both_ways_and_the_code_are_in_the_message() -> None:
    assert of({OUT: Level.DIRECT})["message"] == "inbound CAPTURED, outbound DIRECT; HSD001: It died."
    assert of({}, code="", sentence="")["message"] == "inbound CAPTURED, outbound CAPTURED"


def test_outcome_of_an_act_is_not_known() -> None:
    assert of({IN: Level.RESCUE}, known=False)["status"] == "Unknown"


def test_instant_is_that_of_the_last_change() -> None:
    first = of({IN: Level.RESCUE})
    assert first["lastTransitionTime"] == "2025-11-27T08:00:00Z"
    later = of({IN: Level.DIRECT}, at_unix_s=T + 60, before=first)
    assert later["lastTransitionTime"] == first["lastTransitionTime"], "False before and after"
    restored = of({}, at_unix_s=T + 120, before=later)
    assert restored["lastTransitionTime"] == "2025-11-27T08:02:00Z"
    assert of({}, at_unix_s=T, before={"type": CONDITION, "status": "True"})["lastTransitionTime"]


def test_secret_in_a_sentence_does_not_reach_the_pod() -> None:
    assert "hunter2" not in of({}, sentence="password=hunter2")["message"]


def test_own_condition_is_found_among_others() -> None:
    made = of({})
    pod = {"status": {"conditions": [{"type": "Ready", "status": "True"}, made]}}
    assert find(pod) == made and find({}) is None and find({"status": {"conditions": None}}) is None
    assert fragment(made) == {"status": {"conditions": [made]}}
