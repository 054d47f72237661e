"""An active/standby Service with everything real but the machine: pods, keepers, controllers, kernel, clients (S0).

Each pod is a network namespace with two processes: the sample app (register.py) and `hotswitch keeper`, beside it as a
native sidecar would be. Controllers are processes with the rights of the shipped manifests and no others. Clients find
the pods as kube-proxy does, by EndpointSlices, and know nothing else. Everything can be killed, stopped, cut off.

    async with Failover(pods=3, controllers=2) as stage:
        await stage.serving()
        stage.pods["db-0"].app.stop_now()
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import signal
import socket
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from hotswitch.api import service as said
from hotswitch.cluster.client import Cluster, connect
from hotswitch.cluster.failure import ApiFailure
from hotswitch.cluster.kinds import ENDPOINTSLICES, LEASES, NAMESPACES, NODES, PODS, SERVICES
from hotswitch.cluster.watch import Change, ChangeType, Watcher
from hotswitch.endpoints import memory
from hotswitch.endpoints.memory import Memory
from hotswitch.kernel.command import Command, run
from hotswitch.sandbox.ask import Answer, ask, complete, decode, make_socket
from hotswitch.sandbox.cluster.installed import ACCOUNT, NAMESPACE, ROOT_NAMESPACE, manifests
from hotswitch.sandbox.cluster.relay import Relay
from hotswitch.sandbox.estate import Estate
from hotswitch.sandbox.kubeapi.identity import service_account
from hotswitch.sandbox.kubeapi.server import EmbeddedApi
from hotswitch.sandbox.network import Attachment, Network
from hotswitch.sandbox.process import Process, module_argv, start
from hotswitch.sandbox.register import HEALTH_PORT, PORT, STORAGE_PORT, RegisterConfig

SHOP, SERVICE, NODE = "shop", "db", "node-a"
KEEPERS = f"system:serviceaccount:{SHOP}:db"
TIER = "tier-3-endpoints"
FIRST_ROLES, FIRST_PORT = 8101, 8201
PATIENCE_S = 60.0
TTL_S = 2


class Part:
    """A process that can be killed, frozen and started again."""

    def __init__(self, begin: Callable[[], Process]) -> None:
        self._begin = begin
        self.process = begin()

    @property
    def running(self) -> bool:
        return self.process.running

    def freeze(self) -> None:
        self.process.signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self.process.signal(signal.SIGCONT)

    async def kill(self) -> None:
        await self.process.stop()

    def again(self) -> None:
        if not self.running:
            self.process = self._begin()


class RegisterPod:
    """One pod. Its object says Ready while its processes run, as a kubelet would with half a second's delay."""

    def __init__(self, name: str, uid: str, place: Attachment, app: Part, keeper: Part, node: Attachment) -> None:
        self.name, self.uid, self.place, self._node = name, uid, place, node
        self.app, self.keeper = app, keeper

    def cut(self) -> None:
        """From controllers and node, not from clients: they go by the bridge, and not through the node's own stack."""
        rules = (
            f"add table inet cut_{self._tag}\n"
            f"add chain inet cut_{self._tag} in {{ type filter hook input priority -400; }}\n"
            f"add chain inet cut_{self._tag} out {{ type filter hook output priority -400; }}\n"
            f"add rule inet cut_{self._tag} in ip saddr {self.place.ipv4} drop\n"
            f"add rule inet cut_{self._tag} out ip daddr {self.place.ipv4} drop\n"
        )
        run(Command(("nft", "-f", "-"), netns=self._node.netns, stdin=rules), check=True)

    def join(self) -> None:
        text = f"table inet cut_{self._tag}\ndelete table inet cut_{self._tag}\n"
        run(Command(("nft", "-f", "-"), netns=self._node.netns, stdin=text), check=True)

    @property
    def _tag(self) -> str:
        return self.name.replace("-", "_")


class SliceReader:
    """What kube-proxy knows: addresses of endpoints that are ready, as the newest slices have them. It goes on with the
    last it knew while the API server is away."""

    def __init__(self, cluster: Cluster) -> None:
        self._slices: dict[str, dict[str, Any]] = {}
        self.watcher: Watcher[dict[str, Any]] = Watcher(
            cluster,
            ENDPOINTSLICES,
            dict,
            on_event=self._heard,
            namespace=SHOP,
            label_selector=f"kubernetes.io/service-name={SERVICE}",
        )
        self.changed = asyncio.Event()

    def _heard(self, change: Change[dict[str, Any]]) -> None:
        name = change.object["metadata"]["name"]
        if change.type is ChangeType.DELETED:
            self._slices.pop(name, None)
        else:
            self._slices[name] = change.object
        self.changed.set()

    @property
    def ready(self) -> list[tuple[str, int]]:
        return [
            (each["addresses"][0], content["ports"][0]["port"])
            for content in self._slices.values()
            for each in content.get("endpoints") or ()
            if each["conditions"]["ready"]
        ]


class Failover:
    """`ttl_s`: the activity lease; `lease_s`: the controllers' own."""

    def __init__(self, *, pods: int = 3, controllers: int = 2, ttl_s: int = TTL_S, lease_s: int = 3) -> None:
        self._counts, self._ttl_s, self._lease_s = (pods, controllers), ttl_s, lease_s
        self.estate = Estate(secrets.token_hex(2))
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
        status = {"addresses": [{"type": "InternalIP", "address": self.network.node.ipv4}]}
        labels = {"topology.kubernetes.io/zone": "zone-a"}
        await self.cluster.create(NODES, None, {"metadata": {"name": NODE, "labels": labels}, "status": status})
        relay = await Relay.open(self.network.node.netns, int(self.api.url.rpartition(":")[2]))
        stack.push_async_callback(relay.close)
        self.token = self.estate.directory / "keeper-token"
        self.token.write_text(self.api.token(KEEPERS))

    async def _populate(self) -> None:
        await self.cluster.create(SERVICES, SHOP, self._service())
        for number in range(self._counts[1]):
            name = f"controller-{number}"
            self.controllers[name] = Part(lambda name=name, number=number: self._controller(name, number))  # type: ignore[misc]
        self.storage = await self.network.attach("storage")
        self._keeping = start(
            self.estate,
            module_argv("register", "--storage", str(self.database)),
            log=self.log("storage"),
            netns=self.storage.netns,
        )
        for number in range(self._counts[0]):
            await self.add_pod(f"db-{number}")

    async def _end(self) -> None:
        for task in self._kubelets:
            task.cancel()
        await asyncio.gather(*self._kubelets, return_exceptions=True)
        parts = [*self.controllers.values(), *(part for pod in self.pods.values() for part in (pod.app, pod.keeper))]
        await asyncio.gather(*(part.kill() for part in parts), self._keeping.stop())

    def _service(self) -> dict[str, Any]:
        annotations = {
            said.MODE: "active-standby",
            said.SELECTOR: "app=db",
            said.CHECK: f"http:{HEALTH_PORT}/healthz",
            said.CHECK_PERIOD: "300ms",
            said.CHECK_TIMEOUT: "300ms",
            said.CHECK_FALL: "2",
            said.ACTIVITY_LEASE: f"{self._ttl_s}s",
        }
        ports = [{"name": "sql", "port": PORT, "targetPort": PORT, "protocol": "TCP"}]
        return {
            "metadata": {"name": SERVICE, "annotations": annotations},
            "spec": {"ports": ports, "ipFamilies": ["IPv4"]},
        }

    # ---- processes ----

    def _controller(self, name: str, number: int) -> Process:
        kubeconfig = self.api.kubeconfig(service_account(NAMESPACE, ACCOUNT))
        argv = (
            sys.executable, "-m", "hotswitch.cli.main", "controller", "--kubeconfig", str(kubeconfig),
            "--identity", name, "--port", str(FIRST_PORT + number), "--roles-port", str(FIRST_ROLES + number),
            "--endpoints", "--keepers", KEEPERS, "--lease", str(self._lease_s),
            "--journal", str(self.estate.directory / f"{name}.jsonl"),
        )  # fmt: skip
        return start(self.estate, argv, log=self.log(name), netns=self.network.node.netns)

    @property
    def database(self) -> Path:
        """Of the storage, for the last look at what is in it."""
        return self.estate.directory / "register.db"

    def log(self, name: str) -> Path:
        return self.estate.directory / f"{name}.log"

    @property
    def roles(self) -> tuple[str, ...]:
        return tuple(f"{self.network.node.ipv4}:{FIRST_ROLES + number}" for number in range(self._counts[1]))

    async def add_pod(self, name: str) -> RegisterPod:
        containers = [{"name": "app", "image": "register:1"}]
        spec = {"nodeName": NODE, "serviceAccountName": "db", "containers": containers}
        manifest = {"metadata": {"name": name, "labels": {"app": "db"}}, "spec": spec}
        made = await self.cluster.create(PODS, SHOP, manifest)
        uid = str(made["metadata"]["uid"])
        place = await self.network.attach(f"{name}-{len(self.pods)}")
        config = RegisterConfig(SHOP, name, uid, f"{self.storage.ipv4}:{STORAGE_PORT}", self.roles)
        path = self.estate.directory / f"{name}.json"
        config.save(path)
        keeper = Part(lambda: self._keeper(name, uid, place))
        await until(
            lambda: _has_doorway(place), "the keeper has built its doorway"
        )  # as a native sidecar: before the app
        app = Part(
            lambda: start(self.estate, module_argv("register", str(path)), log=self.log(name), netns=place.netns)
        )
        pod = self.pods[name] = RegisterPod(name, uid, place, app, keeper, self.network.node)
        self._kubelets.append(asyncio.create_task(self._kubelet(pod)))
        return pod

    def _keeper(self, name: str, uid: str, place: Attachment) -> Process:
        argv = (
            sys.executable, "-m", "hotswitch.cli.main", "keeper", "--ports", str(PORT),
            "--roles", ",".join(f"http://{each}" for each in self.roles),
            "--name", name, "--namespace", SHOP, "--uid", uid, "--token", str(self.token),
        )  # fmt: skip
        return start(self.estate, argv, log=self.log(f"{name}-keeper"), netns=place.netns)

    async def _kubelet(self, pod: RegisterPod) -> None:
        sent: bool | None = None
        while True:
            ready = pod.app.running
            if ready is not sent:
                with contextlib.suppress(ApiFailure):
                    patch = _status(pod, ready, self.network)
                    await self.cluster.patch_strategic(PODS, SHOP, pod.name, patch, "status")
                    sent = ready
            await asyncio.sleep(0.5)

    # ---- looking ----

    async def election(self) -> Memory:
        """Raises ApiFailure, MemoryUnreadable."""
        return memory.read(await self.cluster.get(LEASES, NAMESPACE, f"endpoints.{SHOP}.{SERVICE}"))

    async def leader(self) -> str:
        """The name of the controller that leads; "" for none."""
        lease = await self.cluster.get(LEASES, NAMESPACE, "hotswitch-controller")
        return str((lease.get("spec") or {}).get("holderIdentity") or "").rpartition("_")[0]

    @asynccontextmanager
    async def client(self) -> AsyncIterator[Client]:
        place = await self.network.attach(f"c{secrets.token_hex(2)}")
        async with connect(self.api.kubeconfig("admin", ("system:masters",))) as cluster:
            reader = SliceReader(cluster)
            watching = asyncio.create_task(reader.watcher.run())
            try:
                await reader.watcher.synced.wait()
                yield Client(place, reader)
            finally:
                watching.cancel()
                await asyncio.gather(watching, return_exceptions=True)

    async def serving(self, client: Client) -> None:
        """Until a request is answered."""
        await until(lambda: client.answered("/read"), "somebody serves")


class Client:
    """Sends to whichever endpoint is ready, each time on a fresh connection."""

    def __init__(self, place: Attachment, reader: SliceReader) -> None:
        self.place, self.reader = place, reader

    async def ask(self, path: str, timeout_s: float = 1.0) -> Answer:
        """Raises OSError (also TimeoutError); ConnectionError when nobody is ready."""
        ready = self.reader.ready
        if not ready:
            raise ConnectionError("no endpoint is ready")
        address, port = ready[0]
        return await ask(address, port, path, netns=self.place.netns, timeout_s=timeout_s)

    async def answered(self, path: str) -> bool:
        try:
            return (await self.ask(path)).status == 200
        except OSError:
            return False


class Pooled:
    """Sends over one connection for as long as it is answered on it, as pools of clients do: whoever was chosen once is
    asked again, whatever slices say meanwhile."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._sock: socket.socket | None = None

    async def ask(self, path: str, timeout_s: float = 1.0) -> Answer:
        """Raises OSError; then the connection is given up."""
        try:
            async with asyncio.timeout(timeout_s):
                sock = self._sock or await self._connect()
                loop = asyncio.get_running_loop()
                await loop.sock_sendall(sock, f"GET {path} HTTP/1.1\r\nHost: db\r\n\r\n".encode())
                answer = await self._answer(sock)
        except BaseException:
            self.close()
            raise
        if answer.status != 200:
            self.close()
        return answer

    async def _connect(self) -> socket.socket:
        ready = self._client.reader.ready
        if not ready:
            raise ConnectionError("no endpoint is ready")
        self._sock = make_socket(socket.AF_INET, self._client.place.netns)
        await asyncio.get_running_loop().sock_connect(self._sock, ready[0])
        return self._sock

    async def _answer(self, sock: socket.socket) -> Answer:
        data = b""
        while not complete(data):
            chunk = await asyncio.get_running_loop().sock_recv(sock, 65536)
            if not chunk:
                raise ConnectionResetError("closed before an answer")
            data += chunk
        return decode(data)

    def close(self) -> None:
        sock, self._sock = self._sock, None
        if sock is not None:
            sock.close()


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


def _status(pod: RegisterPod, ready: bool, network: Network) -> dict[str, Any]:
    state = {"running": {"startedAt": "2026-01-01T00:00:00Z"}} if ready else {"waiting": {"reason": "CrashLoopBackOff"}}
    app = {"name": "app", "image": "register:1", "imageID": "", "ready": ready, "restartCount": 0, "state": state}
    return {
        "metadata": {"uid": pod.uid},
        "status": {
            "phase": "Running",
            "conditions": [{"type": "Ready", "status": "True" if ready else "False"}],
            "containerStatuses": [app],
            "hostIP": network.node.ipv4,
            "podIP": pod.place.ipv4,
            "podIPs": [{"ip": pod.place.ipv4}],
        },
    }
