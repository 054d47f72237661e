"""All parts of the row come together: tokens, links, grants, places; and what is measured was measured (S4.2)."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from bench.rows.agents import AGE, BUSY, IDLE, MEMORY, START, Trial

pytestmark = pytest.mark.k8s


def test_every_report_is_answered(tmp_path: Path) -> None:
    found = asyncio.run(Trial(tmp_path, nodes=5).run(rate=5, seconds=2))
    assert found[AGE].n >= 10  # each opens, and closes
    assert all(found[what].median > 0 for what in (START, MEMORY, BUSY)) and found[IDLE].median >= 0
