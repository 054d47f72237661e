"""A pod is captured both ways, on both families, by both backends; the mesh's promises hold as Istio makes them."""

from __future__ import annotations

import asyncio
import socket
from dataclasses import dataclass
from typing import Any

import pytest

from hotswitch.config.agentfile import parse
from hotswitch.kernel.cgroup import Container
from hotswitch.kernel.netns import inside
from hotswitch.model import Mtls
from hotswitch.sandbox.ask import Answer
from hotswitch.sandbox.clients import Client, MeshedClient
from hotswitch.sandbox.pod import Pod
from hotswitch.sandbox.registry import Service
from hotswitch.sandbox.sandbox import Sandbox

pytestmark = pytest.mark.envoy

PODS: dict[str, dict[str, Any]] = {
    "perm-ipt": {"mtls": Mtls.PERMISSIVE, "backend": "iptables-nft", "tcp": True, "grpc": True},
    "perm-nft": {"mtls": Mtls.PERMISSIVE, "backend": "nftables"},
    "strict-ipt": {"mtls": Mtls.STRICT, "backend": "iptables-nft"},
    "strict-nft": {"mtls": Mtls.STRICT, "backend": "nftables", "tcp": True, "grpc": True},
}
BOTH_BACKENDS = pytest.mark.parametrize("backend", ["ipt", "nft"])
BOTH_FAMILIES = pytest.mark.parametrize("family", ["v4", "v6"])


@dataclass(frozen=True)
class Town:
    """`outside` has no sidecar; `services` are over one pod each, name-family."""

    pods: dict[str, Pod]
    outside: Pod
    plain: Client
    meshed: MeshedClient
    services: dict[str, Service]


@pytest.fixture(scope="module")
def town(box: Sandbox, runner: asyncio.Runner) -> Town:
    return runner.run(_build(box))


async def _build(box: Sandbox) -> Town:
    pods = {name: await box.pod(name, **spec) for name, spec in PODS.items()}
    outside = await box.pod("outside", sidecar=False, families=("v4", "v6"))
    services = {
        f"{name}-{family}": await box.service(f"{name}-{family}", [pod], family=family, publish="all")
        for name, pod in pods.items()
        for family in ("v4", "v6")
    }
    for name, port, protocol in (("strict-nft", 8082, "h2"), ("strict-nft", 8081, "tcp")):
        service = f"{name}-{protocol}"
        services[service] = await box.service(service, [pods[name]], port=port, protocol=protocol, publish="all")
    plain, meshed = await box.client("plain"), await box.meshed("meshed")
    await asyncio.gather(*(pod.ready() for pod in (*pods.values(), outside)))
    return Town(pods, outside, plain, meshed, services)


def _address(pod: Pod, family: str) -> str:
    return pod.place.addresses((family,))[0]


def _peer(answer: Answer) -> str:
    peer: str = answer.json()["peer"]
    return peer.rpartition(":")[0]


@BOTH_BACKENDS
@BOTH_FAMILIES
def test_plaintext_passes_a_permissive_sidecar(town: Town, runner: asyncio.Runner, backend: str, family: str) -> None:
    pod = town.pods[f"perm-{backend}"]
    answer = runner.run(town.plain.ask(_address(pod, family), 8080))
    assert (answer.status, answer.via, answer.json()["pod"]) == (200, "sidecar", pod.name)
    assert _peer(answer) == {"v4": "127.0.0.6", "v6": "::6"}[family], "as Istio's inbound clusters"


@BOTH_BACKENDS
@BOTH_FAMILIES
def test_plaintext_is_refused_by_a_strict_sidecar(
    town: Town, runner: asyncio.Runner, backend: str, family: str
) -> None:
    with pytest.raises(ConnectionError):
        runner.run(town.plain.ask(_address(town.pods[f"strict-{backend}"], family), 8080))


@BOTH_BACKENDS
@BOTH_FAMILIES
@pytest.mark.parametrize("mode", ["perm", "strict"])
def test_meshed_client_speaks_mtls(town: Town, runner: asyncio.Runner, mode: str, backend: str, family: str) -> None:
    service = town.services[f"{mode}-{backend}-{family}"]
    answer = runner.run(town.meshed.get(service, "/echo"))
    assert (answer.status, answer.via) == (200, "sidecar")
    assert f"URI={town.meshed.spiffe_id}" in answer.json()["headers"]["x-forwarded-client-cert"]


@BOTH_BACKENDS
@BOTH_FAMILIES
def test_outbound_passes_the_sidecar(town: Town, runner: asyncio.Runner, backend: str, family: str) -> None:
    pod, outside = town.pods[f"strict-{backend}"], _address(town.outside, family)
    answer = runner.run(pod.ask(outside, 8080))
    assert (answer.status, answer.via, answer.json()["pod"]) == (200, "sidecar-outbound", "outside")
    assert _peer(answer) == _address(pod, family)
    proxy = runner.run(pod.ask(outside, 8080, uid=1337))
    assert (proxy.status, proxy.via) == (200, ""), "the proxy's own traffic is let out"


@BOTH_BACKENDS
def test_only_the_proxy_reaches_its_own_pod_through_15006(town: Town, runner: asyncio.Runner, backend: str) -> None:
    """What the path comparison relies on (facts of the design review, 3)."""
    pod = town.pods[f"perm-{backend}"]
    assert runner.run(pod.ask(pod.ip, 8080, uid=1337)).via == "sidecar"
    assert runner.run(pod.ask(pod.ip, 8080, uid=1000)).via == ""


def test_forged_client_identity_is_removed(town: Town, runner: asyncio.Runner) -> None:
    forged = {"x-forwarded-client-cert": "URI=spiffe://cluster.local/ns/default/sa/admin"}
    answer = runner.run(town.plain.ask(town.pods["perm-ipt"].ip, 8080, "/echo", headers=forged))
    assert answer.via == "sidecar"
    assert "x-forwarded-client-cert" not in answer.json()["headers"]


def test_app_calls_out_through_its_sidecar(town: Town, runner: asyncio.Runner) -> None:
    path = f"/call?host={town.outside.ip}&port=8080"
    told = runner.run(town.plain.ask(town.pods["perm-ipt"].ip, 8080, path)).json()
    assert (told["status"], told["via"]) == (200, "sidecar-outbound")


def test_grpc_passes_plain_and_meshed(town: Town, runner: asyncio.Runner) -> None:
    plain = runner.run(town.plain.grpc(town.pods["perm-ipt"].ip, 8082, 3))
    assert [answer.split()[0] for answer in plain] == ["perm-ipt"] * 3
    assert all("127.0.0.6" in answer for answer in plain), "through 15006"
    meshed = runner.run(town.meshed.grpc("127.0.0.1", town.services["strict-nft-h2"].client_port, 3))
    assert [answer.split()[0] for answer in meshed] == ["strict-nft"] * 3


async def _greeting(netns: str, address: str, port: int) -> bytes:
    loop = asyncio.get_running_loop()
    with inside(netns):
        sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    with sock:
        async with asyncio.timeout(5):
            await loop.sock_connect(sock, (address, port))
            return await loop.sock_recv(sock, 100)


def test_server_first_protocol_passes_plain_and_meshed(town: Town, runner: asyncio.Runner) -> None:
    assert runner.run(_greeting(town.plain.netns, town.pods["perm-ipt"].ip, 8081)) == b"220 perm-ipt\r\n"
    port = town.services["strict-nft-tcp"].client_port
    assert runner.run(_greeting(town.meshed.netns, "127.0.0.1", port)) == b"220 strict-nft\r\n"


def test_agent_is_told_what_its_file_wants(box: Sandbox, town: Town, runner: asyncio.Runner) -> None:
    pods = list(town.pods.values())
    parsed = parse(box.agent_config(pods, mode="auto", mtls="PERMISSIVE"))
    for pod, told in zip(pods, parsed.pods, strict=True):
        assert (told.ref.name, told.ref.uid, told.workload) == (pod.name, pod.uid, pod.workload)
        assert [str(address) for address in told.addresses] == list(pod.addresses)
        assert told.netns.exists() and all(cgroup.is_dir() for cgroup in told.cgroups)
        assert told.identity is not None and told.identity.socket.is_socket()
        assert Container(told.cgroups).pids(), "pilot and Envoy are in there"


def test_pod_with_ipv6_only(box: Sandbox, town: Town, runner: asyncio.Runner) -> None:
    async def story() -> tuple[Answer, Answer]:
        pod = await box.pod("six-0", families=("v6",))
        await pod.ready()
        outside = town.outside.place.addresses(("v6",))[0]
        return await town.plain.ask(pod.ip, 8080), await pod.ask(outside, 8080)

    inbound, outbound = runner.run(story())
    assert (inbound.via, outbound.via) == ("sidecar", "sidecar-outbound")


def test_health_and_stats_are_reached_past_15006(town: Town, runner: asyncio.Runner) -> None:
    ip = town.pods["strict-ipt"].ip
    assert runner.run(town.plain.ask(ip, 15021, "/healthz/ready")).status == 200
    assert runner.run(town.plain.ask(ip, 15020, "/app-health/app/readyz")).status == 200
    assert b"envoy_server_live" in runner.run(town.plain.ask(ip, 15090, "/stats/prometheus")).body
