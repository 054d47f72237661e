"""Identities from istiod in the agent's own name: issued to whom it trusts, for pods of its node, and to nobody else.

The service is a real gRPC server over TLS that really issues; it refuses in istiod's words."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from hotswitch.model import Mtls
from hotswitch.rescue.identity import Expected, Identity, IdentityRefused
from hotswitch.rescue.node_account import ASKED_FOR_S, NodeAccount, csr, request
from hotswitch.sandbox.ca import CertificateAuthority
from hotswitch.sandbox.ca_service import REQUEST, SERVER_NAME, CertificateService
from tests.rescue.authority import Pair
from tests.rescue.world import world

ACCOUNT, TOKEN = "hotswitch-agents/hotswitch-agent", "a-token"
WHO, OURS = "spiffe://cluster.local/ns/shop/sa/web", Expected("cluster.local", "shop", "web")


@dataclass
class Town:
    service: CertificateService
    account: NodeAccount
    directory: Path


@contextlib.asynccontextmanager
async def town(directory: Path) -> AsyncIterator[Town]:
    """istiod trusts the account, and the pod is on its node."""
    service = CertificateService(CertificateAuthority(), {TOKEN: ACCOUNT}, {ACCOUNT}, {WHO})
    roots, token = directory / "root-cert.pem", directory / "token"
    roots.write_bytes(service.ca.root_pem)
    token.write_text(f"{TOKEN}\n")
    async with service.serving() as address:
        yield Town(service, NodeAccount(address=address, roots=roots, token=token, server_name=SERVER_NAME), directory)


async def refusal(account: NodeAccount, expected: Expected = OURS) -> str:
    with pytest.raises(IdentityRefused) as refused:
        await account.issue(expected)
    return str(refused.value)


@pytest.mark.unit
def test_message_is_what_protobuf_itself_reads() -> None:
    pem = csr(ec.generate_private_key(ec.SECP256R1()), WHO)
    read = REQUEST.FromString(request(pem, WHO))
    assert (read.csr.encode(), read.validity_duration) == (pem, ASKED_FOR_S)
    assert {name: each.string_value for name, each in read.metadata.fields.items()} == {"ImpersonatedIdentity": WHO}


@pytest.mark.unit
def test_pods_identity_is_issued(tmp_path: Path) -> None:
    async def story() -> None:
        async with town(tmp_path) as t:
            before_unix_s = time.time()
            identity = await t.account.issue(OURS)
            assert (identity.spiffe_id, identity.roots_pem) == (WHO, t.service.ca.root_pem)
            assert len(x509.load_pem_x509_certificates(identity.chain_pem)) == 1, "the root is shown to nobody"
            assert t.service.issued == [WHO] and t.service.asked_for_s == [ASKED_FOR_S]
            half_unix_s = before_unix_s + ASKED_FOR_S / 2
            assert half_unix_s - 2 <= identity.renew_at_unix_s <= half_unix_s + 60
            assert (await t.account.issue(OURS)).key.reveal() != identity.key.reveal(), "a new key each time"

    asyncio.run(story())


@pytest.mark.unit
def test_account_is_not_trusted(tmp_path: Path) -> None:
    async def story() -> None:
        async with town(tmp_path) as t:
            t.service.trusted.clear()
            why = await refusal(t.account)
            assert f"does not let this agent have {WHO}" in why and "CA_TRUSTED_NODE_ACCOUNTS" in why
            assert "impersonation authentication failure" in why and t.service.issued == []

    asyncio.run(story())


@pytest.mark.unit
def test_pod_is_on_another_node(tmp_path: Path) -> None:
    async def story() -> None:
        async with town(tmp_path) as t:
            why = await refusal(t.account, Expected("cluster.local", "bank", "vault"))
            assert "a pod of that identity on its node" in why and t.service.issued == []

    asyncio.run(story())


@pytest.mark.unit
def test_token_is_anothers_and_then_renewed_in_place(tmp_path: Path) -> None:
    async def story() -> None:
        async with town(tmp_path) as t:
            t.account.token.write_text("stolen-elsewhere")
            why = await refusal(t.account)
            assert "request authenticate failure" in why and "stolen" not in why
            t.account.token.write_text(TOKEN)
            assert (await t.account.issue(OURS)).spiffe_id == WHO

    asyncio.run(story())


@pytest.mark.unit
def test_whoever_istiods_ca_does_not_vouch_for_gets_no_token(tmp_path: Path) -> None:
    async def story() -> None:
        async with town(tmp_path) as t:
            t.account.roots.write_bytes(CertificateAuthority().root_pem)
            assert "certificate verify failed" in await refusal(t.account)
            t.account.roots.write_bytes(t.service.ca.root_pem)
            assert "certificate verify failed" in await refusal(replace(t.account, server_name="other.svc"))
            assert t.service.asked_for_s == []

    asyncio.run(story())


@pytest.mark.unit
def test_istiod_gives_what_has_ended_or_nothing(tmp_path: Path) -> None:
    async def story() -> None:
        async with town(tmp_path) as t:
            t.service.lifetime_s = -30
            assert "ended 3" in await refusal(t.account)
            t.account.token.unlink()
            assert "No such file" in await refusal(t.account)
            assert "not known" in await refusal(t.account, Expected("cluster.local"))
        assert "istiod at 127.0.0.1:" in await refusal(t.account), "nobody listens any more"

    asyncio.run(story())


@pytest.mark.unit
def test_istiod_hangs(tmp_path: Path) -> None:
    async def story() -> None:
        async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.read()
            writer.close()

        async with town(tmp_path) as t:
            server = await asyncio.start_server(accept, "127.0.0.1", 0)
            address = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
            with pytest.raises(IdentityRefused, match=r"no answer within 0\.2 s"):
                await replace(t.account, address=address).issue(OURS, timeout_s=0.2)
            server.close()

    asyncio.run(story())


@pytest.mark.unit
def test_the_key_is_in_no_message_and_no_log(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:  # A11
    async def story() -> Identity:
        async with town(tmp_path) as t:
            return await t.account.issue(OURS)

    with caplog.at_level(logging.DEBUG):
        identity = asyncio.run(story())
    body = identity.key.reveal().decode().splitlines()[1]
    assert body not in caplog.text + repr(identity)
    assert not any(body.encode() in path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())


@pytest.mark.envoy
def test_rescue_serves_by_what_istiod_issued_and_by_its_renewal(tmp_path: Path) -> None:
    async def story() -> None:
        async with world(mtls=Mtls.STRICT) as w, town(tmp_path) as t:
            friend = t.service.ca.issue("spiffe://cluster.local/ns/shop/sa/cart")
            context = Pair(friend.chain_pem, friend.key_pem, friend.root_pem).client("istio")
            for _ in range(2):
                identity = await t.account.issue(OURS)
                await w.rescue.update_identity(w.pod.key, identity)
                _, writer = await w.connect(tls=context)
                shown = x509.load_der_x509_certificate(writer.get_extra_info("ssl_object").getpeercert(True))
                assert shown == x509.load_pem_x509_certificate(identity.chain_pem)
                assert (await w.ask(tls=context)).served
                assert not (await w.ask()).served and not (await w.ask(tls=w.client())).served, "another mesh's"

    asyncio.run(story())
