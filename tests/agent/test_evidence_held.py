"""Evidence waits for its turn while its pod goes: it is gathered in no other pod's namespace (S4.7, I6)."""

from __future__ import annotations

import asyncio
import contextlib
import os
from pathlib import Path
from typing import Any

import pytest

from hotswitch.agent.evidence import Keeper
from hotswitch.config.agentfile import EvidenceSettings, parse
from hotswitch.evidence import admin
from hotswitch.model import Diagnosis, Facts, Fault, Grade
from hotswitch.report.journal import Journal

pytestmark = pytest.mark.unit


def test_the_pod_goes_before_its_evidence_is_gathered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[int, int]] = []

    async def ask(netns: int, name: str) -> Any:
        there = os.fstat(netns)
        asked.append((there.st_dev, there.st_ino))
        return admin.Answer(name, missing="not asked")

    async def story() -> None:
        monkeypatch.setattr(admin, "ask", ask)
        theirs, ours = tmp_path / "other", tmp_path / "own"
        for each in (theirs, ours):
            each.touch()
        told = {"name": "web-0", "namespace": "shop", "uid": "uid", "netns": str(ours), "addresses": ["10.0.0.7"],
                "capture": {"args": []}}  # fmt: skip
        pod = parse({"pods": [told]}, "test").pods[0]
        seen = Diagnosis(Fault.DEAD, Grade.CORROBORATED, "dead")
        with contextlib.closing(Journal(tmp_path / "journal")) as journal:
            keeper = Keeper(EvidenceSettings(directory=tmp_path / "evidence"), journal)
            namespace = os.open(ours, os.O_RDONLY)
            wanted = os.fstat(namespace)
            keeper.keep(pod, namespace, Facts(at_s=0.0), seen, 1)
            os.close(namespace)
            again = os.open(theirs, os.O_RDONLY)
            assert again == namespace  # the number is another pod's
            await asyncio.gather(*keeper._tasks)
            os.close(again)
        assert asked and set(asked) == {(wanted.st_dev, wanted.st_ino)}

    asyncio.run(story())
