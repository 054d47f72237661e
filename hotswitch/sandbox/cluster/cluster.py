"""A cluster in miniature: an API, one node whose pods are the sandbox's, with real namespaces and Envoys. Start here.

    async with SandboxCluster() as cluster:
        web = await cluster.pod("web-0", labels={"app": "web"}, native=True)
        await web.pod.ready()
        fault = await web.pod.faults.kill()
        ...

The API is the embedded one, or any other by `kubeconfig`: all here but exec goes over HTTP, as a node does it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hotswitch.cluster.client import Cluster, connect
from hotswitch.cluster.failure import ApiFailure
from hotswitch.cluster.kinds import NAMESPACES, PODS
from hotswitch.sandbox.cluster import manifest, owners
from hotswitch.sandbox.cluster.manifest import Injected
from hotswitch.sandbox.cluster.node import Node
from hotswitch.sandbox.cluster.published import Published
from hotswitch.sandbox.podspec import PodSpec
from hotswitch.sandbox.sandbox import Sandbox


class SandboxCluster:
    """`box`: the sandbox below it; its clients and faults are used as they are."""

    def __init__(self, *, kubeconfig: Path | None = None, namespace: str = "default", node: str = "node-a") -> None:
        self.box = Sandbox()
        self.namespace = namespace
        self._kubeconfig, self._node_name = kubeconfig, node
        self._stack = contextlib.AsyncExitStack()

    async def __aenter__(self) -> SandboxCluster:
        async with contextlib.AsyncExitStack() as stack:
            await stack.enter_async_context(self.box)
            self.cluster: Cluster = await stack.enter_async_context(connect(self._kubeconfig))
            await self.make_namespace(self.namespace)
            self.node = Node(self.cluster, self.box, self._node_name)
            stack.push_async_callback(self.node.stop)
            await self.node.start()
            self._stack = stack.pop_all()
        return self

    async def __aexit__(self, *error: object) -> None:
        await self._stack.aclose()

    async def make_namespace(self, name: str, **labels: str) -> None:
        """Unless it is there. Raises ApiFailure."""
        try:
            await self.cluster.create(NAMESPACES, None, {"metadata": {"name": name, "labels": labels}})
        except ApiFailure as failure:
            if not failure.is_taken:
                raise

    async def pod(
        self,
        name: str,
        *,
        labels: Mapping[str, str] | None = None,
        annotations: Mapping[str, str] | None = None,
        readiness_gates: tuple[str, ...] = (),
        grace_s: int = 30,
        **spec: Any,
    ) -> Published:
        """Create the object, start the pod (fields of PodSpec) and keep both alike. Raises ApiFailure, ValueError."""
        wanted = PodSpec(**{"namespace": self.namespace, **spec})
        workload = wanted.workload or f"deploy/{name.rpartition('-')[0] or name}"
        injected = Injected(
            name=name,
            spec=wanted,
            node=self.node.name,
            labels=labels or {},
            annotations=annotations or {},
            owner=await owners.make(
                self.cluster, wanted.namespace, workload, {"app": workload.rpartition("/")[2], **(labels or {})}
            ),
            readiness_gates=readiness_gates,
            grace_s=grace_s,
        )
        created = await self.cluster.create(PODS, wanted.namespace, manifest.pod(injected))
        pod = await self.box.pod(name, **{**spec, "namespace": wanted.namespace, "workload": workload})
        pod.uid = created["metadata"]["uid"]
        return self.node.adopt(pod, created)
