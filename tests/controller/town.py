"""A cluster for the controller: the embedded API with the shipped manifests and their RBAC; sidecars of which only
15021 is there; the kernel of tests.controller.world. What is real is everything between them.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml

from hotswitch.api import names
from hotswitch.api.status import PodStatus, decode
from hotswitch.controller.app import Controller
from hotswitch.controller.settings import LEASE, SYSTEM_NAMESPACE, ControllerSettings
from hotswitch.model import HEALTH, Diagnosis, Direction, Fault, Grade, Level
from hotswitch.sandbox.kubeapi.server import EmbeddedApi
from hotswitch.sandbox.manifests import render
from tests.controller.world import Kernel

MANIFESTS = Path(__file__).parents[2] / "manifests"
ACCOUNT = "system:serviceaccount:hotswitch-system:hotswitch-controller"
POLICY = {
    "apiVersion": "hotswitch.io/v1alpha1",
    "kind": "HotSwitchPolicy",
    "metadata": {"name": "mesh", "namespace": "istio-system"},
    "spec": {
        "mode": "auto",
        "optIn": "all",
        "levels": {"inbound": ["rescue"], "outbound": ["direct"]},
        "actuators": ["helper"],
        "timings": {"expiry": "60s", "recoverAfter": "0.1s", "holdDown": "1s"},
        "budgets": {"mesh": 5, "namespace": 5, "workload": 5},
    },
}
MESH_CONFIG = {
    "apiVersion": "v1",
    "kind": "ConfigMap",
    "metadata": {"name": "istio", "namespace": "istio-system"},
    "data": {"mesh": "rootNamespace: istio-system\ntrustDomain: cluster.local\n"},
}
LEFT = {
    "apiVersion": "coordination.k8s.io/v1",
    "kind": "Lease",
    "metadata": {"name": LEASE, "namespace": SYSTEM_NAMESPACE},
    "spec": {"holderIdentity": "", "leaseDurationSeconds": 1, "leaseTransitions": 1},
}
"""As a leader leaves it that ends in order: the next one does not wait for a lease to run out, which takes 3 s."""
ISTIO = (
    ("security.istio.io", "v1", "PeerAuthentication", "peerauthentications"),
    ("security.istio.io", "v1", "AuthorizationPolicy", "authorizationpolicies"),
    ("security.istio.io", "v1", "RequestAuthentication", "requestauthentications"),
    ("networking.istio.io", "v1", "DestinationRule", "destinationrules"),
    ("networking.istio.io", "v1", "ServiceEntry", "serviceentries"),
    ("networking.istio.io", "v1", "Sidecar", "sidecars"),
    ("networking.istio.io", "v1", "VirtualService", "virtualservices"),
    ("networking.istio.io", "v1alpha3", "EnvoyFilter", "envoyfilters"),
    ("extensions.istio.io", "v1alpha1", "WasmPlugin", "wasmplugins"),
    ("extensions.istio.io", "v1alpha1", "TrafficExtension", "trafficextensions"),
    ("gateway.networking.k8s.io", "v1", "HTTPRoute", "httproutes"),
    ("gateway.networking.k8s.io", "v1", "GRPCRoute", "grpcroutes"),
    ("gateway.networking.k8s.io", "v1alpha3", "TLSRoute", "tlsroutes"),
    ("gateway.networking.k8s.io", "v1", "TCPRoute", "tcproutes"),
)


def istio_crd(group: str, version: str, kind: str, plural: str) -> dict[str, Any]:
    schema = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{plural}.{group}"},
        "spec": {
            "group": group,
            "scope": "Namespaced",
            "names": {"kind": kind, "plural": plural, "singular": kind.lower(), "listKind": f"{kind}List"},
            "versions": [{"name": version, "served": True, "storage": True, "schema": {"openAPIV3Schema": schema}}],
        },
    }


OPEN = {Direction.INBOUND: Level.RESCUE, Direction.OUTBOUND: Level.DIRECT}


def now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def pod(name: str, address: str, workload: str, labels: dict[str, str]) -> dict[str, Any]:
    """A pod as Istio's injector makes it, in short: native sidecar."""
    running = {"running": {"startedAt": "2026-11-01T08:00:00Z"}}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": name,
            "namespace": "shop",
            "labels": {"app": workload, names.TLS_MODE_LABEL: "istio", "pod-template-hash": "abc", **labels},
            "annotations": {"sidecar.istio.io/status": "{}"},
            "ownerReferences": [
                {
                    "apiVersion": "apps/v1", "kind": "ReplicaSet", "name": f"{workload}-abc", "uid": workload,
                    "controller": True,
                }
            ],
        },
        "spec": {
            "nodeName": "node-0",
            "containers": [{"name": "app", "image": "app", "ports": [{"containerPort": 8080}]}],
            "initContainers": [
                {"name": "istio-init", "image": "proxyv2", "args": ["istio-iptables", "-p", "15001", "-z", "15006"]},
                {
                    "name": "istio-proxy", "image": "proxyv2:1.30.3", "restartPolicy": "Always",
                    "args": ["proxy", "sidecar"],
                },
            ],
        },
        "status": {
            "phase": "Running",
            "podIP": address,
            "podIPs": [{"ip": address}],
            "conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": now()}],
            "containerStatuses": [
                {"name": "app", "state": running, "ready": True, "started": True, "restartCount": 0, "image": "app",
                 "imageID": ""}
            ],
            "initContainerStatuses": [
                {"name": "istio-proxy", "state": running, "ready": True, "started": True, "restartCount": 0,
                 "image": "proxyv2", "imageID": ""}
            ],
        },
    }  # fmt: skip


@dataclass
class Town:
    api: EmbeddedApi
    kernel: Kernel = field(default_factory=Kernel)
    servers: dict[str, asyncio.Server] = field(default_factory=dict)
    addresses: dict[str, str] = field(default_factory=dict)
    network: str = field(default_factory=lambda: f"127.{1 + secrets.randbelow(250)}.{secrets.randbelow(250)}")
    connections: dict[str, set[asyncio.StreamWriter]] = field(default_factory=dict)

    async def pod(self, name: str, workload: str = "web", *, node: str = "node-0", **labels: str) -> str:
        """Its uid."""
        address = self.addresses[name] = f"{self.network}.{len(self.addresses) + 1}"
        content = pod(name, address, workload, labels)
        content["spec"]["nodeName"] = node
        made = self.api.admin.create(content)
        self.api.admin.replace({**made, "status": content["status"]}, sub="status")
        await self._listen(name)
        return str(made["metadata"]["uid"])

    async def _listen(self, name: str) -> None:
        async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            self.connections.setdefault(name, set()).add(writer)
            with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
                while await reader.readuntil(b"\r\n\r\n"):
                    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
                    await writer.drain()
            writer.close()

        self.servers[name] = await asyncio.start_server(answer, self.addresses[name], HEALTH)

    async def kill(self, name: str) -> None:
        """The sidecar is gone: 15021 refuses, the kubelet says so, and so does whoever sits beside it."""
        self.silence(name)
        waiting = {"waiting": {"reason": "CrashLoopBackOff"}}
        self.state(name, waiting, ready=False)
        self.kernel.beside = Diagnosis(Fault.DEAD, Grade.CORROBORATED, "dead", {}, 0.0)

    def silence(self, name: str) -> None:
        """Nothing listens on 15021 any more, and what was connected is cut."""
        self.servers.pop(name).close()
        for writer in self.connections.pop(name, set()):
            writer.transport.abort()

    async def heal(self, name: str) -> None:
        await self._listen(name)
        self.state(name, {"running": {"startedAt": now()}}, ready=True)
        self.kernel.beside = Diagnosis(Fault.WELL, Grade.NONE, "well")

    def state(self, name: str, state: dict[str, Any], *, ready: bool) -> None:
        known = self.api.admin.get("pods", name, "shop")
        proxy = {**known["status"]["initContainerStatuses"][0], "state": state, "ready": ready}
        status = {**known["status"], "initContainerStatuses": [proxy]}
        self.api.admin.replace({**known, "status": status}, sub="status")

    def annotations(self, name: str) -> dict[str, str]:
        found: dict[str, str] = self.api.admin.get("pods", name, "shop")["metadata"].get("annotations", {})
        return found

    def status(self, name: str) -> PodStatus | None:
        known = self.api.admin.get("pods", name, "shop")["metadata"]
        text = known.get("annotations", {}).get(names.STATUS)
        return None if text is None else decode(text, known["uid"])

    def codes(self, name: str) -> set[str]:
        events = self.api.admin.list("events", "shop")
        return {each["reason"] for each in events if each["involvedObject"]["name"] == name}

    def settings(self, identity: str = "c0", **more: Any) -> ControllerSettings:
        """Of a controller that is the shipped ServiceAccount."""
        return ControllerSettings(
            kubeconfig=self.api.kubeconfig(ACCOUNT),
            identity=identity,
            address="127.0.0.1",
            port=0,
            journal=self.api.directory / f"{identity}.jsonl",
            **{"lease_s": 3, "renew_s": 1.0, "retry_s": 0.2, "probe_idle_s": 0.3, "probe_fast_s": 0.02, **more},
        )

    @asynccontextmanager
    async def controller(self, identity: str = "c0", *, helper: bool = False, **more: Any) -> AsyncIterator[Controller]:
        """One that runs until the end of the block, as the shipped ServiceAccount. `helper`: acts by the real actuator,
        and not at the kernel directly."""
        async with Controller(self.settings(identity, **more)) as controller:
            if not helper:
                controller.actuators = {self.kernel.name: self.kernel}
            work = asyncio.create_task(controller.run())
            try:
                yield controller
            finally:
                work.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await work

    async def until(self, holds: Callable[[], object], what: str = "", timeout_s: float = 45.0) -> None:
        """Looked at often; what is waited for happens in other tasks and has no event of its own here."""
        deadline = asyncio.get_running_loop().time() + timeout_s
        while not holds():
            assert asyncio.get_running_loop().time() < deadline, f"not within {timeout_s:g} s: {what or holds}"
            await asyncio.sleep(0.02)


def shipped(directory: Path, tier: str, *more: str) -> Path:
    """As a user would put a tier and both opt-ins together; `more`: further ones."""
    said = {
        "resources": [os.path.relpath(MANIFESTS / "overlays" / tier, directory)],
        "components": [
            os.path.relpath(MANIFESTS / "components" / each, directory) for each in ("ephemeral", "exec", *more)
        ],
    }
    (directory / "kustomization.yaml").write_text(yaml.safe_dump(said))
    return directory


@asynccontextmanager
async def town(
    *,
    tier: str = "tier-1-rescue",
    policy: dict[str, Any] | None = POLICY,
    objects: Sequence[dict[str, Any]] = (),
    more: Sequence[str] = (),
    led_before: bool = True,
) -> AsyncIterator[Town]:
    """`led_before`: by a controller that has given the Lease away; False: there is none yet."""
    async with EmbeddedApi() as api:
        for name in ("istio-system", "shop"):
            api.admin.apply([{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}])
        api.admin.apply(render(shipped(api.directory, tier, *more)))
        api.admin.apply([istio_crd(*each) for each in ISTIO])
        api.admin.apply([MESH_CONFIG, *([policy] if policy else []), *([LEFT] if led_before else []), *objects])
        made = Town(api)
        made.kernel.beside = Diagnosis(Fault.WELL, Grade.NONE, "well")
        try:
            yield made
        finally:
            for server in made.servers.values():
                server.close()
