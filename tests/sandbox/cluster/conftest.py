"""One cluster for each module of tests, and few pods: starting an Envoy is what takes the time."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from hotswitch.sandbox.cluster.cluster import SandboxCluster
from tests.kubeapi import realapi
from tests.sandbox.cluster.watching import REAL


@pytest.fixture(scope="module")
def cluster(
    runner: asyncio.Runner, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[SandboxCluster]:
    """On the embedded API; with `every_api`, on a real API server too where KUBEBUILDER_ASSETS has one."""
    with contextlib.ExitStack() as stack:
        kubeconfig: Path | None = None
        if getattr(request, "param", "") == REAL:
            directory = tmp_path_factory.mktemp("api")
            stack.enter_context(realapi.real(directory))
            kubeconfig = directory / "kubeconfig"
        cluster = SandboxCluster(kubeconfig=kubeconfig)
        runner.run(cluster.__aenter__())
        stack.callback(lambda: runner.run(cluster.__aexit__(None, None, None)))
        yield cluster
