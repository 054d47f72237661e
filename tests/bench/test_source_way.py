"""What hotswitch is compared with must do its work: the 17 commands free a pod, and its rules come back."""

from __future__ import annotations

import pytest

from bench.pods import Ward
from bench.source_way import clean, clean_commands, put_back
from hotswitch.capture.inspect import inspect
from hotswitch.capture.inspection import State
from hotswitch.sandbox.podspec import INIT_ARGS

pytestmark = pytest.mark.netns


def test_it_takes_17_commands() -> None:
    assert len(clean_commands("/run/netns/any")) == 17


def test_commands_remove_the_capture_and_it_comes_back(netns: str) -> None:  # S4.3b, S4.5
    ward = Ward("web-0", netns, INIT_ARGS)
    put_back(ward)
    before = inspect(netns, ward.capture)
    assert before.ip.state is State.CAPTURED
    clean(ward)
    assert inspect(netns, ward.capture).ip.state is State.ABSENT
    put_back(ward)
    assert inspect(netns, ward.capture).fingerprint == before.fingerprint


def test_cleaning_twice_does_no_harm(netns: str) -> None:
    ward = Ward("web-0", netns, INIT_ARGS)
    clean(ward)
    clean(ward)
    put_back(ward)
    assert inspect(netns, ward.capture).ip.state is State.CAPTURED
