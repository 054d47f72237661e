"""One sandbox for each module of tests: pods are shared where a test does not break them."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from hotswitch.sandbox.sandbox import Sandbox


@pytest.fixture(scope="module")
def runner() -> Iterator[asyncio.Runner]:
    with asyncio.Runner() as runner:
        yield runner


@pytest.fixture(scope="module")
def box(runner: asyncio.Runner) -> Iterator[Sandbox]:
    box = Sandbox()
    runner.run(box.__aenter__())
    try:
        yield box
    finally:
        runner.run(box.close())
