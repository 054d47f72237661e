"""What a helper tells of its drill is believed as far as it can be: the pod it lives in may not be trusted (I2)."""

from __future__ import annotations

from typing import Any

import pytest

from hotswitch.api.drills import Drilled
from hotswitch.controller.drills.by_actuator import believed

pytestmark = pytest.mark.unit

TOOK = {"open": 0.02, "restore": 0.03}


def test_what_can_be_is_believed() -> None:
    for result, took in (("passed", TOOK), ("failed", {}), ("interrupted", {"open": 0.1}), ("refused", {})):
        told = Drilled(id="d", result=result, why="", served=3, lost=0, durations_s=took)
        assert believed(told) is told


@pytest.mark.parametrize(
    "odd",
    [
        {"result": "splendid"},
        {"served": -1},
        {"lost": 10**12},
        {"durations_s": {**TOOK, "open": float("nan")}},
        {"durations_s": {**TOOK, "restore": -1.0}},
        {"durations_s": {}},
    ],
)
def test_what_no_drill_ends_in_has_failed(odd: dict[str, Any]) -> None:
    told = Drilled(**{"id": "d", "result": "passed", "why": "", "durations_s": TOOK, **odd})
    assert (believed(told).id, believed(told).result) == ("d", "failed")
