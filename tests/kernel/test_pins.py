"""Names that we give to namespaces: they mean one namespace, and hold nothing once they are taken back (I6)."""

import os
from pathlib import Path

import pytest

from hotswitch.kernel.netns import cookie_of
from hotswitch.kernel.pins import is_pin, pin, pins, unpin

pytestmark = pytest.mark.netns


def pinned(netns: str, name: Path) -> None:
    held = os.open(netns, os.O_RDONLY)
    try:
        pin(held, name)
    finally:
        os.close(held)


def test_a_pin_is_the_namespace_itself(netns: str, tmp_path: Path) -> None:  # I6
    name = tmp_path / "netns" / "uid.1"
    pinned(netns, name)
    try:
        assert is_pin(name)
        assert cookie_of(name) == cookie_of(netns)
        pinned(netns, name)  # again: nothing changes
        assert pins(name.parent) == [name]
    finally:
        unpin(name)
    assert not name.exists() and pins(name.parent) == []


def test_a_file_that_was_left_over_is_no_pin(netns: str, tmp_path: Path) -> None:
    left = tmp_path / "uid.2"
    left.touch()
    assert not is_pin(left)
    pinned(netns, left)
    assert is_pin(left)
    unpin(left)


def test_taking_back_what_is_not_there_is_no_failure(tmp_path: Path) -> None:
    unpin(tmp_path / "nothing")
    (tmp_path / "file").touch()
    unpin(tmp_path / "file")
    assert not (tmp_path / "file").exists()


def test_what_cannot_be_pinned_leaves_no_name(tmp_path: Path) -> None:
    with open(os.devnull) as nothing:  # a device file may be mounted, a closed descriptor may not
        closed = nothing.fileno()
    with pytest.raises(OSError, match=r"uid\.3"):
        pin(closed, tmp_path / "uid.3")
    assert pins(tmp_path) == []
