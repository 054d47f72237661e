"""By which way a pod's identity comes: in order, each refusal told, and the next asked (S4.2c, I2)."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path

import pytest

from hotswitch.agent.agent import node_account
from hotswitch.agent.identities import Identities, Way
from hotswitch.agent.node.settings import from_environment
from hotswitch.config.agentfile import CA_ROOTS, CA_TOKEN, IdentitySource
from hotswitch.config.told import ConfigError
from hotswitch.rescue.identity import IdentityRefused
from hotswitch.rescue.node_account import NodeAccount
from hotswitch.sandbox.ca import CertificateAuthority, Identity
from hotswitch.sandbox.ca_service import SERVER_NAME, CertificateService
from hotswitch.sandbox.sds import IDENTITY as OWN
from hotswitch.sandbox.sds import ROOTS, SecretServer, encode_identity, encode_roots

pytestmark = pytest.mark.unit
WHO = "spiffe://cluster.local/ns/shop/sa/web"


class Pod:
    """A proxy's socket, which serves while `sds` is entered, and the directory that pilot-agent writes to."""

    def __init__(self, directory: Path) -> None:
        self.authority, self.files, self.socket = CertificateAuthority(), directory / "certs", directory / "socket"
        self.files.mkdir()
        self.source = IdentitySource(socket=self.socket, output_certs=self.files, spiffe_id=WHO)

    def write(self, lifetime_s: float = 3600.0, who: str = WHO) -> Identity:
        issued = self.authority.issue(who, lifetime_s)
        contents = {"key.pem": issued.key_pem, "cert-chain.pem": issued.chain_pem, "root-cert.pem": issued.root_pem}
        for name, content in contents.items():
            (self.files / name).write_bytes(content)
        return issued

    @contextlib.asynccontextmanager
    async def sds(self, lifetime_s: float = 3600.0):  # type: ignore[no-untyped-def]
        issued = self.authority.issue(WHO, lifetime_s)
        secrets = {OWN: encode_identity(issued.chain_pem, issued.key_pem), ROOTS: encode_roots(issued.root_pem)}
        server = await SecretServer(lambda: secrets).start(self.socket)
        try:
            yield issued
        finally:
            await server.stop(None)
            self.socket.unlink(missing_ok=True)


def test_the_socket_comes_first_and_then_the_files(tmp_path: Path) -> None:
    async def story() -> None:
        pod, ways = Pod(tmp_path), Identities(nullcontext)
        written = pod.write()
        async with pod.sds() as served:
            assert (await ways.fetch(pod.source)).chain_pem == served.chain_pem
            assert ways.way is Way.SDS
        assert (await ways.fetch(pod.source)).chain_pem == written.chain_pem
        assert ways.way is Way.OUTPUT_CERTS

    asyncio.run(story())


def test_istiod_is_asked_between_the_two_and_only_where_it_is_configured(tmp_path: Path) -> None:
    async def story() -> None:
        pod = Pod(tmp_path)
        written = pod.write()
        service = CertificateService(pod.authority, {"token": "agents/agent"}, {"agents/agent"}, {WHO})
        (tmp_path / "token").write_text("token")
        (tmp_path / "roots").write_bytes(pod.authority.root_pem)
        async with service.serving() as address:
            files = {"roots": tmp_path / "roots", "token": tmp_path / "token"}
            ways = Identities(nullcontext, NodeAccount(address=address, server_name=SERVER_NAME, **files))
            async with pod.sds() as served:
                assert (await ways.fetch(pod.source)).chain_pem == served.chain_pem
            assert service.issued == [], "while the proxy answers nobody is impersonated"
            assert (await ways.fetch(pod.source)).spiffe_id == WHO
            assert (ways.way, service.issued) == (Way.NODE_ACCOUNT, [WHO])
            service.trusted.clear()
            assert (await ways.fetch(pod.source)).chain_pem == written.chain_pem, "refused: the next way"
            assert ways.way is Way.OUTPUT_CERTS
            (pod.files / "key.pem").unlink()
            with pytest.raises(IdentityRefused, match=r"sds: .*; node-account: .*CA_TRUSTED_NODE.*; output-certs: key"):
                await ways.fetch(pod.source)

    asyncio.run(story())


def test_no_way_gives_one_and_each_says_why(tmp_path: Path) -> None:
    async def story() -> None:
        pod, ways = Pod(tmp_path), Identities(nullcontext)
        pod.write(who="spiffe://cluster.local/ns/bank/sa/web")
        with pytest.raises(IdentityRefused) as refused:
            await ways.fetch(pod.source)
        assert str(refused.value).startswith(f"sds: {pod.socket}: No such file or directory; output-certs: spiffe://")
        assert "ns is not 'shop'" in str(refused.value) and ways.way is None

    asyncio.run(story())


def test_the_containers_files_cannot_be_reached(tmp_path: Path) -> None:
    @contextlib.contextmanager
    def gone(path: Path) -> Iterator[Path]:
        raise FileNotFoundError(f"{path}: no process of the proxy's container is known")
        yield path

    async def story() -> None:
        pod = Pod(tmp_path)
        with pytest.raises(IdentityRefused, match=r"output-certs: .*no process of the proxy's container is known"):
            await Identities(gone).fetch(pod.source)

    asyncio.run(story())


def test_files_that_nobody_writes_any_more_do_not_replace_what_is_held(tmp_path: Path) -> None:
    async def story() -> None:
        pod, ways = Pod(tmp_path), Identities(nullcontext)
        pod.write(lifetime_s=600)
        async with pod.sds(lifetime_s=3600):
            held = await ways.fetch(pod.source)
        with pytest.raises(IdentityRefused, match="ends before the one that is held"):
            await ways.fetch(pod.source, held)
        assert ways.way is Way.SDS
        async with pod.sds(lifetime_s=60) as served:  # the proxy itself knows best
            assert (await ways.fetch(pod.source, held)).chain_pem == served.chain_pem

    asyncio.run(story())


@pytest.mark.parametrize("becomes", ["other certificates", "other roots"])
def test_files_are_read_anew_when_they_change(tmp_path: Path, becomes: str) -> None:
    async def story() -> None:
        pod, ways = Pod(tmp_path), Identities(nullcontext, look_every_s=0.01)
        pod.write()
        held = await ways.fetch(pod.source)
        resting = asyncio.create_task(ways.rest(pod.source, held, 600.0))
        await asyncio.sleep(0.05)
        assert not resting.done()
        changes: dict[str, Callable[[], object]] = {
            "other certificates": pod.write,
            "other roots": lambda: (pod.files / "root-cert.pem").write_bytes(CertificateAuthority().root_pem),
        }
        changes[becomes]()
        async with asyncio.timeout(30):
            await resting

    asyncio.run(story())


CA = {"HOTSWITCH_NODE": "node-a", "HOTSWITCH_CA": "istiod.istio-system.svc:15012"}


def test_istiod_is_asked_where_the_environment_names_it() -> None:
    assert node_account(from_environment({"HOTSWITCH_NODE": "node-a"}).agent_file()) is None
    account = node_account(from_environment(CA).agent_file())
    assert account == NodeAccount(address=CA["HOTSWITCH_CA"], roots=CA_ROOTS, token=CA_TOKEN)
    other = {"HOTSWITCH_CA_ROOTS": "/r", "HOTSWITCH_CA_TOKEN": "/t", "HOTSWITCH_CA_NAME": "istiod.svc"}
    account = node_account(from_environment({**CA, **other}).agent_file())
    assert account is not None
    assert (account.roots, account.token, account.server_name) == (Path("/r"), Path("/t"), "istiod.svc")


@pytest.mark.parametrize("address", ["istiod", "istiod:https", "https://istiod:15012", "fd00::1:15012"])
def test_an_address_that_is_none_is_named(address: str) -> None:
    with pytest.raises(ConfigError, match="address"):
        from_environment({**CA, "HOTSWITCH_CA": address}).agent_file()
