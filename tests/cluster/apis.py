"""The API servers that a test runs against, and pods for it: a real one where KUBECONFIG names one (e2e)."""

from __future__ import annotations

import os
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from pathlib import Path
from typing import Any

from hotswitch.cluster.client import Cluster, connect
from hotswitch.cluster.failure import ApiFailure
from hotswitch.cluster.kinds import NAMESPACES, PODS

Api = Callable[[], AbstractAsyncContextManager[tuple[Cluster, str]]]


@asynccontextmanager
async def real() -> AsyncIterator[tuple[Cluster, str]]:
    """The cluster that KUBECONFIG names, and a namespace in it that nobody else uses."""
    async with connect(Path(os.environ["KUBECONFIG"])) as cluster, namespace(cluster) as name:
        yield cluster, name


@asynccontextmanager
async def namespace(cluster: Cluster) -> AsyncIterator[str]:
    name = f"hotswitch-test-{uuid.uuid4().hex[:8]}"
    await cluster.create(NAMESPACES, None, {"metadata": {"name": name}})
    try:
        yield name
    finally:
        with suppress(ApiFailure):
            for pod in await cluster.list(PODS, name):
                await cluster.request("DELETE", PODS.path(name, pod["metadata"]["name"]), {"gracePeriodSeconds": "0"})
            await cluster.delete(NAMESPACES, None, name)


async def make_pod(cluster: Cluster, namespace: str, name: str, **metadata: Any) -> dict[str, Any]:
    """A pod that no node will ever run."""
    body = {
        "metadata": {"name": name, **metadata},
        "spec": {"containers": [{"name": "app", "image": "none.invalid/app"}]},
    }
    return await cluster.create(PODS, namespace, body)
