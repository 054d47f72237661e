"""The stage: an embedded API, controllers, pods with keepers, the storage that they share, and its clients.

Each pod is a network namespace with two processes: the sample app (register.py) and `hotswitch keeper`, beside it as a
native sidecar would be; with `mesh` also a real sidecar that captures its traffic, the keeper's and the app's own
included. Controllers are processes with the rights of the shipped manifests and no others. Everything can be killed,
stopped, cut off.

    async with Failover(pods=3, controllers=2) as stage, stage.client() as client:
        await stage.serving(client)
        stage.pods["db-0"].app.freeze()
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import sys
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from hotswitch.cluster.client import connect
from hotswitch.cluster.kinds import LEASES, NAMESPACES, NODES, PODS, SERVICES
from hotswitch.endpoints import memory
from hotswitch.endpoints.memory import Memory
from hotswitch.kernel.command import Command, run
from hotswitch.sandbox.ca import CertificateAuthority
from hotswitch.sandbox.cluster.installed import ACCOUNT, NAMESPACE, ROOT_NAMESPACE, manifests
from hotswitch.sandbox.cluster.relay import Relay
from hotswitch.sandbox.estate import Estate
from hotswitch.sandbox.failover.client import Client
from hotswitch.sandbox.failover.part import Part
from hotswitch.sandbox.failover.pod import RegisterPod
from hotswitch.sandbox.failover.service import DB, QUICK_CHECK, SHOP, service
from hotswitch.sandbox.kubeapi.identity import service_account
from hotswitch.sandbox.kubeapi.server import EmbeddedApi
from hotswitch.sandbox.network import Attachment, Network
from hotswitch.sandbox.pod import PROXY
from hotswitch.sandbox.pod import Pod as MeshedPod
from hotswitch.sandbox.podspec import PodSpec
from hotswitch.sandbox.process import Process, module_argv, start
from hotswitch.sandbox.register import GRPC_PORT, PORT, ROLE_PORT, STORAGE_PORT, RegisterConfig
from hotswitch.sandbox.slice_reader import SliceReader

NODE = "node-a"
KEEPERS = f"system:serviceaccount:{SHOP}:db"
TIER = "tier-3-endpoints"
FIRST_ROLES, FIRST_PORT, FIRST_XDS = 8101, 8201, 18000
PATIENCE_S = 60.0
TTL_S = 2


class Failover:
    """`ttl_s`: the activity lease; `lease_s`: the controllers' own. `family`: IPv4 or IPv6, the only one that pods and
    Service have. `grpc`: the app serves gRPC, too. `mesh`: pods have a sidecar. `words`: annotations of the Service
    beside its mode. `prefix` begins every name made on this machine."""

    def __init__(
        self, *, pods: int = 3, controllers: int = 2, ttl_s: int = TTL_S, lease_s: int = 3, family: str = "IPv4",
        grpc: bool = False, mesh: bool = False, words: Mapping[str, str] = QUICK_CHECK,
        prefix: str = "hs-",
    ) -> None:  # fmt: skip
        self._counts, self._lease_s = (pods, controllers), lease_s
        self._family, self._grpc = family, grpc
        self._service = service(ttl_s=ttl_s, family=family, grpc=grpc, words=words)
        self._ca = CertificateAuthority() if mesh else None
        self.estate = Estate(secrets.token_hex(2), prefix)
        self.network = Network(self.estate)
        self.pods: dict[str, RegisterPod] = {}
        self.controllers: dict[str, Part] = {}
        self._kubelets: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Failover:
        async with contextlib.AsyncExitStack() as stack:
            self.estate.claim()
            stack.callback(self.estate.remove)
            await self.network.start()
            self.api = await stack.enter_async_context(EmbeddedApi())
            admin = self.api.kubeconfig("admin", ("system:masters",))
            self.cluster = await stack.enter_async_context(connect(admin))
            await self._install(stack)
            stack.push_async_callback(self._end)
            await self._populate()
            self._stack = stack.pop_all()
        return self

    async def __aexit__(self, *error: object) -> None:
        await self._stack.aclose()

    async def _install(self, stack: contextlib.AsyncExitStack) -> None:
        for name in (SHOP, ROOT_NAMESPACE):
            await self.cluster.create(NAMESPACES, None, {"metadata": {"name": name}})
        self.api.apply(manifests(TIER, ()))
        status = {"addresses": [{"type": "InternalIP", "address": self.address(self.network.node)}]}
        labels = {"topology.kubernetes.io/zone": "zone-a"}
        await self.cluster.create(NODES, None, {"metadata": {"name": NODE, "labels": labels}, "status": status})
        await self.reach_api(self.network.node, stack)
        self.token = self.estate.directory / "keeper-token"
        self.token.write_text(self.api.token(KEEPERS))

    async def reach_api(self, place: Attachment, stack: contextlib.AsyncExitStack) -> None:
        """From now on kubeconfigs work in there."""
        relay = await Relay.open(place.netns, int(self.api.url.rpartition(":")[2]))
        stack.push_async_callback(relay.close)

    async def _populate(self) -> None:
        await self.cluster.create(SERVICES, SHOP, self._service)
        for number in range(self._counts[1]):
            name = f"controller-{number}"
            self.controllers[name] = Part(lambda name=name, number=number: self._controller(name, number))  # type: ignore[misc]
        self.storage = await self.network.attach("storage")
        argv = module_argv("register", "--storage", str(self.database))
        self.store = Part(lambda: start(self.estate, argv, log=self.log("storage"), netns=self.storage.netns))
        for number in range(self._counts[0]):
            await self.add_pod(f"db-{number}")

    async def _end(self) -> None:
        for task in self._kubelets:
            task.cancel()
        await asyncio.gather(*self._kubelets, return_exceptions=True)
        parts = [*self.controllers.values(), *(part for pod in self.pods.values() for part in (pod.app, pod.keeper))]
        await asyncio.gather(*(part.kill() for part in (*parts, self.store)))
        await asyncio.gather(*(pod.mesh.stop() for pod in self.pods.values() if pod.mesh is not None))

    # ---- processes ----

    def _controller(self, name: str, number: int) -> Process:
        kubeconfig = self.api.kubeconfig(service_account(NAMESPACE, ACCOUNT))
        argv = (
            sys.executable, "-m", "hotswitch.cli.main", "controller", "--kubeconfig", str(kubeconfig),
            "--identity", name, "--port", str(FIRST_PORT + number), "--roles-port", str(FIRST_ROLES + number),
            "--endpoints", "--keepers", KEEPERS, "--lease", str(self._lease_s), "--xds-port", str(FIRST_XDS + number),
            "--journal", str(self.estate.directory / f"{name}.jsonl"),
        )  # fmt: skip
        return start(self.estate, argv, log=self.log(name), netns=self.network.node.netns)

    @property
    def database(self) -> Path:
        """Of the storage, for the last look at what is in it."""
        return self.estate.directory / "register.db"

    def log(self, name: str) -> Path:
        return self.estate.directory / f"{name}.log"

    def address(self, place: Attachment) -> str:
        """In the stage's family."""
        return place.ipv6 if self._family == "IPv6" else place.ipv4

    @property
    def roles(self) -> tuple[str, ...]:
        node = self.address(self.network.node)
        return tuple(f"{node}:{FIRST_ROLES + number}" for number in range(self._counts[1]))

    @property
    def xds(self) -> tuple[tuple[str, int], ...]:
        """Where each controller serves xDS while it leads."""
        node = self.address(self.network.node)
        return tuple((node, FIRST_XDS + number) for number in range(self._counts[1]))

    async def add_pod(self, name: str) -> RegisterPod:
        containers = [{"name": each, "image": f"{each}:1"} for each in ("app", *([PROXY] if self._ca else []))]
        spec = {"nodeName": NODE, "serviceAccountName": "db", "containers": containers}
        manifest = {"metadata": {"name": name, "labels": {"app": "db"}}, "spec": spec}
        made = await self.cluster.create(PODS, SHOP, manifest)
        uid = str(made["metadata"]["uid"])
        place = await self.network.attach(f"{name}-{len(self.pods)}")
        mesh = await self._sidecar(name, uid, place)
        path = self.estate.directory / f"{name}.json"
        self._register(name, uid).save(path)
        keeper = Part(lambda: self._keeper(name, uid, place))
        await until(lambda: _has_doorway(place), "the keeper has built its doorway")  # native sidecar: before the app
        app = Part(
            lambda: start(self.estate, module_argv("register", str(path)), log=self.log(name), netns=place.netns)
        )
        pod = RegisterPod(name, uid, place, self.address(place), app, keeper, self.network.node, mesh)
        self.pods[name] = pod
        self._kubelets.append(asyncio.create_task(pod.tell(self.cluster, SHOP)))
        return pod

    def _register(self, name: str, uid: str) -> RegisterConfig:
        storage = f"{self.address(self.storage)}:{STORAGE_PORT}"
        return RegisterConfig(SHOP, name, uid, storage, (f"127.0.0.1:{ROLE_PORT}",), self._grpc)

    async def _sidecar(self, name: str, uid: str, place: Attachment) -> MeshedPod | None:
        if self._ca is None:
            return None
        spec = PodSpec(namespace=SHOP, app=False, readiness_period_s=1.0)
        pod = MeshedPod(self.estate, place, name, spec, self._ca, self.network.node.netns, uid)
        await pod.start()
        await pod.ready()
        return pod

    def _keeper(self, name: str, uid: str, place: Attachment) -> Process:
        ports = f"{PORT},{GRPC_PORT}" if self._grpc else str(PORT)
        hosts = (each.rpartition(":") for each in self.roles)
        roles = (f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}" for host, _, port in hosts)
        argv = (
            sys.executable, "-m", "hotswitch.cli.main", "keeper", "--ports", ports, "--roles", ",".join(roles),
            "--name", name, "--namespace", SHOP, "--uid", uid, "--token", str(self.token), "--serve", str(ROLE_PORT),
        )  # fmt: skip
        return start(self.estate, argv, log=self.log(f"{name}-keeper"), netns=place.netns)

    # ---- looking ----

    async def election(self) -> Memory:
        """Raises ApiFailure, MemoryUnreadable."""
        return memory.read(await self.cluster.get(LEASES, NAMESPACE, memory.lease_name(DB)))

    async def leader(self) -> str:
        """The name of the controller that leads; "" for none."""
        lease = await self.cluster.get(LEASES, NAMESPACE, "hotswitch-controller")
        return str((lease.get("spec") or {}).get("holderIdentity") or "").rpartition("_")[0]

    @asynccontextmanager
    async def client(self) -> AsyncIterator[Client]:
        place = await self.network.attach(f"c{secrets.token_hex(2)}")
        async with connect(self.api.kubeconfig("admin", ("system:masters",))) as cluster:
            reader = SliceReader(cluster, DB)
            async with reader.watching():
                yield Client(place, reader)

    async def serving(self, client: Client) -> None:
        """Until a request is answered."""
        await until(lambda: client.answered("/read"), "somebody serves")


async def until(holds: Callable[[], Any], what: str) -> None:
    """Raises TimeoutError with a sentence."""
    end_s = time.monotonic() + PATIENCE_S
    while True:
        found = holds()
        if await found if asyncio.iscoroutine(found) else found:
            return
        if time.monotonic() > end_s:
            raise TimeoutError(f"after {PATIENCE_S:g} s still not: {what}")
        await asyncio.sleep(0.05)


def _has_doorway(place: Attachment) -> bool:
    return run(Command(("nft", "list", "table", "inet", "hotswitch_role"), netns=place.netns)).returncode == 0
