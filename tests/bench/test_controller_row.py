"""The farm makes what it is told to, and both watchers see all of it."""

from __future__ import annotations

import asyncio
from pathlib import Path

import msgspec
import pytest

from bench.injected import pod
from bench.rows.controller import CPU, MEMORY, START, Trial, process
from hotswitch.cluster.pods import Pod

pytestmark = pytest.mark.k8s


def test_a_pod_has_the_size_that_the_goal_names() -> None:
    raw = msgspec.json.encode(pod(4711))
    assert 9_000 < len(raw) < 10_000
    assert msgspec.json.decode(raw, type=Pod).container_status("istio-proxy")


@pytest.mark.parametrize("actor", ["hotswitch", "kopf"])
def test_every_event_is_seen(tmp_path: Path, actor: str) -> None:
    async def run() -> None:
        async with process("bench.podfarm", "30", str(tmp_path)) as farm:
            assert farm.stdout is not None
            kubeconfig = (await farm.stdout.readline()).decode().strip()
            found = await Trial(farm, kubeconfig, tmp_path, actor, pods=30, settle_s=0.1).run(rate=50, seconds=1)
            assert found["event to callback"].n >= 45
            assert all(found[what].median > 0 for what in (START, MEMORY, CPU))

    asyncio.run(run())
