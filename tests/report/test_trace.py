"""The time line of a fault, out of the journal (I8)."""

from __future__ import annotations

import pytest

from hotswitch.report.journal import Entry
from hotswitch.report.trace import trace

pytestmark = pytest.mark.unit


def line(ms: float, event: str, pod: str = "shop/web-0", **fields: object) -> Entry:
    at = f"2026-11-01T08:00:{ms / 1000:09.6f}+00:00"
    return Entry(at=at, event=event, pod=pod, **fields)  # type: ignore[arg-type]


STORY = [
    line(0, "attached"),
    line(1000, "open", why="an older fault"),
    line(1500, "close"),
    line(1510, "verified"),
    line(5000, "open", why="opened: the proxy is dead", rules_after="inbound rescue",
         durations_ms={"evidence_to_gate_ms": 2.5, "gate_ms": 0.02}),
    line(5001, "open", pod="shop/other-0", why="another's"),
    line(5040, "evidence", why="evidence kept"),
    line(9000, "close", why="restored"),
    line(9010, "verified", evidence={"istio_rules_unchanged": "True"}),
    line(9500, "rescue", why="afterwards"),
]  # fmt: skip


def test_the_last_fault_from_its_evidence_to_the_end() -> None:  # S4.4, S4.5
    lines = trace(STORY, "shop/web-0")
    assert lines[0] == "shop/web-0: opened: the proxy is dead"
    times = [float(each.split()[0]) for each in lines[1:]]
    assert times == pytest.approx([0.0, 2.5, 42.5, 4002.5, 4012.5])
    assert "2.50 ms after the evidence" in lines[2] and "inbound rescue" in lines[2]
    assert not any("older" in each or "another's" in each or "afterwards" in each for each in lines)


def test_a_fault_that_is_not_over_ends_with_the_journal() -> None:
    lines = trace(STORY[:7], "web-0")
    assert lines[-1].endswith("evidence kept")


def test_what_failed_says_so() -> None:
    assert "failed: no such table" in trace([line(0, "open", failed="no such table")], "shop/web-0")[-1]


def test_a_pod_without_a_fault_has_no_time_line() -> None:
    assert trace(STORY[:1], "shop/web-0") == []
    assert trace(STORY, "shop/nobody") == []
