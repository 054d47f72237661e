"""Whoever reads a pod's log is told what went wrong, and not only that something did (I8)."""

from __future__ import annotations

import io
import logging

import pytest

from hotswitch.report import loglines

pytestmark = pytest.mark.unit


@pytest.fixture
def said(monkeypatch):
    """What a process would print that has just been set up so."""
    stream = io.StringIO()
    monkeypatch.setattr(logging.root, "handlers", [])
    monkeypatch.setattr(logging.root, "level", logging.WARNING)
    loglines.to_standard_error(stream)
    return stream


def test_particulars_are_printed(said):
    logging.getLogger("hotswitch.controller").info("leading", extra={"term": 4, "why": "it was free"})
    assert said.getvalue().endswith(' INFO hotswitch.controller leading term=4 why="it was free"\n')


def test_no_particular_begins_a_line_of_its_own(said):
    logging.getLogger("hotswitch.controller").warning("cluster", extra={"problem": "403:\nnobody"})
    assert said.getvalue().splitlines() == [said.getvalue().rstrip("\n")]
    assert said.getvalue().endswith(r' cluster problem="403:\nnobody"' + "\n")


def test_what_is_no_json_is_printed_all_the_same(said):
    logging.getLogger("hotswitch.controller").warning("kopf ended", extra={"why": ValueError("gone")})
    assert said.getvalue().endswith(' kopf ended why="gone"\n')


def test_failure_follows_its_line(said):
    try:
        raise ValueError("gone")
    except ValueError:
        logging.getLogger("hotswitch.controller").exception("prepare failed", extra={"uid": "u-1"})
    assert said.getvalue().splitlines()[0].endswith(' prepare failed uid="u-1"')
    assert said.getvalue().splitlines()[-1] == "ValueError: gone"


def test_particulars_of_libraries_are_left_out(said):
    logging.getLogger("kopf.activities").info(
        "Handler succeeded.", extra={"settings": object(), "k8s_ref": {"uid": "u-1"}}
    )
    assert said.getvalue().endswith(" INFO kopf.activities Handler succeeded.\n")
