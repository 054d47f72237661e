"""One time line out of several clocks: nothing is moved, and what is known of the clocks is said (I8)."""

from __future__ import annotations

from typing import Any

import pytest

from hotswitch.api.status import PodStatus
from hotswitch.model import Direction, Level
from hotswitch.report.joined import Ended, joined
from hotswitch.report.journal import Entry

pytestmark = pytest.mark.unit
POD = "shop/web-0"


def at(ms: float) -> str:
    return f"2026-11-01T08:00:{ms / 1000:09.6f}+00:00"


def line(ms: float, event: str, **fields: Any) -> Entry:
    return Entry(at=at(ms), event=event, pod=POD, **fields)


AGENT = [
    line(5000, "open", code="HSD001", why="opened: the proxy is dead", durations_ms={"evidence_to_gate_ms": 2.5}),
    line(9000, "close", code="HSD004", why="restored"),
    line(9010, "verified"),
]


def status(ms: float, code: str = "HSD001") -> PodStatus:
    return PodStatus(uid="u", at=at(ms), code=code, levels={Direction.INBOUND: Level.RESCUE})


def order(lines: list[str]) -> list[tuple[str, str]]:
    """Whose clock, and what."""
    return [tuple(each.split()[2:4]) for each in lines if " ms  " in each]  # type: ignore[misc]


def test_everybodys_lines_in_one_order_each_with_its_clock() -> None:  # S4.4, S4.5
    events = [{"at": "2026-11-01T08:00:05Z", "code": "HSD001", "message": "opened"}]
    told = joined(POD, AGENT, [line(5040, "failed", who="controller", failed="no API")], events, status(5030),
                  [Ended("istio-proxy", "2026-11-01T08:00:04Z", "OOMKilled, exit code 137")])  # fmt: skip
    assert told[0] == f"{POD}: opened: the proxy is dead"
    assert order(told) == [
        ("kubelet", "ended"), ("agent", "evidence"), ("agent", "open"), ("controller", "Event"),
        ("controller", "status"), ("controller", "failed"), ("agent", "close"), ("agent", "verified"),
    ]  # fmt: skip
    assert next(each for each in told if "Event" in each).endswith("(to the second)")


@pytest.mark.parametrize(
    ("told_ms", "words"),
    [
        (4700, "the controller's is 300 ms or more behind the agent's"),
        (5030, "the controller's is at most 30 ms ahead of the agent's"),
    ],
)
def test_what_causes_tell_of_the_clocks_is_said(told_ms: float, words: str) -> None:
    told = joined(POD, AGENT, status=status(told_ms))
    assert words in told[1]
    place = next(each for each in told if " status " in each)
    assert f"{told_ms - 4997.5:.2f} ms" in place  # where its own clock put it


def test_what_was_told_of_an_act_before_this_fault_proves_nothing_against_a_clock() -> None:
    """Seen: a drill opens and closes, and the pod's proxy dies within seconds."""
    drill = [line(1000, "open", code="HSD001", why="drill"), line(1500, "close", code="HSD004", why="restored")]
    told = joined(POD, [*drill, *AGENT], events=[{"at": "2026-11-01T08:00:01Z", "code": "HSD001", "message": "opened"}])
    assert [each for each in told if each.startswith("clocks")] == [
        "clocks: the controller's is at most 1000 ms ahead of the agent's; how far behind it may be is not known"
    ]


def test_clocks_that_have_nothing_in_common_cannot_be_compared() -> None:
    assert "cannot be compared" in joined(POD, AGENT, status=status(6000, "HSD999"))[1]


def test_an_event_of_the_same_second_is_no_proof_against_a_clock() -> None:
    events = [{"at": "2026-11-01T08:00:05Z", "code": "HSD001", "message": "opened"}]
    late = [line(5900, "open", code="HSD001", why="dead")]
    assert "at most 100 ms ahead" in joined(POD, late, events=events)[1]


def test_an_agent_that_is_gone_is_told_by_the_controllers_journal() -> None:
    copies = [Entry(at=each.at, event=each.event, pod=each.pod, who="agent on node-0", code=each.code, why=each.why)
              for each in AGENT]  # fmt: skip
    told = joined(POD, [], [*copies, line(5040, "failed", who="controller", failed="no API")])
    assert order(told)[:2] == [("agent", "evidence"), ("agent", "open")]
    assert ("controller", "failed") in order(told)


def test_a_fault_that_the_controller_acted_on_by_itself() -> None:
    told = joined(POD, [], [line(5000, "open", who="controller", code="HSD001", why="dead"), line(5900, "close")])
    assert order(told) == [("controller", "evidence"), ("controller", "open"), ("controller", "close")]
    assert not any("clocks" in each for each in told)


def test_other_faults_and_other_pods_are_left_out() -> None:
    old = {"at": "2026-11-01T07:00:00Z", "code": "HSD001", "message": "long ago"}
    assert not any("long ago" in each for each in joined(POD, AGENT, events=[old]))
    assert joined("shop/nobody", AGENT, events=[old]) == []
