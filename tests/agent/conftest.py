"""One sandbox for each module of tests; each test says which agent it wants beside which pods."""

from __future__ import annotations

import asyncio
import warnings
from collections.abc import Iterator

import pytest

from hotswitch.sandbox.sandbox import Sandbox
from tests.agent import load

with warnings.catch_warnings():  # envoy-data-plane's own modules warn about pydantic when they are first imported
    warnings.simplefilter("ignore")
    import envoy_data_plane.envoy.extensions.transport_sockets.tls.v3
    import envoy_data_plane.envoy.service.discovery.v3  # noqa: F401


@pytest.fixture(scope="module")
def runner() -> Iterator[asyncio.Runner]:
    with asyncio.Runner() as runner:
        yield runner


@pytest.fixture(scope="module")
def box(runner: asyncio.Runner) -> Iterator[Sandbox]:
    box = Sandbox(prefix="he-")
    runner.run(box.__aenter__())
    try:
        yield box
    finally:
        runner.run(box.close())


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    for rate in load.used:
        terminalreporter.line(f"tests/agent: switched under {rate:g} requests/s")
