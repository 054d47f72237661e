"""The table of requirements is true: what it names exists, and each test that it names cites the requirement."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

pytestmark = pytest.mark.unit
ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "explanation" / "requirements.md").read_text()
ROW = re.compile(r"^\| `(S\d\.\d[a-z]?)` \| .+? \| (.+?) \| (.+?) \|$", re.MULTILINE)
ROWS = [
    (name, re.findall(r"`([^`]+)`", where), re.findall(r"`([^`]+)`", held)) for name, where, held in ROW.findall(TEXT)
]
HEART = {"S4.1", "S4.2", "S4.2a", "S4.2b", "S4.2c", "S4.3", "S4.3a", "S4.3b", "S4.4", "S4.5", "S4.6", "S4.7"}


def test_the_heart_is_there_whole_and_nothing_is_there_twice() -> None:
    names = [name for name, _, _ in ROWS]
    assert set(names) >= HEART and len(names) == len(set(names))


@pytest.mark.parametrize(("name", "where", "held"), ROWS, ids=[name for name, _, _ in ROWS])
def test_what_is_named_exists_and_cites_it(name: str, where: list[str], held: list[str]) -> None:
    assert where and [each for each in where if not (ROOT / each).exists()] == []
    cites = re.compile(rf"\b{re.escape(name)}(?![a-z0-9])")
    assert held and [each for each in held if not cites.search((ROOT / each).read_text())] == []


def test_what_is_said_not_to_be_built_is_held_by_no_test() -> None:
    missing = re.findall(r"^- \*\*(S\d)\*\*", TEXT.partition("## Not built")[2], re.MULTILINE)
    cited = [
        f"{path.name}: {each}"
        for path in ROOT.glob("tests/**/test_*.py")
        for each in re.findall(rf"\b(?:{'|'.join(missing) or 'none'})\.\d[a-z]?\b", path.read_text())
    ]
    assert cited == []
