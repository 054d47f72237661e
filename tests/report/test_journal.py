"""The journal survives crashes and never grows without end (I8)."""

from pathlib import Path

import pytest

from hotswitch.model import PodRef, PodUid
from hotswitch.report.journal import VALUE_BYTES, Journal, entry

pytestmark = pytest.mark.unit
WEB, API = PodRef("web-0", "default", PodUid("u1")), PodRef("api-0", "default", PodUid("u2"))


def test_what_was_done_can_be_read(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "deep" / "journal.jsonl")
    journal.write(entry("open", WEB, code="HSD010", why="it died", who="agent", durations_ms={"gate_ms": 0.02}))
    journal.write(entry("open", API))
    assert [(line.pod, line.code) for line in journal.read("default/web-0")] == [("default/web-0", "HSD010")]
    assert [line.pod for line in journal.read(last=1)] == ["default/api-0"]
    assert journal.read()[0].at.endswith("+00:00")
    journal.close()


def test_agent_is_killed_in_the_middle_of_a_line(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    Journal(path).write(entry("open", WEB))
    with path.open("ab") as file:
        file.write(b'{"at": "2026')
    successor = Journal(path)
    successor.write(entry("adopted", WEB))
    successor.write(entry("close", WEB))
    assert [line.event for line in successor.read()] == ["open", "adopted", "close"]
    successor.close()


def test_a_full_journal_turns_over(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal.jsonl", size_bytes=2000)
    for number in range(50):
        journal.write(entry("open", WEB, generation=number))
    assert {path.name for path in tmp_path.iterdir()} == {"journal.jsonl", "journal.jsonl.1"}
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) < 5000
    assert journal.read()[-1].generation == 49
    journal.close()


def test_long_evidence_is_cut(tmp_path: Path) -> None:
    assert len(entry("open", WEB, evidence={"x": "y" * 99999}).evidence["x"]) == VALUE_BYTES
