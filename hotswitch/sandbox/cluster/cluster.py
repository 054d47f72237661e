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
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hotswitch.cluster.client import Cluster, connect
from hotswitch.cluster.failure import ApiFailure
from hotswitch.cluster.kinds import NAMESPACES, PODS, SERVICES
from hotswitch.model import Port
from hotswitch.sandbox.cluster import manifest, owners
from hotswitch.sandbox.cluster.commands import Commands
from hotswitch.sandbox.cluster.eds import EdsServer
from hotswitch.sandbox.cluster.installed import MESH_CONFIG, OPT_INS, ROOT_NAMESPACE, TIER, Installation, manifests
from hotswitch.sandbox.cluster.istiod import Istiod
from hotswitch.sandbox.cluster.manifest import Injected
from hotswitch.sandbox.cluster.node import Node
from hotswitch.sandbox.cluster.published import Published
from hotswitch.sandbox.cluster.slice_controller import SliceController
from hotswitch.sandbox.kubeapi.server import EmbeddedApi
from hotswitch.sandbox.podspec import PodSpec
from hotswitch.sandbox.registry import Service
from hotswitch.sandbox.sandbox import Sandbox


class SandboxCluster:
    """`box`: the sandbox below it; its clients and faults are used as they are."""

    def __init__(
        self,
        api: EmbeddedApi | None = None,
        *,
        kubeconfig: Path | None = None,
        namespace: str = "default",
        node: str = "node-a",
    ) -> None:
        """`api`: one that is served already; None: its own, `self.api`, unless `kubeconfig` names another."""
        self.box = Sandbox()
        self.namespace = namespace
        self._api, self._kubeconfig, self._node_name = api, kubeconfig, node
        self._stack = contextlib.AsyncExitStack()

    async def __aenter__(self) -> SandboxCluster:
        async with contextlib.AsyncExitStack() as stack:
            await stack.enter_async_context(self.box)
            if self._api is None and self._kubeconfig is None:
                self._api = await stack.enter_async_context(EmbeddedApi())
            self.kubeconfig = self._kubeconfig or self.api.kubeconfig("admin", ("system:masters",))
            self.cluster: Cluster = await stack.enter_async_context(connect(self.kubeconfig))
            await self._start(stack)
            self._stack = stack.pop_all()
        return self

    async def _start(self, stack: contextlib.AsyncExitStack) -> None:
        await self.make_namespace(self.namespace)
        self.node = Node(self.cluster, self.box, self._node_name)
        stack.push_async_callback(self.node.stop)
        if self._api is not None:
            commands = Commands(self.node)
            stack.push_async_callback(commands.stop)
            self._api.backend = commands
        await self.node.start()
        self.slices, self.istiod = SliceController(self.cluster), Istiod(self.cluster)
        self.eds = EdsServer(self.istiod.clusters)
        for part in (self.slices, self.istiod, self.eds):
            stack.push_async_callback(part.stop)
            await part.start()
        self.istiod.listeners += [self.box.registry.touch, self.eds.touch]
        self.eds.touch()

    @property
    def api(self) -> EmbeddedApi:
        """Raises RuntimeError when the API is another one."""
        if self._api is None:
            raise RuntimeError("the API of this cluster is not the embedded one")
        return self._api

    async def __aexit__(self, *error: object) -> None:
        await self._stack.aclose()

    async def make_namespace(self, name: str, **labels: str) -> None:
        """Unless it is there. Raises ApiFailure."""
        try:
            await self.cluster.create(NAMESPACES, None, {"metadata": {"name": name, "labels": labels}})
        except ApiFailure as failure:
            if not failure.is_taken:
                raise

    async def install(self, tier: str = TIER, opt_ins: Sequence[str] = OPT_INS) -> Installation:
        """Apply the shipped manifests to the embedded API; controllers are started by what is returned. Raises
        ManifestError."""
        await self.make_namespace(ROOT_NAMESPACE)
        mesh = {"apiVersion": "v1", "kind": "ConfigMap", **MESH_CONFIG}
        self.api.apply([mesh, *manifests(tier, opt_ins)])
        made = Installation(self)
        self._stack.push_async_callback(made.close)
        await made.open()
        return made

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
        owner = await owners.make(
            self.cluster, wanted.namespace, workload, {"app": workload.rpartition("/")[2], **(labels or {})}
        )
        injected = Injected(
            name=name,
            spec=wanted,
            node=self.node.name,
            labels={**owners.hash_label(owner), **(labels or {})},
            annotations=annotations or {},
            owner=owner,
            readiness_gates=readiness_gates,
            grace_s=grace_s,
        )
        created = await self.cluster.create(PODS, wanted.namespace, manifest.pod(injected))
        uid = created["metadata"]["uid"]
        pod = await self.box.pod(name, uid=uid, **{**spec, "namespace": wanted.namespace, "workload": workload})
        return self.node.adopt(pod, created)

    async def service(
        self,
        name: str,
        pods: Sequence[Published],
        *,
        selector: Mapping[str, str] | None = None,
        port: Port = 8080,
        protocol: str = "http",
        **spec: Any,
    ) -> Service:
        """A Service in the API (`spec`: more of its fields), and for the sandbox's clients, who get the endpoints that
        istiod makes of its slices. `pods`: those whose identities clients accept. `selector`: by default the label
        `app` of the first pod. Raises ApiFailure."""
        chosen = dict(selector or {"app": pods[0].manifest["metadata"]["labels"]["app"]})
        ports = [{"name": protocol, "port": port, "targetPort": port, "protocol": "TCP"}]
        body = {"metadata": {"name": name}, "spec": {"selector": chosen, "ports": ports, **spec}}
        await self.cluster.create(SERVICES, self.namespace, body)

        def members() -> list[tuple[str, str]]:
            return [(each.address, each.tls_mode) for each in self.istiod.endpoints(self.namespace, name)]

        every = [published.pod for published in pods]
        return await self.box.service(name, every, port=port, protocol=protocol, source=members)
