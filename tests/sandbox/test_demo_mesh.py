"""`hotswitch demo-mesh`, shortened: the whole chain from a dead sidecar to an opened gate and back (S4)."""

from __future__ import annotations

import asyncio
import re

import pytest

from hotswitch.sandbox import demo_mesh, mesh_play
from hotswitch.sandbox.demo import missing

pytestmark = pytest.mark.envoy


def test_sidecar_dies_in_the_demos_mesh(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:  # S4.1, S4.2, S4.3
    monkeypatch.setattr(mesh_play, "STEPS", mesh_play.STEPS[:1])
    monkeypatch.setattr(mesh_play, "FAULT_LASTS_S", 2.0)
    problems = asyncio.run(mesh_play.play(stay=False))
    said = capsys.readouterr().out
    assert problems == [], said
    assert re.search(r"Warning HSD001 web-0: opened inbound to the rescue", said), said
    assert "inbound RESCUED" in said and "web-0 is well and captured" in said, said
    counted = re.search(r"(\d+) of (\d+) failed", said)
    assert counted and int(counted[1]) < int(counted[2]) / 4, said


def test_demo_starts_without_its_packages() -> None:
    found = missing((*demo_mesh.PACKAGES, "no_such_package"))
    assert found == ["The Python package no_such_package is missing: install hotswitch with its extra `sandbox`."]
