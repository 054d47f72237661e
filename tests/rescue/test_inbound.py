"""Inbound through a real rescue Envoy in a real namespace: who gets to the app, and what the app sees (S4.3, I2)."""

from __future__ import annotations

import asyncio
import ssl
import time

import pytest

from hotswitch.model import RESCUE_INBOUND, RESCUE_OUTBOUND, Mtls
from tests.rescue.authority import Authority, spiffe
from tests.rescue.world import (
    APP,
    CLIENT4,
    ISTIO_H1,
    ISTIO_H2,
    POD4,
    POD6,
    Answer,
    World,
    converse,
    eventually,
    listening,
    world,
)

pytestmark = pytest.mark.envoy


def test_meshed_client_is_served_as_by_the_sidecar() -> None:  # S4.3: mTLS with the pod's identity, app sees 127.0.0.6
    async def scenario() -> None:
        async with world(mtls=Mtls.STRICT) as w:
            assert await w.ask(tls=w.client()) == Answer("from 127.0.0.6 hello", "http/1.1")
            assert await w.ask(POD6, tls=w.client()) == Answer("from ::6 hello", "http/1.1")

    asyncio.run(scenario())


def test_server_shows_the_pods_own_identity() -> None:
    async def scenario() -> None:
        async with world(mtls=Mtls.STRICT) as w:
            _, writer = await w.connect(tls=w.client())
            shown = writer.get_extra_info("ssl_object").getpeercert()
            assert shown["subjectAltName"] == (("URI", spiffe()),)

    asyncio.run(scenario())


def test_plaintext_is_served_where_it_is_allowed() -> None:
    async def scenario() -> None:
        async with world(mtls=Mtls.PERMISSIVE) as w:
            assert (await w.ask()).text == "from 127.0.0.6 hello"
            assert (await w.ask(POD6)).text == "from ::6 hello"
            assert (await w.ask(tls=w.client())).served

    asyncio.run(scenario())


def test_plaintext_is_refused_under_strict() -> None:  # I2: no raw chain
    async def scenario() -> None:
        async with world(mtls=Mtls.STRICT) as w:
            assert not (await w.ask()).served
            assert not (await w.ask(POD6)).served

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("default", "port_mode", "default_plain", "port_plain"),
    [
        (Mtls.STRICT, Mtls.PERMISSIVE, False, True),
        (Mtls.PERMISSIVE, Mtls.STRICT, True, False),
        (Mtls.STRICT, Mtls.DISABLE, False, True),
        (Mtls.DISABLE, Mtls.STRICT, True, False),
    ],
)
def test_one_port_differs_from_the_others(
    default: Mtls, port_mode: Mtls, default_plain: bool, port_plain: bool
) -> None:  # I2: portLevelMtls
    async def scenario() -> None:
        async with world(mtls=default, mtls_by_port={9000: port_mode}) as w:
            await w.serve(_echo_peer, port=9000)
            assert (await w.ask()).served is default_plain
            assert (await w.ask(port=9000)).served is port_plain
            assert (await w.ask(tls=w.client())).served is (default is not Mtls.DISABLE)
            assert (await w.ask(port=9000, tls=w.client())).served is (port_mode is not Mtls.DISABLE)

    asyncio.run(scenario())


async def _echo_peer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    line = await reader.readline()
    if line.isascii() and line.endswith(b"\n"):  # the app would not understand a ClientHello either
        writer.write(b"from " + writer.get_extra_info("peername")[0].encode() + b" " + line)
    writer.close()


def test_client_without_certificate_is_refused() -> None:
    async def scenario() -> None:
        async with world(mtls=Mtls.STRICT) as w:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            context.check_hostname = False
            context.load_verify_locations(cadata=w.authority.roots.decode())
            context.set_alpn_protocols(ISTIO_H1)
            assert not (await w.ask(tls=context)).served

    asyncio.run(scenario())


def test_client_of_another_trust_domain_is_refused() -> None:
    async def scenario() -> None:
        async with world(mtls=Mtls.STRICT, trust_domains=("cluster.local", "old.local")) as w:
            alias = w.authority.issue(spiffe(domain="old.local")).client(*ISTIO_H1)
            assert (await w.ask(tls=alias)).served
            for domain in ("evil.local", "cluster.local.evil", "cluster"):
                stranger = w.authority.issue(spiffe(domain=domain)).client(*ISTIO_H1)
                assert not (await w.ask(tls=stranger)).served, domain

    asyncio.run(scenario())


def test_client_of_another_authority_is_refused() -> None:
    async def scenario() -> None:
        async with world(mtls=Mtls.STRICT) as w:
            forged = Authority("forger").issue(spiffe()).client(*ISTIO_H1, trusts=w.authority.roots)
            assert not (await w.ask(tls=forged)).served

    asyncio.run(scenario())


def test_expired_client_is_refused() -> None:
    async def scenario() -> None:
        async with world(mtls=Mtls.STRICT) as w:
            late = w.authority.issue(spiffe(), begins_s=-120, ends_s=-60).client(*ISTIO_H1)
            assert not (await w.ask(tls=late)).served

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("offered", "answered"),
    [
        (ISTIO_H1, "http/1.1"),
        (ISTIO_H2, "h2"),
        (("istio-peer-exchange", "istio"), None),  # TCP: chosen, it would put metadata into the app's stream
        (("istio-h2", "istio-http/1.1", "istio", "h2", "http/1.1"), "http/1.1"),
        (("h2",), "h2"),
        ((), None),
    ],
)
def test_client_is_answered_in_its_own_protocol(offered: tuple[str, ...], answered: str | None) -> None:
    async def scenario() -> None:
        async with world(mtls=Mtls.STRICT) as w:
            answer = await w.ask(tls=w.client(alpn=offered))
            assert answer == Answer("from 127.0.0.6 hello", answered)

    asyncio.run(scenario())


def test_apps_own_tls_passes_where_plaintext_is_allowed() -> None:  # tls_inspector: no Istio ALPN, no mTLS chain
    async def scenario() -> None:
        async with world(mtls=Mtls.PERMISSIVE) as w:
            own = Authority("app's own")
            pair = own.issue("https://app")
            server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            _load(server, pair.chain + pair.key)
            await w.serve(_echo_peer, port=8443, tls=server)
            client = w.authority.issue(spiffe()).client("http/1.1", trusts=own.roots)
            answer = await w.ask(port=8443, tls=client)
            assert answer.text == "from 127.0.0.6 hello"

    asyncio.run(scenario())


def _load(context: ssl.SSLContext, pem: bytes) -> None:
    from tempfile import NamedTemporaryFile

    with NamedTemporaryFile() as file:
        file.write(pem)
        file.flush()
        context.load_cert_chain(file.name)


@pytest.mark.parametrize(("mode", "at_least_s", "at_most_s"), [(Mtls.PERMISSIVE, 0.9, 3.0), (Mtls.DISABLE, 0.0, 0.5)])
def test_server_that_speaks_first(mode: Mtls, at_least_s: float, at_most_s: float) -> None:  # MySQL, SMTP
    async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"from the server\n")
        await _echo_peer(reader, writer)

    async def scenario() -> None:
        async with world(mtls_by_port={3306: mode}, mtls=Mtls.STRICT) as w:
            await w.serve(greet, port=3306)
            reader, writer = await w.connect(port=3306)
            started = time.monotonic()
            assert await asyncio.wait_for(reader.readline(), 5) == b"from the server\n"
            assert at_least_s <= time.monotonic() - started <= at_most_s
            assert (await converse(reader, writer)).served

    asyncio.run(scenario())


def test_own_doors_are_refused() -> None:  # a loop would take every descriptor of every pod
    async def scenario() -> None:
        async with world(mtls=Mtls.PERMISSIVE) as w:
            assert not (await w.ask(port=RESCUE_INBOUND)).served
            assert not (await w.ask("127.0.0.1", RESCUE_OUTBOUND, netns=w.pod_ns)).served
            with pytest.raises(ConnectionRefusedError):  # outbound is for loopback alone
                await w.connect(port=RESCUE_OUTBOUND)

    asyncio.run(scenario())


@pytest.mark.parametrize("port", [15020, 15021, 15090, 15008])
def test_never_opened_ports_are_refused(port: int) -> None:  # even if a gate led to them
    async def scenario() -> None:
        async with world(mtls=Mtls.PERMISSIVE) as w:
            await w.serve(_echo_peer, port=port)
            assert (await w.ask(port=port)).served  # not redirected: the gate leaves it alone
            await w.redirect_everything()
            assert not (await w.ask(port=port)).served

    asyncio.run(scenario())


def test_pod_with_one_family_only() -> None:
    async def scenario() -> None:
        async with world(addresses=(POD4,)) as w:
            assert (await w.ask()).served
            with pytest.raises(ConnectionRefusedError):
                await w.connect(POD6)
        async with world(addresses=(POD6,)) as w:
            assert (await w.ask(POD6)).served

    asyncio.run(scenario())


def test_dead_app_closes_the_connection() -> None:
    async def scenario() -> None:
        async with world() as w:
            assert await w.ask(port=9999) == Answer("")

    asyncio.run(scenario())


def test_many_connections_at_once() -> None:  # Envoy's default circuit breaker ends at 1,024
    async def scenario() -> None:
        async with world() as w:
            pairs = [await w.connect() for _ in range(1200)]
            answers = await asyncio.gather(*(converse(*pair) for pair in pairs))
            assert sum(answer.served for answer in answers) == 1200

    asyncio.run(scenario())


def test_removed_pod_listens_no_more_and_keeps_no_secret() -> None:
    async def scenario() -> None:
        async with world() as w:
            await w.rescue.remove(w.pod.key)
            await eventually(lambda: not listening(w.pod_ns) & {RESCUE_INBOUND, RESCUE_OUTBOUND}, "doors closed")
            assert w.rescue.refusal(w.pod.key) == "not added"
            assert not any(w.pod.key in repr(vars(thing)) for thing in (w.rescue, w.rescue._server))

    asyncio.run(scenario())


def test_source_address_is_kept_for_policies_and_hidden_from_the_app() -> None:
    async def scenario() -> None:
        async with world() as w:
            answer = await w.ask(source=CLIENT4)
            assert answer.peer == "127.0.0.6"

    asyncio.run(scenario())


def test_world_is_what_it_seems() -> None:
    """Without the redirect the app sees the client itself: what the others measure is the rescue."""

    async def scenario() -> None:
        async with world() as w:
            assert isinstance(w, World)
            w.open_gate(False)
            assert (await w.ask(port=APP)).peer == CLIENT4

    asyncio.run(scenario())
