"""One cluster in miniature for a module of tests; its pods are real, and its istiod tells what istiod would."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from hotswitch.sandbox.cluster.cluster import SandboxCluster


@pytest.fixture(scope="module")
def runner() -> Iterator[asyncio.Runner]:
    with asyncio.Runner() as runner:
        yield runner


@pytest.fixture(scope="module")
def cluster(runner: asyncio.Runner) -> Iterator[SandboxCluster]:
    cluster = SandboxCluster()
    runner.run(cluster.__aenter__())
    try:
        yield cluster
    finally:
        runner.run(cluster.__aexit__(None, None, None))
