"""The stand-in on a real kernel: what it asks of an app, what it answers, and whom it lets in (S4.2).

Rules of pilot-agent's that the kubelet relies on are each tried with an app that makes use of them.
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import socket
import ssl
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from hotswitch.capture.gate import Gate
from hotswitch.capture.gate_table import GateScope
from hotswitch.capture.probes import Action, AppProbe
from hotswitch.kernel.netns import inside
from hotswitch.model import STAND_IN
from hotswitch.standin import server
from hotswitch.standin.asking import Answer
from hotswitch.standin.server import ProbeServer
from tests.namespaces import POD_V4, POD_V6, Pair

pytestmark = pytest.mark.netns

STATUS, APP = 15020, 8080
LIVE = "/app-health/web/livez"
App = Callable[[str], bytes]
"""What an app says to a request's head."""


def said(status: str, body: str = "", *headers: str) -> bytes:
    return "\r\n".join([f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *headers, "", body]).encode()


def probe(action: Action = Action.HTTP_GET, **more: Any) -> AppProbe:
    return AppProbe(**{"name": LIVE, "action": action, "port": APP, "path": "/well", "timeout_s": 1.0, **more})


@contextlib.asynccontextmanager
async def app_in(pair: Pair, app: App, tls: ssl.SSLContext | None = None) -> AsyncIterator[list[str]]:
    """An app on :8080 of the pod; the heads that it was sent."""
    heads: list[str] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            heads.append((await reader.readuntil(b"\r\n\r\n")).decode())
            writer.write(app(heads[-1]))
            await writer.drain()
        writer.close()

    with inside(pair.pod):
        sock = socket.create_server(("::", APP), family=socket.AF_INET6, dualstack_ipv6=True)
    listening = await asyncio.start_server(serve, sock=sock, ssl=tls)
    try:
        yield heads
    finally:
        listening.close()


class StandIn:
    """The server as the agent has it, and the gate that leads to it."""

    def __init__(self, pair: Pair, probes: tuple[AppProbe, ...], address: str) -> None:
        self.pair, self.told = pair, list[tuple[str, Answer]]()
        self.address = address
        self.gate = Gate(pair.pod, GateScope())
        self.gate.install()
        self.gate.trust()
        self.server = ProbeServer(
            pair.pod, address, STATUS, probes, lambda path, answer: self.told.append((path, answer))
        )

    def begin(self) -> None:
        self.server.listen()
        self.gate.divert(STATUS, 60.0)

    async def ask(self, request: str = "", port: int = STATUS) -> str:
        """As the kubelet, from outside. Raises OSError."""
        default = f"GET {LIVE} HTTP/1.1\r\nHost: {self.address}:{STATUS}\r\nUser-Agent: kube-probe/1.33\r\n\r\n"
        with inside(self.pair.client):
            sock = socket.socket(socket.AF_INET6 if ":" in self.address else socket.AF_INET)
        sock.setblocking(False)
        with sock:
            await asyncio.wait_for(asyncio.get_running_loop().sock_connect(sock, (self.address, port)), 3.0)
            reader, writer = await asyncio.open_connection(sock=sock)
            try:
                writer.write((request or default).encode())
                answer = (await asyncio.wait_for(reader.read(), 10.0)).decode()
            finally:
                writer.transport.abort()
        if not answer:
            raise ConnectionResetError
        return answer

    def close(self) -> None:
        self.server.close()
        self.gate.close()


@pytest.fixture
def stand(pair: Pair) -> Iterator[Callable[..., None]]:
    """Runs a scene with a stand-in for the given probes."""

    def run(scene: Callable[[StandIn], Coroutine[Any, Any, None]], *probes: AppProbe, address: str = POD_V4) -> None:
        async def play() -> None:
            stand_in = StandIn(pair, probes or (probe(),), address)
            stand_in.begin()
            try:
                await scene(stand_in)
            finally:
                stand_in.close()

        asyncio.run(play())

    yield run


@pytest.mark.parametrize("address", [POD_V4, POD_V6], ids=["v4", "v6"])
def test_status_and_body_are_the_apps_own(stand: Any, pair: Pair, address: str) -> None:
    async def scene(stand_in: StandIn) -> None:
        async with app_in(pair, lambda head: said("503 Not Now", "warming up")):
            answer = await stand_in.ask()
        assert answer.startswith("HTTP/1.1 503 ") and answer.endswith("\r\n\r\nwarming up")
        assert stand_in.told == [(LIVE, Answer(503, b"warming up"))]

    stand(scene, address=address)


def test_headers_of_the_kubelets_request_are_passed_on(stand: Any, pair: Pair) -> None:
    async def scene(stand_in: StandIn) -> None:
        async with app_in(pair, lambda head: said("200 OK")) as heads:
            asked = f"GET {LIVE} HTTP/1.1\r\nHost: {POD_V4}:{STATUS}\r\nX-Probe: yes\r\nContent-Length: 0\r\n\r\n"
            await stand_in.ask(asked)
            await stand_in.ask(asked.replace(f"{POD_V4}:{STATUS}", "web.example"))
        assert heads[0] == f"GET /well HTTP/1.1\r\nHost: {POD_V4}:{APP}\r\nX-Probe: yes\r\nConnection: close\r\n\r\n"
        assert "Host: web.example\r\n" in heads[1]  # the probe's own Host header

    stand(scene)


def test_the_app_is_asked_from_istios_magic_source(stand: Any, pair: Pair) -> None:
    async def scene(stand_in: StandIn) -> None:
        peers: list[str] = []

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            peers.append(writer.get_extra_info("peername")[0])
            writer.close()

        with inside(pair.pod):
            sock = socket.create_server((POD_V4, APP))
        listening = await asyncio.start_server(serve, sock=sock)
        await stand_in.ask()
        listening.close()
        assert peers == ["127.0.0.6"]

    stand(scene)


@pytest.mark.parametrize(
    ("where", "status"),
    [
        ("/next", 204),  # of its own: followed
        (f"http://{POD_V4}:{APP}/next", 204),
        ("http://login.example/", 200),  # elsewhere: a success
        ("/well", 500),  # in a circle
        ("", 500),  # nowhere
    ],
)
def test_redirects(stand: Any, pair: Pair, where: str, status: int) -> None:
    def app(head: str) -> bytes:
        location = (f"Location: {where}",) if where else ()
        return said("204 None") if head.startswith("GET /next ") else said("302 Found", "", *location)

    async def scene(stand_in: StandIn) -> None:
        async with app_in(pair, app):
            assert (await stand_in.ask()).startswith(f"HTTP/1.1 {status} ")

    stand(scene)


def test_https_is_not_verified(stand: Any, pair: Pair, tmp_path: Path) -> None:
    async def scene(stand_in: StandIn) -> None:
        async with app_in(pair, lambda head: said("200 OK"), self_signed(tmp_path)):
            assert (await stand_in.ask()).startswith("HTTP/1.1 200 ")

    stand(scene, probe(scheme="HTTPS"))


def test_an_app_that_never_answers_or_is_not_there(stand: Any, pair: Pair) -> None:
    async def scene(stand_in: StandIn) -> None:
        assert (await stand_in.ask()).startswith("HTTP/1.1 500 ")
        with inside(pair.pod):
            silent = socket.create_server((POD_V4, APP))
        with silent:
            assert (await stand_in.ask()).startswith("HTTP/1.1 500 ")
        assert [said.why for _, said in stand_in.told][1] == "no answer within 1 s"

    stand(scene)


def test_tcp_socket(stand: Any, pair: Pair) -> None:
    async def scene(stand_in: StandIn) -> None:
        assert (await stand_in.ask()).startswith("HTTP/1.1 500 ")
        async with app_in(pair, lambda head: b""):
            assert (await stand_in.ask()).startswith("HTTP/1.1 200 ")

    stand(scene, probe(Action.TCP_SOCKET))


def test_grpc_to_an_app_that_does_not_speak_it(stand: Any, pair: Pair) -> None:
    async def scene(stand_in: StandIn) -> None:
        async with app_in(pair, lambda head: said("200 OK")):
            assert (await stand_in.ask()).startswith("HTTP/1.1 500 ")

    stand(scene, probe(Action.GRPC))


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        ("GET /app-health/web/readyz HTTP/1.1\r\n\r\n", 404),  # not declared
        ("GET /healthz/ready HTTP/1.1\r\n\r\n", 503),
        ("GET /stats/prometheus HTTP/1.1\r\n\r\n", 503),
        ("POST /quitquitquit HTTP/1.1\r\n\r\n", 503),
        ("GET /app-lifecycle/web/prestopz HTTP/1.1\r\n\r\n", 503),  # declared, and never replayed
        (f"POST {LIVE} HTTP/1.1\r\n\r\n", 405),
        ("GET /.. HTTP/1.1\r\n\r\n", 404),
        (f"GET {LIVE} HTTP/1.1\r\nno header\r\n\r\n", 400),
        (f"GET {LIVE} HTTP/1.1\r\nX: {'x' * 20000}\r\n\r\n", 400),
    ],
)
def test_nothing_else_is_answered(stand: Any, pair: Pair, request_: str, status: int) -> None:
    async def scene(stand_in: StandIn) -> None:
        async with app_in(pair, lambda head: said("200 OK")) as heads:
            assert (await stand_in.ask(request_)).startswith(f"HTTP/1.1 {status} ")
        assert heads == []

    stand(scene, probe(), probe(name="/app-lifecycle/web/prestopz"))


def test_only_what_was_led_here_is_let_in(stand: Any, pair: Pair) -> None:
    async def scene(stand_in: StandIn) -> None:
        async with app_in(pair, lambda head: said("200 OK")):
            with pytest.raises(ConnectionError):
                await stand_in.ask(port=STAND_IN)
            assert (await stand_in.ask()).startswith("HTTP/1.1 200 ")
            stand_in.gate.undivert()
            with pytest.raises(ConnectionRefusedError):
                await stand_in.ask()

    stand(scene)


def test_so_many_at_once(stand: Any, pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "AT_ONCE", 2)

    async def scene(stand_in: StandIn) -> None:
        with inside(pair.pod):
            silent = socket.create_server((POD_V4, APP))
        with silent:
            results = await asyncio.gather(*(stand_in.ask() for _ in range(4)), return_exceptions=True)
        assert sum(isinstance(result, ConnectionError) for result in results) == 2
        assert sum(isinstance(result, str) and " 500 " in result for result in results) == 2

    stand(scene)


def test_the_kernel_ends_the_diversion_by_itself(stand: Any, pair: Pair) -> None:  # I1
    async def scene(stand_in: StandIn) -> None:
        async with app_in(pair, lambda head: said("200 OK")):
            stand_in.gate.divert(STATUS, 0.3)
            assert (await stand_in.ask()).startswith("HTTP/1.1 200 ")
            with pytest.raises(ConnectionRefusedError):
                while True:
                    await stand_in.ask()

    stand(scene)


def self_signed(directory: Path) -> ssl.SSLContext:
    key, name = ec.generate_private_key(ec.SECP256R1()), x509.Name([])
    now = datetime.datetime.now(datetime.UTC)
    made = x509.CertificateBuilder(name, name, key.public_key(), 7, now, now + datetime.timedelta(hours=1))
    chain, private = directory / "chain.pem", directory / "key.pem"
    chain.write_bytes(made.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))
    raw = serialization.PrivateFormat.PKCS8
    private.write_bytes(key.private_bytes(serialization.Encoding.PEM, raw, serialization.NoEncryption()))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(chain, private)
    return context
