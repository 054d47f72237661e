"""Outbound through the rescue: plaintext as it is, and mTLS with the pod's identity where the mesh is (S4.3)."""

from __future__ import annotations

import asyncio
import ssl
from tempfile import NamedTemporaryFile

import pytest

from hotswitch.model import Mtls
from hotswitch.rescue.pod import MeshDestination
from tests.rescue.authority import Authority, Pair, spiffe
from tests.rescue.world import CLIENT4, CLIENT6, OTHER4, POD4, Answer, World, echo, world

pytestmark = pytest.mark.envoy


def test_plaintext_goes_out_as_it_is() -> None:
    async def scenario() -> None:
        async with world() as w:
            await w.serve(echo, CLIENT4, 7000, netns=w.client_ns)
            await w.serve(echo, CLIENT6, 7000, netns=w.client_ns)
            assert (await w.ask(CLIENT4, 7000, netns=w.pod_ns)).text == f"from {POD4} hello"
            assert (await w.ask(CLIENT6, 7000, netns=w.pod_ns)).served

    asyncio.run(scenario())


def test_nobody_at_the_other_end() -> None:
    async def scenario() -> None:
        async with world() as w:
            assert await w.ask(CLIENT4, 7999, netns=w.pod_ns) == Answer("")

    asyncio.run(scenario())


def server_tls(pair: Pair) -> ssl.SSLContext:
    """A sidecar at the other end: wants Istio's ALPN and a client certificate of the mesh."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(cadata=pair.roots.decode())
    context.set_alpn_protocols(["istio"])
    with NamedTemporaryFile() as file:
        file.write(pair.chain + pair.key)
        file.flush()
        context.load_cert_chain(file.name)
    return context


async def tell_peer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    secured = writer.get_extra_info("ssl_object")
    await reader.readline()
    who = dict(secured.getpeercert()["subjectAltName"])["URI"] if secured else "nobody"
    alpn = secured.selected_alpn_protocol() if secured else None
    writer.write(f"{who} {alpn}\n".encode())
    writer.close()


async def mesh(w: World, pair: Pair, address: str = CLIENT4, port: int = 7001) -> None:
    await w.serve(tell_peer, address, port, netns=w.client_ns, tls=server_tls(pair))


def test_mesh_destination_sees_the_pods_identity() -> None:
    async def scenario() -> None:
        to = (MeshDestination(f"{CLIENT4}/32"), MeshDestination("fd97::/64", 7001))
        async with world(outbound_mtls=to) as w:
            peer = w.authority.issue(spiffe("shop", "peer"))
            await mesh(w, peer)
            await mesh(w, peer, CLIENT6)
            await w.serve(tell_peer, OTHER4, 7001, netns=w.client_ns)
            for address in (CLIENT4, CLIENT6):
                assert (await w.ask(address, 7001, netns=w.pod_ns)).text == f"{spiffe()} istio"
            assert (await w.ask(OTHER4, 7001, netns=w.pod_ns)).text == "nobody None"

    asyncio.run(scenario())


def test_network_for_every_port_holds_beside_one_for_a_port() -> None:
    """Envoy does not turn back from a port's chain: a plaintext connection to the mesh would be the price."""

    async def scenario() -> None:
        to = (MeshDestination(f"{CLIENT4}/32"), MeshDestination(f"{OTHER4}/32", 7001))
        async with world(outbound_mtls=to) as w:
            peer = w.authority.issue(spiffe("shop", "peer"))
            for address, port in ((CLIENT4, 7001), (CLIENT4, 7002), (OTHER4, 7001), (CLIENT4, 15106)):
                await mesh(w, peer, address, port)
                assert (await w.ask(address, port, netns=w.pod_ns)).text == f"{spiffe()} istio", (address, port)

    asyncio.run(scenario())


@pytest.mark.parametrize("domain", ["evil.local", "cluster.local.evil"])
def test_mesh_destination_of_another_trust_domain_is_refused(domain: str) -> None:
    async def scenario() -> None:
        async with world(outbound_mtls=(MeshDestination("10.97.0.0/24"),)) as w:
            await mesh(w, w.authority.issue(spiffe(domain=domain)))
            assert await w.ask(CLIENT4, 7001, netns=w.pod_ns) == Answer("")

    asyncio.run(scenario())


def test_mesh_destination_of_another_authority_is_refused() -> None:
    async def scenario() -> None:
        async with world(outbound_mtls=(MeshDestination("10.97.0.0/24"),)) as w:
            forged = Authority("forger").issue(spiffe())
            await mesh(w, Pair(forged.chain, forged.key, w.authority.roots))
            assert await w.ask(CLIENT4, 7001, netns=w.pod_ns) == Answer("")

    asyncio.run(scenario())


def test_outbound_mtls_needs_an_identity_although_inbound_does_not() -> None:
    async def scenario() -> None:
        async with world(mtls=Mtls.DISABLE, outbound_mtls=(MeshDestination("10.97.0.0/24"),)) as w:
            await mesh(w, w.authority.issue(spiffe("shop", "peer")))
            assert (await w.ask(CLIENT4, 7001, netns=w.pod_ns)).text == f"{spiffe()} istio"
            assert (await w.ask()).served

    asyncio.run(scenario())
