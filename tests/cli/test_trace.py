"""`hotswitch trace` with journals as files: joined, or one sentence (I8)."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from typer.testing import CliRunner, Result

from hotswitch.cli.main import app
from hotswitch.report.journal import Entry

pytestmark = pytest.mark.unit

AT = "2026-11-01T08:00:05.{}+00:00"
OPENED = Entry(at=AT.format("000000"), event="open", pod="shop/web-0", code="HSD001", why="opened: dead")
FAILED = Entry(at=AT.format("040000"), event="failed", pod="shop/web-0", who="controller", failed="no API")


def journal(path: Path, *lines: Entry | str) -> str:
    path.write_bytes(
        b"\n".join(line.encode() if isinstance(line, str) else msgspec.json.encode(line) for line in lines)
    )
    return str(path)


def traced(*words: str) -> Result:
    return CliRunner().invoke(app, ["trace", *words])


def test_the_agents_journal_alone(tmp_path: Path) -> None:
    told = traced("web-0", "--agent", journal(tmp_path / "agent", OPENED, FAILED))
    assert told.exit_code == 0 and told.stdout.splitlines()[0] == "shop/web-0: opened: dead"
    assert "clocks" not in told.stdout


def test_a_controllers_log_has_other_lines_too(tmp_path: Path) -> None:
    log = journal(tmp_path / "log", "INFO leading", FAILED, "{}")
    told = traced("web-0", "--agent", journal(tmp_path / "agent", OPENED), "--controller", log)
    assert told.exit_code == 0, told.output
    assert [line.split()[2:4] for line in told.stdout.splitlines() if " ms  " in line] == [
        ["agent", "evidence"],
        ["agent", "open"],
        ["controller", "failed"],
    ]
    assert "cannot be compared" in told.stdout


def test_a_journal_that_cannot_be_read_is_a_sentence(tmp_path: Path) -> None:
    told = traced("web-0", "--agent", str(tmp_path / "nowhere"))
    assert told.exit_code == 1 and "nowhere" in told.stderr


def test_no_agent_here_and_nothing_else_asked(tmp_path: Path) -> None:
    told = traced("web-0", "--socket", str(tmp_path / "agent.sock"))
    assert told.exit_code == 1 and "no agent listens there" in told.stderr
