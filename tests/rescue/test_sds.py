"""Fetching identities from a workload socket: a stand-in for pilot-agent answers, or does not, or answers nonsense."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import grpc
import pytest
from envoy_data_plane.envoy.config.core.v3 import DataSource
from envoy_data_plane.envoy.extensions.transport_sockets.tls.v3 import (
    CertificateValidationContext,
    Secret,
    TlsCertificate,
)
from envoy_data_plane.envoy.service.discovery.v3 import DiscoveryRequest, DiscoveryResponse
from envoy_data_plane.google.protobuf import Any

from hotswitch.rescue.identity import Expected, IdentityRefused
from hotswitch.rescue.sds import _reachable, fetch_identity
from tests.rescue.authority import Authority, Pair, spiffe

pytestmark = pytest.mark.unit

Answer = Callable[[str], list[bytes]]


def as_pilot(pair: Pair) -> Answer:
    """Resource names and contents as pilot-agent has them."""

    def answer(name: str) -> list[bytes]:
        if name == "ROOTCA":
            roots = CertificateValidationContext(trusted_ca=DataSource(inline_bytes=pair.roots))
            return [bytes(Secret(name=name, validation_context=roots))]
        assert name == "default"
        own = TlsCertificate(
            certificate_chain=DataSource(inline_bytes=pair.chain), private_key=DataSource(inline_bytes=pair.key)
        )
        return [bytes(Secret(name=name, tls_certificate=own))]

    return answer


def never(name: str) -> list[bytes]:
    raise AssertionError(name)


class Pilot:
    """Serves StreamSecrets on a unix socket; counts streams, and who is still there."""

    def __init__(self, answer: Answer) -> None:
        self.answer, self.streams, self.open = answer, 0, 0
        self.requests: list[DiscoveryRequest] = []

    async def stream(
        self, requests: AsyncIterator[DiscoveryRequest], context: grpc.aio.ServicerContext
    ) -> AsyncIterator[bytes]:
        self.streams += 1
        self.open += 1
        try:
            async for request in requests:
                self.requests.append(request)
                if self.answer is never:
                    await asyncio.Event().wait()
                found = [Any(type_url=request.type_url, value=v) for v in self.answer(request.resource_names[0])]
                yield bytes(DiscoveryResponse(version_info="1", type_url=request.type_url, resources=found, nonce="n"))
        finally:
            self.open -= 1


@contextlib.asynccontextmanager
async def serving(socket: Path, answer: Answer) -> AsyncIterator[Pilot]:
    pilot, server = Pilot(answer), grpc.aio.server()
    method = grpc.stream_stream_rpc_method_handler(pilot.stream, request_deserializer=DiscoveryRequest.FromString)
    service = grpc.method_handlers_generic_handler(
        "envoy.service.secret.v3.SecretDiscoveryService", {"StreamSecrets": method}
    )
    server.add_generic_rpc_handlers((service,))
    server.add_insecure_port(f"unix:{socket}")
    await server.start()
    try:
        yield pilot
    finally:
        await server.stop(None)


def test_identity_is_fetched_and_checked(tmp_path: Path) -> None:
    pair = Authority().issue(spiffe("shop", "web"))

    async def scenario() -> None:
        async with serving(tmp_path / "socket", as_pilot(pair)) as pilot:
            identity = await fetch_identity(tmp_path / "socket", Expected("cluster.local", "shop", "web"))
            assert (identity.spiffe_id, identity.key.reveal()) == (spiffe("shop", "web"), pair.key)
            assert (identity.chain_pem, identity.roots_pem) == (pair.chain, pair.roots)
            assert all(request.node and request.node.id for request in pilot.requests)  # pilot-agent insists
            with pytest.raises(IdentityRefused, match="ns is not 'bank'"):
                await fetch_identity(tmp_path / "socket", Expected("cluster.local", "bank"))

    asyncio.run(scenario())


def test_no_stream_is_kept(tmp_path: Path) -> None:  # 250 pods must not cost 250 streams
    async def scenario() -> None:
        async with serving(tmp_path / "socket", as_pilot(Authority().issue(spiffe()))) as pilot:
            for _ in range(3):
                await fetch_identity(tmp_path / "socket")
            assert pilot.streams == 6
            async with asyncio.timeout(5):
                while pilot.open:
                    await asyncio.sleep(0.01)

    asyncio.run(scenario())


def test_two_pods_never_share_a_connection(tmp_path: Path) -> None:
    """Their directories get the same descriptor number, hence the same address: gRPC would reuse the connection."""

    async def scenario() -> None:
        authority = Authority()
        for name in ("a", "b"):
            (tmp_path / name).mkdir()
        a, b = (as_pilot(authority.issue(spiffe("shop", name))) for name in ("a", "b"))
        async with serving(tmp_path / "a" / "socket", a), serving(tmp_path / "b" / "socket", b):
            for name in ("a", "b") * 5:
                identity = await fetch_identity(tmp_path / name / "socket")
                assert identity.spiffe_id == spiffe("shop", name)

    asyncio.run(scenario())


def test_path_longer_than_a_socket_address(tmp_path: Path) -> None:  # kubelet's volumes: 113 bytes
    deep = tmp_path.joinpath("kubernetes.io~empty-dir" * 4, "workload-socket" * 4)
    deep.mkdir(parents=True)

    async def scenario() -> None:
        (tmp_path / "short").symlink_to(deep)
        async with serving(tmp_path / "short" / "socket", as_pilot(Authority().issue(spiffe()))):
            assert len(str(deep / "socket")) > 107
            assert (await fetch_identity(deep / "socket")).spiffe_id == spiffe()

    asyncio.run(scenario())


def nonsense(name: str) -> list[bytes]:
    return [b"\x0a\x07default\x12\x03\x0a\x7f!"]


def files(name: str) -> list[bytes]:
    where = DataSource(filename="/etc/certs/key.pem")
    if name == "ROOTCA":
        return [bytes(Secret(name=name, validation_context=CertificateValidationContext(trusted_ca=where)))]
    return [bytes(Secret(name=name, tls_certificate=TlsCertificate(certificate_chain=where, private_key=where)))]


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (lambda name: [], "not in the answer"),
        (lambda name: [bytes(Secret(name="other"))], "not in the answer"),
        (lambda name: [bytes(Secret(name=name))], "other kinds of secret"),
        (nonsense, "cannot be decoded"),
        (files, "certificate chain: not in the answer"),
    ],
)
def test_other_answers_are_refused(tmp_path: Path, answer: Answer, why: str) -> None:
    async def scenario() -> None:
        async with serving(tmp_path / "socket", answer):
            with pytest.raises(IdentityRefused, match=why):
                await fetch_identity(tmp_path / "socket")

    asyncio.run(scenario())


def test_pilot_that_fails_is_quoted(tmp_path: Path) -> None:
    def fail(name: str) -> list[bytes]:
        raise RuntimeError("failed to generate secret")

    async def scenario() -> None:
        async with serving(tmp_path / "socket", fail):
            with pytest.raises(IdentityRefused, match="failed to generate secret"):
                await fetch_identity(tmp_path / "socket")

    asyncio.run(scenario())


def test_pilot_that_hangs_is_given_up(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with serving(tmp_path / "socket", never):
            with pytest.raises(IdentityRefused, match=r"no answer within 0\.2 s"):
                await fetch_identity(tmp_path / "socket", timeout_s=0.2)

    asyncio.run(scenario())


def test_nobody_is_there(tmp_path: Path) -> None:  # the proxy is dead, and pilot-agent with it
    async def scenario() -> None:
        with pytest.raises(IdentityRefused, match="No such file"):
            await fetch_identity(tmp_path / "socket")
        with pytest.raises(IdentityRefused, match="No such file"):
            await fetch_identity(tmp_path / "absent" / "socket")
        (tmp_path / "file").touch()
        with pytest.raises(IdentityRefused, match="not a socket"):
            await fetch_identity(tmp_path / "file")
        (tmp_path / "link").symlink_to("/run/some.sock")
        with pytest.raises(IdentityRefused, match="not a socket"):
            await fetch_identity(tmp_path / "link")

    asyncio.run(scenario())


def test_socket_nobody_listens_on(tmp_path: Path) -> None:
    async def scenario() -> None:
        left = socket.socket(socket.AF_UNIX)
        left.bind(str(tmp_path / "socket"))
        left.close()
        with pytest.raises(IdentityRefused, match=r"Connection refused"):
            await fetch_identity(tmp_path / "socket", timeout_s=2)

    asyncio.run(scenario())


def test_the_socket_becomes_a_link_after_it_was_looked_at(tmp_path: Path) -> None:  # a confused deputy
    theirs, ours = socket.socket(socket.AF_UNIX), socket.socket(socket.AF_UNIX)
    with theirs, ours, socket.socket(socket.AF_UNIX) as asks:
        for each, name in ((theirs, "socket"), (ours, "ours")):
            each.bind(str(tmp_path / name))
            each.listen()
            each.setblocking(False)
        with _reachable(tmp_path / "socket") as target:
            (tmp_path / "socket").unlink()
            (tmp_path / "socket").symlink_to(tmp_path / "ours")
            asks.connect(target)
        theirs.accept()[0].close()
        with pytest.raises(BlockingIOError):
            ours.accept()
