"""The API servers that a test runs against, and pods for it: the embedded one, and a real one where one is named."""

from __future__ import annotations

import os
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hotswitch.cluster.client import Cluster, connect
from hotswitch.cluster.failure import ApiFailure
from hotswitch.cluster.kinds import NAMESPACES, PODS
from hotswitch.sandbox.kubeapi.server import EmbeddedApi


@dataclass(frozen=True, slots=True)
class Place:
    """`namespace`: one that nobody else uses. `embedded`: the server itself, where it is ours."""

    cluster: Cluster
    namespace: str
    kubeconfig: Path
    embedded: EmbeddedApi | None = None


Api = Callable[[], AbstractAsyncContextManager[Place]]


@asynccontextmanager
async def embedded() -> AsyncIterator[Place]:
    """One of its own for each test."""
    async with EmbeddedApi() as server:
        path = server.kubeconfig()
        async with connect(path) as cluster, namespace(cluster) as name:
            yield Place(cluster, name, path, server)


@asynccontextmanager
async def real() -> AsyncIterator[Place]:
    """In the cluster that KUBECONFIG names."""
    path = Path(os.environ["KUBECONFIG"])
    async with connect(path) as cluster, namespace(cluster) as name:
        yield Place(cluster, name, path)


@asynccontextmanager
async def namespace(cluster: Cluster) -> AsyncIterator[str]:
    name = f"hotswitch-test-{uuid.uuid4().hex[:8]}"
    await cluster.create(NAMESPACES, None, {"metadata": {"name": name}})
    try:
        yield name
    finally:
        with suppress(ApiFailure):
            for pod in await cluster.list(PODS, name):
                await end_pod(cluster, name, pod["metadata"]["name"])
            await cluster.delete(NAMESPACES, None, name)


async def make_pod(
    cluster: Cluster, namespace: str, name: str, *, node: str | None = None, **metadata: Any
) -> dict[str, Any]:
    """A pod that no node will ever run, even if it is bound to one."""
    spec: dict[str, Any] = {"containers": [{"name": "app", "image": "none.invalid/app"}]}
    spec |= {"nodeName": node} if node else {"schedulerName": "hotswitch-no-scheduler"}  # not a cluster's own either
    return await cluster.create(PODS, namespace, {"metadata": {"name": name, **metadata}, "spec": spec})


async def end_pod(cluster: Cluster, namespace: str, name: str) -> None:
    await cluster.request("DELETE", PODS.path(namespace, name), {"gracePeriodSeconds": "0"})
