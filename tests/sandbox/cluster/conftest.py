"""One cluster for each module of tests, and few pods: starting an Envoy is what takes the time."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from hotswitch.sandbox.cluster.cluster import SandboxCluster


@pytest.fixture(scope="module")
def cluster(runner: asyncio.Runner) -> Iterator[SandboxCluster]:
    cluster = SandboxCluster()
    runner.run(cluster.__aenter__())
    try:
        yield cluster
    finally:
        runner.run(cluster.__aexit__(None, None, None))
