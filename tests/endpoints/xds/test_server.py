"""The server with clients that behave badly, with many, with certificates, and before it knows everything."""

from __future__ import annotations

import asyncio
import contextlib
import resource
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest

from hotswitch.backends import Backend, ServiceMode
from hotswitch.endpoints.xds.callers import caller_of
from hotswitch.endpoints.xds.kinds import Kind
from hotswitch.endpoints.xds.publisher import EdsPublisher
from hotswitch.endpoints.xds.room import Room
from hotswitch.endpoints.xds.server import Identity, XdsServer
from hotswitch.endpoints.xds.serving import XdsServing, XdsSettings
from hotswitch.protowire import every, first, message, string, text
from hotswitch.sandbox.ca import CertificateAuthority
from hotswitch.sandbox.eds_service import HTTP_NAME, SERVICE, backend, published, record
from hotswitch.sandbox.kubeapi.tls import serve_tls

pytestmark = pytest.mark.k8s

PATIENCE_S = 120.0
ADS = "/envoy.service.discovery.v3.AggregatedDiscoveryService/StreamAggregatedResources"
DELTA = "/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources"
NODE = text(1, "client") + message(3, message(1, text(1, "node") + message(2, text(3, "n1"))))


def ask(*names: str, nonce: str = "", kind: str = Kind.ENDPOINTS, node: bytes = NODE, error: str = "") -> bytes:
    refused = message(6, text(2, error)) if error else b""
    return message(2, node) + b"".join(text(3, name) for name in names) + text(4, kind) + text(5, nonce) + refused


def ask_delta(*names: str, held: dict[str, str] | None = None) -> bytes:
    kept = b"".join(message(5, text(1, name) + text(2, version)) for name, version in (held or {}).items())
    return message(1, NODE) + text(2, Kind.ENDPOINTS) + b"".join(text(3, name) for name in names) + kept


def addresses(answer: bytes) -> list[str]:
    """Of the endpoints of an answer of the whole state."""
    found = []
    for packed in every(answer, 2):
        for group in every(first(packed, 2), 2):
            for each in every(group, 2):
                found.append(string(first(first(first(first(each, 1), 1), 1), 2)))
    return found


def nonce_of(answer: bytes) -> str:
    return string(first(answer, 5))


class Served:
    def __init__(self, identity: Identity | None = None, room: Room | None = None) -> None:
        self.publisher = EdsPublisher(lambda kinds, names: self.server.changed(kinds, names))
        self.server = XdsServer(self.publisher, caller_of, identity=identity, room=room)

    def publish(self, *numbers: int) -> None:
        self.tell([backend(f"db-{number}", f"10.0.{number >> 8}.{number & 255}") for number in numbers])

    def tell(self, backends: list[Backend]) -> None:
        self.publisher.publish(published(record(ServiceMode.ALL), backends))


@contextlib.asynccontextmanager
async def served(
    identity: Identity | None = None, *, is_open: bool = True, room: Room | None = None
) -> AsyncIterator[Served]:
    made = Served(identity, room)
    await made.server.start()
    if is_open:
        made.server.open()
    try:
        yield made
    finally:
        await made.server.stop()


@contextlib.asynccontextmanager
async def stream(
    port: int, method: str = ADS, credentials: Any = None, options: tuple[tuple[str, int], ...] = ()
) -> AsyncIterator[Any]:
    target = f"127.0.0.1:{port}"
    own = (("grpc.use_local_subchannel_pool", 1), ("grpc.ssl_target_name_override", "localhost"), *options)
    made = grpc.aio.secure_channel(target, credentials, own) if credentials else grpc.aio.insecure_channel(target, own)
    async with made as channel:
        yield channel.stream_stream(method)()


def run(story: Callable[[], Awaitable[None]]) -> None:
    async def timed() -> None:
        async with asyncio.timeout(PATIENCE_S):
            await story()

    asyncio.run(timed())


async def settled(condition: Callable[[], object]) -> None:
    while not condition():
        await asyncio.sleep(0.01)


def test_message_that_is_none_ends_the_stream_and_no_other() -> None:
    async def story() -> None:
        async with served() as made, stream(made.server.port) as bad, stream(made.server.port) as good:
            made.publish(1)
            await good.write(ask(HTTP_NAME))
            await bad.write(b"\xff\xff\xff")
            assert await bad.code() is grpc.StatusCode.INVALID_ARGUMENT
            assert addresses(await good.read()) == ["10.0.0.1"]
            assert made.server.figures.malformed == 1

    run(story)


def test_refusal_is_counted_and_the_next_change_is_sent() -> None:
    async def story() -> None:
        async with served() as made, stream(made.server.port) as client:
            made.publish(1)
            await client.write(ask(HTTP_NAME))
            answer = await client.read()
            await client.write(ask(HTTP_NAME, nonce=nonce_of(answer), error="no good"))
            await settled(lambda: made.server.figures.nacks[Kind.ENDPOINTS] == 1)
            pushed = made.server.figures.pushes[Kind.ENDPOINTS]
            made.publish(1)
            made.publish(2)
            assert addresses(await client.read()) == ["10.0.0.2"]
            assert made.server.figures.pushes[Kind.ENDPOINTS] == pushed + 1

    run(story)


def test_client_that_reads_nothing_costs_no_queue() -> None:
    """300 changes of a thousand endpoints, 25 kB each, for two clients: 15 MB if they were kept."""

    async def story() -> None:
        async with served() as made, stream(made.server.port) as slow, stream(made.server.port) as quick:
            await slow.write(ask(HTTP_NAME))
            await quick.write(ask(HTTP_NAME))
            await settled(lambda: made.server.figures.streams == 2)
            crowd = [backend(f"db-{number}", f"10.0.{number >> 8}.{number & 255}") for number in range(1000)]
            before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            for number in range(300):
                made.tell(crowd[: 1000 - number % 2])
                await asyncio.sleep(0)
            newest = made.server.figures.pushes[Kind.ENDPOINTS]
            assert newest <= 12  # both are not answered: a window each
            assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 8_000  # KB
            made.publish(7)
            found: list[str] = []
            while found != ["10.0.0.7"]:
                answer = await quick.read()
                found = addresses(answer)
                await quick.write(ask(HTTP_NAME, nonce=nonce_of(answer)))

    run(story)


def test_nothing_is_said_before_everything_is_known() -> None:
    async def story() -> None:
        async with served(is_open=False) as made, stream(made.server.port) as client:
            await client.write(ask(HTTP_NAME))
            await settled(lambda: made.server.figures.streams == 1)
            reading = asyncio.ensure_future(client.read())
            made.publish(1)
            made.publish(1, 2)
            await asyncio.sleep(0.2)
            assert not reading.done()
            made.server.open()
            assert addresses(await reading) == ["10.0.0.1", "10.0.0.2"]

    run(story)


def test_three_hundred_clients_hear_of_one_change() -> None:
    async def story() -> None:
        async with served() as made, contextlib.AsyncExitStack() as stack:
            made.publish(1)
            clients = [await stack.enter_async_context(stream(made.server.port)) for _ in range(300)]
            for client in clients:
                await client.write(ask(HTTP_NAME))
            for client in clients:
                answer = await client.read()
                assert addresses(answer) == ["10.0.0.1"]
                await client.write(ask(HTTP_NAME, nonce=nonce_of(answer)))
            made.publish(2)
            for client in clients:
                assert addresses(await client.read()) == ["10.0.0.2"]

    run(story)


def test_clients_that_leave_are_forgotten() -> None:
    async def story() -> None:
        async with served() as made:
            made.publish(1)
            for _ in range(20):
                async with stream(made.server.port) as client:
                    await client.write(ask(HTTP_NAME))
                    await client.read()
            await settled(lambda: made.server.figures.streams == 0 and not made.server.streams)

    run(story)


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Folders with ca.crt, server.crt, server.key; and of a client of that CA, and of a stranger."""
    folders = {name: tmp_path_factory.mktemp(name) for name in ("server", "client", "stranger")}
    serve_tls(folders["server"], "127.0.0.1")
    for name in ("client", "stranger"):
        CertificateAuthority().issue(f"spiffe://cluster.local/ns/x/sa/{name}").write(folders[name], 0, 0)
    return folders


def channel_credentials(certificates: dict[str, Path], who: str | None) -> Any:
    own = certificates[who] if who else None
    pair = ((own / "key.pem").read_bytes(), (own / "cert-chain.pem").read_bytes()) if own else (None, None)
    return grpc.ssl_channel_credentials((certificates["server"] / "ca.crt").read_bytes(), *pair)


def identity(certificates: dict[str, Path], roots: Path | None) -> Identity:
    folder = certificates["server"]
    return Identity(folder / "server.crt", folder / "server.key", roots)


@pytest.mark.parametrize(("who", "welcome"), [("client", True), ("stranger", False), (None, False)])
def test_only_clients_with_a_certificate_of_ours_may_ask(
    certificates: dict[str, Path], who: str | None, welcome: bool
) -> None:
    async def story() -> None:
        async with served(identity(certificates, certificates["client"] / "root-cert.pem")) as made:
            made.publish(1)
            credentials = channel_credentials(certificates, who)
            async with stream(made.server.port, credentials=credentials) as client:
                with contextlib.suppress(grpc.aio.AioRpcError, asyncio.InvalidStateError):
                    await client.write(ask(HTTP_NAME))
                try:
                    answer = await client.read()
                except grpc.aio.AioRpcError as failure:
                    assert not welcome and failure.code() is grpc.StatusCode.UNAVAILABLE
                else:
                    assert welcome and addresses(answer) == ["10.0.0.1"]

    run(story)


def test_certificate_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    async def story() -> None:
        with pytest.raises(OSError, match=r"absent\.pem"):
            await Served(Identity(tmp_path / "absent.pem", tmp_path / "absent.pem")).server.start()

    run(story)


def test_address_that_is_taken_is_named() -> None:
    async def story() -> None:
        async with served() as made:
            second = XdsServer(made.publisher, caller_of, address=f"127.0.0.1:{made.server.port}")
            with pytest.raises(OSError, match=str(made.server.port)):
                await second.start()

    run(story)


def test_new_leader_takes_nothing_away_and_a_deposed_one_is_silent() -> None:
    """I1: what a client holds of a Service that exists stays until the leader has decided on it."""

    async def story() -> None:
        serving = XdsServing(XdsSettings(address="127.0.0.1:0"))
        serving.lead([record(ServiceMode.ALL)])
        assert serving.server is not None
        await settled(lambda: serving.server is not None and serving.server.port)
        async with stream(serving.server.port, DELTA) as client:
            await client.write(ask_delta(HTTP_NAME, "no.such:1", held={HTTP_NAME: "old", "no.such:1": "old"}))
            first_answer = await client.read()
            names = [string(first(each, 3)) for each in every(first_answer, 2)]
            assert names == ["no.such:1"]
            serving.publish(published(record(ServiceMode.ALL), [backend("db-0", "10.0.0.1")]))
            names = [string(first(each, 3)) for each in every(await client.read(), 2)]
            assert names == [HTTP_NAME]
            serving.follow()
            assert await client.code() is grpc.StatusCode.UNAVAILABLE
        await serving.stop()

    run(story)


def test_new_leader_takes_nothing_away_of_a_service_whose_annotations_cannot_be_read() -> None:
    """I1: its predecessor could read them once, and told of it."""

    async def story() -> None:
        serving = XdsServing(XdsSettings(address="127.0.0.1:0"), lambda service: service == SERVICE)
        serving.lead([])
        await settled(lambda: serving.server is not None and serving.server.port)
        assert serving.server is not None
        async with stream(serving.server.port, DELTA) as client:
            await client.write(ask_delta(HTTP_NAME, "no.such:1", held={HTTP_NAME: "old", "no.such:1": "old"}))
            names = [string(first(each, 3)) for each in every(await client.read(), 2)]
            assert names == ["no.such:1"]
        await serving.stop()

    run(story)


def test_service_that_is_withdrawn_has_nobody() -> None:
    async def story() -> None:
        async with served() as made, stream(made.server.port) as client:
            made.publish(1)
            await client.write(ask(HTTP_NAME))
            answer = await client.read()
            await client.write(ask(HTTP_NAME, nonce=nonce_of(answer)))
            made.publisher.withdraw(SERVICE)
            assert addresses(await client.read()) == []

    run(story)


def test_the_same_again_moves_no_client() -> None:
    """An election tells each second what holds."""
    changes: list[object] = []
    made = EdsPublisher(lambda kinds, names: changes.append(names))
    for address in ("10.0.0.1", "10.0.0.1", "10.0.0.2", "10.0.0.2"):
        made.publish(published(record(ServiceMode.ALL), [backend("db-0", address)]))
    assert len(changes) == 2


def test_annotation_that_cannot_be_used_leaves_the_usual_order(caplog: pytest.LogCaptureFixture) -> None:
    made = EdsPublisher(lambda kinds, names: None)
    made.publish(published(record(order="nearby"), [backend("db-0", "10.0.0.1")]))
    assert made.services[SERVICE].problem.startswith("endpoints.hotswitch.io/order")
    assert made.resource(Kind.ENDPOINTS, HTTP_NAME, caller_of_nobody()) is not None
    assert "annotations cannot be used" in caplog.text


def caller_of_nobody() -> Any:
    from hotswitch.endpoints.xds.request import Node

    return caller_of(Node())
