"""A pod whose workload socket gives nothing is rescued by what pilot-agent wrote into files (S4.2c, S4.3, I2)."""

from __future__ import annotations

import asyncio
import socket
import ssl
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization

from hotswitch.kernel.netns import inside
from hotswitch.model import Mtls
from hotswitch.sandbox.ca import CertificateAuthority, Identity
from hotswitch.sandbox.clients import MeshedClient
from hotswitch.sandbox.pod import Pod
from hotswitch.sandbox.registry import Service
from hotswitch.sandbox.sandbox import Sandbox
from tests.agent.keeper import PATIENCE_S, Keeper, until
from tests.agent.test_life import free_port

pytestmark = pytest.mark.envoy


@dataclass(frozen=True)
class Town:
    pod: Pod
    friend: MeshedClient
    service: Service
    keeper: Keeper
    certs: Path

    async def metrics(self) -> str:
        def read() -> str:
            port = self.keeper.config["metrics"]["port"]
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=PATIENCE_S) as answer:
                return str(answer.read().decode())

        return await asyncio.to_thread(read)


def write(directory: Path, issued: Identity) -> None:
    """As pilot-agent does it in a cluster: each in one step, readable for all."""
    for name, content in (
        ("key.pem", issued.key_pem), ("cert-chain.pem", issued.chain_pem), ("root-cert.pem", issued.root_pem)
    ):  # fmt: skip
        fresh = directory / f".{name}"
        fresh.write_bytes(content)
        fresh.rename(directory / name)


def shown(pod: Pod, client: MeshedClient, ca: CertificateAuthority) -> bytes:
    """The certificate (DER) by which whoever answers at the pod's port shows itself to a meshed client."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.load_verify_locations(cadata=ca.root_pem.decode())
    certificates = client.directory / "certs"
    context.load_cert_chain(certificates / "cert-chain.pem", certificates / "key.pem")
    context.set_alpn_protocols(["istio"])
    with inside(client.netns):
        made = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    made.settimeout(PATIENCE_S)
    with made:
        made.connect((pod.ip, 8080))
        with context.wrap_socket(made) as secured:
            return secured.getpeercert(True) or b""


def der(issued: Identity) -> bytes:
    return x509.load_pem_x509_certificate(issued.chain_pem).public_bytes(serialization.Encoding.DER)


@pytest.fixture(scope="module")
def town(box: Sandbox, runner: asyncio.Runner) -> Iterator[Town]:
    async def build() -> Town:
        pod, friend = await box.pod("files-0", mtls=Mtls.STRICT), await box.meshed("friend")
        service = await box.service("files", [pod], port=8080, publish="all")
        await pod.ready()
        certs = box.estate.directory / "output-certs"
        certs.mkdir()
        keeper = Keeper(box, [pod])
        keeper.config["metrics"] = {"address": "127.0.0.1", "port": free_port()}
        entry = keeper.pod_config(pod)
        entry["policy"] |= {"mtls": "STRICT"}
        entry["identity"] |= {"socket": str(certs / "no-socket"), "output_certs": str(certs)}
        await keeper.begin()
        return Town(pod, friend, service, keeper, certs)

    made = runner.run(build())
    yield made
    runner.run(made.keeper.end())


def test_no_way_gives_an_identity(town: Town, runner: asyncio.Runner) -> None:  # I2: the next level, with its reason
    async def story() -> None:
        status = await town.keeper.until_status(town.pod, lambda status: "No such file" in status["rescue"], "refused")
        assert "sds: " in status["rescue"] and "output-certs: cert-chain.pem: " in status["rescue"]
        assert status["identity"] == ""
        assert set((await town.keeper.bypass(town.pod, "rescue"))["levels"].values()) == {"capture"}
        await town.keeper.restore(town.pod)

    runner.run(story())


def test_somebody_elses_files_are_refused(town: Town, box: Sandbox, runner: asyncio.Runner) -> None:
    async def story() -> None:
        write(town.certs, box.ca.issue("spiffe://cluster.local/ns/bank/sa/web"))
        await town.keeper.until_status(town.pod, lambda status: "ns is not 'default'" in status["rescue"], "refused")

    runner.run(story())


def test_files_serve_a_meshed_client_and_are_followed(town: Town, box: Sandbox, runner: asyncio.Runner) -> None:
    async def story() -> None:
        pod, keeper = town.pod, town.keeper
        first, second = (box.ca.issue(pod.spiffe_id, lifetime_s) for lifetime_s in (3600, 7200))
        write(town.certs, first)
        status = await keeper.until_rest(pod)
        assert status["identity"] == "output-certs"
        told = keeper.entries(pod, "identity")[-1]
        assert told.evidence == {"way": "output-certs", "spiffe_id": pod.spiffe_id}
        assert set((await keeper.bypass(pod, "rescue"))["levels"].values()) == {"rescue"}
        await town.friend.restart()
        answer = await town.friend.get(town.service, "/echo", timeout_s=PATIENCE_S)
        assert (answer.status, answer.via) == (200, ""), "not by the sidecar"
        assert await asyncio.to_thread(shown, pod, town.friend, box.ca) == der(first)

        async def exported() -> bool:
            return f'hotswitch_identity_way{{pod="default/{pod.name}",way="output-certs"}} 1.0' in await town.metrics()

        await until(exported, "the metric says by which way")
        write(town.certs, second)

        async def follows() -> bool:
            return await asyncio.to_thread(shown, pod, town.friend, box.ca) == der(second)

        await until(follows, "the rescue shows what was written anew")
        await keeper.restore(pod)

    runner.run(story())


def test_the_key_is_in_nothing_that_is_written(town: Town, box: Sandbox) -> None:  # A11
    body = (town.certs / "key.pem").read_bytes().splitlines()[1]
    for path in town.keeper.home.rglob("*"):
        if path.is_file():
            assert body not in path.read_bytes(), path
