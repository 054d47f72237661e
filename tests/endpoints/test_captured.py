"""The doorway of a pod whose traffic a real sidecar captures: shut is shut, by whatever way a client comes (I7, S0.5).

The keeper's table stands ahead of Istio's translation on the way in and behind it on the way out, so it sees the ports
that clients see, though the flow ends at the proxy's.
"""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from hotswitch.endpoints.doorway import Doorway
from hotswitch.kernel.netns import inside
from hotswitch.model import HEALTH, Port
from hotswitch.sandbox.app import HTTP_PORT
from hotswitch.sandbox.ask import Answer
from hotswitch.sandbox.clients import Client, MeshedClient
from hotswitch.sandbox.pod import Pod
from hotswitch.sandbox.registry import Service
from hotswitch.sandbox.sandbox import Sandbox

pytestmark = pytest.mark.envoy
PATIENCE_S, LONG_S = 30.0, 600.0
SLOW_PORT: Port = 9000


class Captured:
    def __init__(self, box: Sandbox, pod: Pod, service: Service, plain: Client, meshed: MeshedClient) -> None:
        self.box, self.pod, self.service, self.plain, self.meshed = box, pod, service, plain, meshed
        node = box.network.node
        self.door = Doorway(pod.netns, (HTTP_PORT,), (node.ipv4, node.ipv6))
        self.door.build()

    def permit(self, for_s: float = LONG_S) -> None:
        self.door.permit(time.time() + LONG_S, for_s)

    async def answers(self) -> list[Answer | None]:
        """Over IPv4, over IPv6, and with mTLS; None: refused."""
        v4, v6 = self.pod.addresses
        ways = (self.plain.ask(v4, HTTP_PORT), self.plain.ask(v6, HTTP_PORT), self.meshed.get(self.service))
        return [answer if not isinstance(answer, BaseException) else None for answer in await _all(ways)]

    async def connect(self, address: str) -> socket.socket:
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        with inside(self.plain.netns):
            made = socket.socket(family, socket.SOCK_STREAM)
        made.setblocking(False)
        await asyncio.get_running_loop().sock_connect(made, (address, HTTP_PORT))
        return made


async def _all(ways: tuple[Awaitable[Answer], ...]) -> list[Answer | BaseException]:
    found = await asyncio.gather(*ways, return_exceptions=True)
    for each in found:
        assert isinstance(each, Answer | OSError), each
    return list(found)


@asynccontextmanager
async def captured(interception: str) -> AsyncIterator[Captured]:
    async with Sandbox() as box:
        pod = await box.pod("db-0", interception=interception)
        service = await box.service("db", [pod])
        plain, meshed = await box.client("plain"), await box.meshed("meshed")
        await pod.ready()
        await meshed.until_endpoints(service, 1)
        yield Captured(box, pod, service, plain, meshed)


def run(story: Callable[[], Awaitable[None]]) -> None:
    async def told() -> None:
        async with asyncio.timeout(4 * PATIENCE_S):
            await story()

    asyncio.run(told())


async def read(sock: socket.socket, timeout_s: float = PATIENCE_S) -> bytes:
    async with asyncio.timeout(timeout_s):
        return await asyncio.get_running_loop().sock_recv(sock, 65536)


@pytest.mark.parametrize("interception", ["REDIRECT", "TPROXY"])
def test_inbound_is_refused_and_flows_through_the_proxy_are_cut(interception: str) -> None:
    async def story() -> None:
        async with captured(interception) as made:
            refused = await made.answers()
            assert refused[:2] == [None, None]
            assert refused[2] is not None and refused[2].status == 503  # the client's own Envoy says so
            health = await made.box.clients["plain"].ask(made.pod.ip, HEALTH, "/healthz/ready")
            assert health.status == 200, "other ports are not touched"
            made.permit()
            found = await made.answers()
            assert [each and (each.status, each.via) for each in found] == [(200, "sidecar")] * 3

            kept = [await made.connect(address) for address in made.pod.addresses]
            for sock in kept:
                await asyncio.get_running_loop().sock_sendall(sock, b"GET / HTTP/1.1\r\nHost: db\r\n\r\n")
                assert b"200 OK" in await read(sock)
            assert made.door.shut() >= len(kept)
            for sock in kept:
                with sock, pytest.raises(ConnectionResetError):
                    await read(sock)
            refused = await made.answers()
            assert refused[:2] == [None, None] and refused[2] is not None and refused[2].status == 503

    run(story)


@pytest.mark.parametrize("family", [0, 1], ids=["IPv4", "IPv6"])
def test_an_answer_of_before_does_not_get_out_through_the_proxy_afterwards(family: int) -> None:
    """The permit runs out while the app thinks, and nobody cuts the flow."""

    async def story() -> None:
        async with captured("REDIRECT") as made:
            address = made.pod.addresses[family]
            with inside(made.plain.netns):
                thoughts = socket.create_server(("", SLOW_PORT))
            thoughts.setblocking(False)
            made.permit(2.0)
            with thoughts, await made.connect(address) as client:
                call = f"GET /call?host={made.plain.place.ipv4}&port={SLOW_PORT} HTTP/1.1\r\nHost: db\r\n\r\n"
                await asyncio.get_running_loop().sock_sendall(client, call.encode())
                async with asyncio.timeout(PATIENCE_S):
                    kept, _ = await asyncio.get_running_loop().sock_accept(thoughts)
                with kept:
                    async with asyncio.timeout(PATIENCE_S):
                        while made.door.is_permitted():
                            await asyncio.sleep(0.02)
                    await asyncio.get_running_loop().sock_sendall(kept, b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
                    with pytest.raises((TimeoutError, ConnectionError)):
                        await read(client, 1.0)

    run(story)
