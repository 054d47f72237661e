"""A pod and its clients as two wired namespaces, with a redirect to the rescue, an app, and clients of every kind."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import itertools
import os
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from hotswitch.kernel.command import Command, run
from hotswitch.kernel.netlink import NETLINK_SOCK_DIAG, NetlinkSocket
from hotswitch.kernel.netns import inside
from hotswitch.kernel.sockdiag import accept_queues
from hotswitch.model import NEVER_OPENED, RESCUE_INBOUND, RESCUE_OUTBOUND, RESCUE_UID, Mtls, Port
from hotswitch.rescue.pod import RescuePod
from hotswitch.rescue.process import Death
from hotswitch.rescue.service import Rescue
from tests.rescue.authority import Authority, spiffe

PATIENCE_S = 8.0
DRAIN_S = 2
APP = 8080
POD4, POD6, CLIENT4, CLIENT6, OTHER4 = "10.97.0.2", "fd97::2", "10.97.0.1", "fd97::1", "10.97.0.3"
ISTIO_H1, ISTIO_H2 = ("istio-http/1.1", "istio", "http/1.1"), ("istio-h2", "istio", "h2")
_numbers = itertools.count()

GATE = f"""table inet test_gate {{
  chain inbound {{ type nat hook prerouting priority -110; policy accept;
    tcp dport {{ {", ".join(str(port) for port in sorted(NEVER_OPENED))} }} return
    meta l4proto tcp redirect to :{RESCUE_INBOUND}
  }}
  chain outbound {{ type nat hook output priority -110; policy accept;
    oifname "lo" return
    meta skuid {RESCUE_UID} return
    meta l4proto tcp redirect to :{RESCUE_OUTBOUND}
  }}
}}
"""


async def eventually(condition: Callable[[], bool], what: str, patience_s: float = PATIENCE_S) -> None:
    loop = asyncio.get_running_loop()
    deadline_s = loop.time() + patience_s
    while not condition():
        assert loop.time() < deadline_s, f"not within {patience_s:g} s: {what}"
        await asyncio.sleep(0.005)


def listening(netns: str) -> frozenset[Port]:
    with contextlib.closing(NetlinkSocket(NETLINK_SOCK_DIAG, netns)) as asked:
        return frozenset(queue.port for queue in accept_queues(asked))


def make_socket(netns: str, address: str, port: Port = 0, source: str = "") -> socket.socket:
    """A listening socket (no source), or one that is bound to `source` and about to connect to the address."""
    family = socket.AF_INET6 if ipaddress.ip_address(address).version == 6 else socket.AF_INET
    with inside(netns):
        made = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if source:
        made.bind((source, 0))
    else:
        made.bind((address, port))
        made.listen(64)
    return made


@dataclass(frozen=True)
class Answer:
    """What came back: "" when the connection was closed without a byte."""

    text: str
    alpn: str | None = None

    @property
    def served(self) -> bool:
        return self.text.startswith("from ")

    @property
    def peer(self) -> str:
        """Who the app saw."""
        return self.text.split()[1]


class World:
    def __init__(self, name: str, directory: Path) -> None:
        self.pod_ns, self.client_ns = (f"/var/run/netns/{name}-{end}" for end in ("pod", "cli"))
        self.directory = directory
        self.authority = Authority()
        self.identity = self.authority.issue(spiffe())
        self.heard: list[Death] = []
        self.returned: list[str] = []  # pods that a respawned rescue listens for again
        self.rescue = self.new_agent()
        self.pod = RescuePod("shop/web", self.pod_ns, (POD4, POD6), mtls=Mtls.PERMISSIVE)
        self.stack = contextlib.AsyncExitStack()

    def new_agent(self) -> Rescue:
        return Rescue(self.directory, drain_s=DRAIN_S, on_death=self.heard.append, on_return=self.returned.append)

    async def restart_agent(self) -> bool:
        """The agent ends and another comes; True if it has adopted the rescue."""
        await self.rescue.leave()
        self.rescue = self.new_agent()
        return await self.rescue.start()

    @property
    def other(self) -> RescuePod:
        """A second pod: the clients' namespace serves as one."""
        return RescuePod("shop/other", self.client_ns, (CLIENT4, CLIENT6), mtls=Mtls.PERMISSIVE)

    def client(
        self, namespace: str = "shop", account: str = "cart", alpn: tuple[str, ...] = ISTIO_H1
    ) -> ssl.SSLContext:
        return self.authority.issue(spiffe(namespace, account)).client(*alpn)

    async def add(self, **changes: Any) -> None:
        """Put the pod into the rescue and wait for the kernel to say that it listens."""
        self.pod = replace(self.pod, **changes)
        await self.rescue.add(self.pod, self.identity.identity() if self.pod.needs_identity else None)
        await self.ready()

    def is_ready(self, netns: str = "") -> bool:
        return listening(netns or self.pod_ns) >= {RESCUE_INBOUND, RESCUE_OUTBOUND}

    async def ready(self, netns: str = "") -> None:
        await eventually(lambda: self.is_ready(netns), "rescue listens")

    def open_gate(self, is_open: bool) -> None:
        script = GATE if is_open else "table inet test_gate\ndelete table inet test_gate\n"
        run(Command(("nft", "-f", "-"), netns=self.pod_ns, stdin=script), check=True)

    async def redirect_everything(self) -> None:
        """A gate gone wrong: it spares no port."""
        self.open_gate(False)
        lines = [line for line in GATE.splitlines() if "return" not in line or "oifname" in line or "skuid" in line]
        run(Command(("nft", "-f", "-"), netns=self.pod_ns, stdin="\n".join(lines) + "\n"), check=True)

    async def serve(
        self,
        handle: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]],
        address: str = POD4,
        port: Port = APP,
        *,
        netns: str = "",
        tls: ssl.SSLContext | None = None,
    ) -> None:
        made = make_socket(netns or self.pod_ns, address, port)
        server = await asyncio.start_server(handle, sock=made, ssl=tls)
        self.stack.callback(server.close)

    async def connect(
        self,
        address: str = POD4,
        port: Port = APP,
        *,
        tls: ssl.SSLContext | None = None,
        source: str = "",
        netns: str = "",
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        wild = "::" if ":" in address else "0.0.0.0"
        made = make_socket(netns or self.client_ns, address, source=source or wild)
        try:
            await asyncio.wait_for(asyncio.get_running_loop().sock_connect(made, (address, port)), PATIENCE_S)
        except BaseException:
            made.close()
            raise
        reader, writer = await asyncio.open_connection(sock=made, ssl=tls, server_hostname="pod" if tls else None)
        self.stack.push_async_callback(_close, writer)
        return reader, writer

    async def ask(self, address: str = POD4, port: Port = APP, **how: Any) -> Answer:
        """One line there and one back; an empty answer when it was refused in whatever way."""
        try:
            reader, writer = await self.connect(address, port, **how)
        except (ssl.SSLError, ConnectionError):
            return Answer("")
        return await converse(reader, writer)


async def _close(writer: asyncio.StreamWriter) -> None:
    writer.transport.abort()
    with contextlib.suppress(ssl.SSLError, ConnectionError):
        await writer.wait_closed()


async def converse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, line: str = "hello") -> Answer:
    try:
        writer.write(f"{line}\n".encode())
        text = (await asyncio.wait_for(reader.readline(), PATIENCE_S)).decode().strip()
    except (ssl.SSLError, ConnectionError):
        text = ""
    secured = writer.get_extra_info("ssl_object")
    return Answer(text, secured.selected_alpn_protocol() if secured else None)


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Every line comes back with the name of the peer in front."""
    peer = writer.get_extra_info("peername")[0]
    with contextlib.suppress(ConnectionError):
        while line := await reader.readline():
            writer.write(f"from {peer} ".encode() + line)
    writer.close()


@contextlib.contextmanager
def namespaces(name: str) -> Iterator[str]:
    pod, client = f"{name}-pod", f"{name}-cli"
    try:
        _ip(f"netns add {pod}", f"netns add {client}")
        _ip(f"link add eth0 netns {pod} type veth peer name eth0 netns {client}")
        _ip_in(pod, "link set lo up", "addr add ::6/128 dev lo nodad", f"addr add {POD4}/24 dev eth0")
        _ip_in(pod, f"addr add {POD6}/64 dev eth0 nodad", "link set eth0 up")
        _ip_in(client, "link set lo up", f"addr add {CLIENT4}/24 dev eth0", f"addr add {OTHER4}/24 dev eth0")
        _ip_in(client, f"addr add {CLIENT6}/64 dev eth0 nodad", "link set eth0 up")
        run(Command(("nft", "-f", "-"), netns=f"/var/run/netns/{pod}", stdin=GATE), check=True)
        yield name
    finally:
        for there in (pod, client):
            run(Command(("ip", "netns", "del", there)))


def _ip(*lines: str) -> None:
    run(Command(("ip", "-batch", "-"), stdin="".join(f"{line}\n" for line in lines)), check=True)


def _ip_in(name: str, *lines: str) -> None:
    run(Command(("ip", "-n", name, "-batch", "-"), stdin="".join(f"{line}\n" for line in lines)), check=True)


@contextlib.asynccontextmanager
async def world(**changes: Any) -> AsyncIterator[World]:
    """A running rescue with the pod in it, and an app that echoes on both families."""
    with (
        TemporaryDirectory(prefix="hr-", dir="/run") as folder,
        namespaces(f"hr-{os.getpid()}-{next(_numbers)}") as name,
    ):
        Path(folder).chmod(0o755)
        made = World(name, Path(folder, "rescue"))
        try:
            await made.rescue.start()
            async with made.stack:
                await made.serve(echo)
                await made.serve(echo, POD6)
                await made.add(**changes)
                yield made
        finally:
            await made.rescue.stop()
