"""A mesh in miniature: pods with real Envoys on a network of namespaces, clients, Services. Start here.

    async with Sandbox() as box:
        pod = await box.pod("web-0", workload="deploy/web")
        service = await box.service("web", [pod])
        client = await box.meshed("c0")
        await pod.ready()
        run = client.load(service, rate=1000, seconds=5)
        fault = await pod.faults.kill()
        print((await run.results()).summary(fault.at_s))

Nothing of the host is changed; everything is removed at the end, also after ^C or SIGTERM; what a crashed owner leaves
is removed by the next start (see estate).
"""

from __future__ import annotations

import asyncio
import os
import secrets
import signal
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from types import TracebackType
from typing import Any

from hotswitch.model import Port
from hotswitch.sandbox import estate as estates
from hotswitch.sandbox.ca import CertificateAuthority
from hotswitch.sandbox.clients import Client, MeshedClient
from hotswitch.sandbox.estate import Estate
from hotswitch.sandbox.names import DNS, NameServer, mirror
from hotswitch.sandbox.network import Attachment, Network
from hotswitch.sandbox.pod import Pod
from hotswitch.sandbox.podspec import PodSpec
from hotswitch.sandbox.registry import Publish, Registry, Service


class Sandbox:
    """`prefix` begins every name made on this machine. Needs root; use hotswitch.precheck for a sentence on what is
    missing. Raises EnvoyNotFound, CommandFailed."""

    def __init__(self, *, prefix: str = "hs-", ident: str = "") -> None:
        self.estate = Estate(ident or secrets.token_hex(2), prefix)
        self.network = Network(self.estate)
        self.ca = CertificateAuthority()
        self.registry = Registry()
        self.pods: dict[str, Pod] = {}
        self.clients: dict[str, Client] = {}
        self.services: dict[str, Service] = {}
        self._names: NameServer | None = None
        self._undo_signal: Callable[[], None] = lambda: None

    @staticmethod
    def sweep(prefix: str = "hs-") -> list[str]:
        """Remove what dead owners left; their names."""
        return estates.sweep(prefix)

    async def __aenter__(self) -> Sandbox:
        await asyncio.to_thread(estates.sweep, self.estate.prefix.removesuffix(f"{self.estate.ident}-"))
        self.estate.claim()
        self._undo_signal = _end_on_sigterm()
        try:
            for folder in ("pods", "clients", "services"):
                (self.estate.directory / folder).mkdir()
            await self.network.start()
            self.registry.start()
        except BaseException:
            await self.close()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """End and remove everything; a second ^C does not stop it."""
        self._undo_signal()
        with _deaf():
            await asyncio.shield(asyncio.ensure_future(self._close()))

    async def _close(self) -> None:
        try:
            await self.registry.stop()
            if self._names is not None:
                self._names.close()
            await asyncio.gather(*(pod.stop() for pod in self.pods.values()), return_exceptions=True)
            await asyncio.gather(*(client.close() for client in self.clients.values()), return_exceptions=True)
        finally:
            self.estate.remove()

    # ---- what can be made ----

    async def pod(self, name: str, *, uid: str = "", **spec: Any) -> Pod:
        """Start a pod (fields of PodSpec); `await pod.ready()` for it to be Ready. `uid`: one that it has already."""
        if name in self.pods:
            raise ValueError(f"name: {name!r} is taken")
        wanted = PodSpec(**spec)
        if wanted.dns and self._names is None:
            node = self.network.node
            self._names = await NameServer.listen(mirror, node.addresses(), DNS, netns=node.netns)
        place = await self.network.attach(name, ipv6="v6" in wanted.families)
        pod = self.pods[name] = Pod(self.estate, place, name, wanted, self.ca, self.network.node.netns, uid)
        pod.kubelet.on_change.append(self.registry.touch)
        await pod.start()
        return pod

    async def client(self, name: str) -> Client:
        """A plain client in a namespace of its own."""
        client = self.clients[name] = Client(self.estate, await self._place(name), name)
        return client

    async def meshed(self, name: str) -> MeshedClient:
        """A client with an Envoy that speaks auto-mTLS; knows every Service, also later ones."""
        client = MeshedClient(self.estate, await self._place(name), name, self.ca)
        self.clients[name] = client
        await client.start(list(self.services.values()))
        return client

    async def _place(self, name: str) -> Attachment:
        if name in self.pods or name in self.clients:
            raise ValueError(f"name: {name!r} is taken")
        return await self.network.attach(name)

    async def service(
        self,
        name: str,
        pods: Sequence[Pod],
        *,
        port: Port = 8080,
        protocol: str = "http",
        family: str = "v4",
        publish: Publish | str = Publish.READY,
        serves: Callable[[str], bool] = lambda pod: False,
        source: Callable[[], list[tuple[str, str]]] | None = None,
    ) -> Service:
        """Publish a Service over `pods`; meshed clients learn about it before this returns."""
        service = self.services[name] = Service(
            name, len(self.services), tuple(pods), port, self.estate.directory / "services", protocol, family,
            Publish(publish), serves, source,
        )  # fmt: skip
        self.registry.add(service)
        await self._teach(service)
        return service

    async def _teach(self, service: Service) -> None:
        meshed = [client for client in self.clients.values() if isinstance(client, MeshedClient)]
        for client in meshed:
            client.learn(list(self.services.values()))
        await asyncio.gather(*(client.until_known(service) for client in meshed))

    # ---- what the agent needs to know ----

    def agent_config(self, pods: Iterable[Pod], **policy: Any) -> dict[str, Any]:
        """The agent's configuration file for these pods, with `policy` for each (see config.agentfile)."""
        return {
            "node": self.estate.ident,
            "journal": str(self.estate.directory / "agent" / "journal.jsonl"),
            "socket": str(self.estate.directory / "agent" / "agent.sock"),
            "evidence": {"directory": str(self.estate.directory / "agent" / "evidence")},
            "rescue": {"directory": str(self.estate.directory / "agent" / "rescue")},
            "pods": [pod.agent_config(policy) for pod in pods],
        }


@contextmanager
def _deaf() -> Iterator[None]:
    """SIGINT and SIGTERM are not heard: the removal takes milliseconds, and half of one would be worse."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, signal.SIG_IGN) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)


def _end_on_sigterm() -> Callable[[], None]:
    """SIGTERM ends the task that opened the sandbox, as ^C does with asyncio.run. Leaves a handler of others alone."""
    task, loop = asyncio.current_task(), asyncio.get_running_loop()
    if task is None or threading.current_thread() is not threading.main_thread():
        return lambda: None
    if signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
        return lambda: None

    def undo() -> None:
        if not loop.is_closed():
            loop.remove_signal_handler(signal.SIGTERM)

    def end() -> None:
        if not task.cancel():  # that task has ended, so there is nobody who would close the sandbox
            undo()
            os.kill(os.getpid(), signal.SIGTERM)

    loop.add_signal_handler(signal.SIGTERM, end)
    return undo
