"""Through the open rescue gate the mesh's promises hold: identity, STRICT, authorization of connections (S4.3, I2).

Opened by order while the proxies are well, so that every difference is the rescue's own. Meshed clients begin anew
after that (nat decides once for a flow), and nothing of what they send may be seen by the sidecar: no x-via, no
forwarded client certificate, and the app's peer is 127.0.0.6 as ever.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import pytest

from hotswitch.kernel.netns import inside
from hotswitch.model import RESCUE_INBOUND, Mtls
from hotswitch.sandbox.ask import Answer
from hotswitch.sandbox.clients import Client, MeshedClient
from hotswitch.sandbox.pod import Pod
from hotswitch.sandbox.registry import Service
from hotswitch.sandbox.sandbox import Sandbox
from tests.agent.keeper import PATIENCE_S, Keeper, redirected, until

pytestmark = pytest.mark.envoy

FRIEND, ENEMY = "friend", "enemy"
DRAIN_S = 3
BOTH_FAMILIES = pytest.mark.parametrize("family", ["v4", "v6"])


def _principal(name: str) -> str:
    return f"cluster.local/ns/default/sa/{name}"


def _rule(port: int, **source: list[str]) -> dict[str, Any]:
    rule: dict[str, Any] = {"to": [{"operation": {"ports": [str(port)]}}]}
    return {**rule, "from": [{"source": source}]} if source else rule


AUTHORIZATION = [
    {
        "metadata": {"name": "allow", "namespace": "default"},
        "spec": {
            "action": "ALLOW",
            "rules": [
                _rule(8080, principals=[_principal(FRIEND), _principal(ENEMY)]),
                _rule(8081, namespaces=["default"]),
                _rule(8082),
            ],
        },
    },
    {
        "metadata": {"name": "deny", "namespace": "default"},
        "spec": {
            "action": "DENY",
            "rules": [_rule(8080, principals=[_principal(ENEMY)]), _rule(8082, namespaces=["default"])],
        },
    },
]
PER_REQUEST = [{"metadata": {"name": "get"}, "spec": {"rules": [{"to": [{"operation": {"methods": ["GET"]}}]}]}}]


@dataclass(frozen=True)
class Town:
    """`perm`, `strict`, `authz` are open to the rescue. `vault` (STRICT) is not guarded, `outside` has no sidecar."""

    pods: dict[str, Pod]
    plain: Client
    friend: MeshedClient
    enemy: MeshedClient
    services: dict[str, Service]
    keeper: Keeper


@pytest.fixture(scope="module")
def town(box: Sandbox, runner: asyncio.Runner) -> Town:
    return runner.run(_build(box))


async def _build(box: Sandbox) -> Town:
    everything: dict[str, Any] = {"tcp": True, "grpc": True}
    pods = {
        "perm": await box.pod("perm-0", **everything),
        "strict": await box.pod("strict-0", mtls=Mtls.STRICT, backend="nftables", **everything),
        "authz": await box.pod("authz-0", **everything),
        "http": await box.pod("http-0"),
        "vault": await box.pod("vault-0", mtls=Mtls.STRICT),
        "outside": await box.pod("outside", sidecar=False),
    }
    services = {
        name: await box.service(name, [pods[pod]], port=port, protocol=protocol, family=family, publish="all")
        for name, pod, port, protocol, family in (
            ("perm-v4", "perm", 8080, "http", "v4"),
            ("perm-v6", "perm", 8080, "http", "v6"),
            ("strict-v4", "strict", 8080, "http", "v4"),
            ("strict-v6", "strict", 8080, "http", "v6"),
            ("strict-h2", "strict", 8082, "h2", "v4"),
            ("strict-tcp", "strict", 8081, "tcp", "v4"),
            ("authz-http", "authz", 8080, "http", "v4"),
            ("authz-tcp", "authz", 8081, "tcp", "v4"),
            ("authz-h2", "authz", 8082, "h2", "v4"),
        )
    }
    friend, enemy = await box.meshed(FRIEND), await box.meshed(ENEMY)
    await asyncio.gather(*(pod.ready() for pod in pods.values()))
    guarded = [pods[name] for name in ("perm", "strict", "authz", "http")]
    keeper = Keeper(box, guarded)
    for pod in guarded:
        keeper.pod_config(pod)["policy"] |= {"mtls": str(pod.spec.mtls)}
    keeper.pod_config(pods["perm"])["mesh_networks"] = [f"{address}" for address in pods["vault"].addresses]
    keeper.pod_config(pods["authz"])["authorization"] = AUTHORIZATION
    keeper.pod_config(pods["http"])["authorization"] = PER_REQUEST
    keeper.config["rescue"]["drain_s"] = DRAIN_S
    await keeper.begin()
    for pod in guarded[:3]:
        await keeper.until_rest(pod)
        told = await keeper.bypass(pod, "rescue")
        assert set(told["levels"].values()) == {"rescue"}
    await asyncio.gather(friend.restart(), enemy.restart())  # no connection from before
    return Town(pods, await box.client("plain"), friend, enemy, services, keeper)


def _address(pod: Pod, family: str) -> str:
    return pod.place.addresses((family,))[0]


def _is_of_rescue(answer: Answer, family: str = "v4") -> None:
    """Not of the sidecar, which marks what it serves; and not direct, where the app would see its client."""
    told = answer.json()
    assert (answer.status, answer.via) == (200, "")
    assert "x-forwarded-client-cert" not in told["headers"]
    assert told["peer"].rpartition(":")[0].strip("[]") == {"v4": "127.0.0.6", "v6": "::6"}[family]


# ---- inbound ----


@BOTH_FAMILIES
@pytest.mark.parametrize("mode", ["perm", "strict"])
def test_meshed_client_speaks_mtls_with_the_rescue(town: Town, runner: asyncio.Runner, mode: str, family: str) -> None:
    _is_of_rescue(runner.run(town.friend.get(town.services[f"{mode}-{family}"], "/echo")), family)


@BOTH_FAMILIES
def test_plaintext_passes_where_it_is_permitted(town: Town, runner: asyncio.Runner, family: str) -> None:
    _is_of_rescue(runner.run(town.plain.ask(_address(town.pods["perm"], family), 8080, "/echo")), family)


@BOTH_FAMILIES
@pytest.mark.parametrize("port", [8080, 8081])
def test_plaintext_is_refused_under_strict(town: Town, runner: asyncio.Runner, family: str, port: int) -> None:
    with pytest.raises(ConnectionError):
        runner.run(town.plain.ask(_address(town.pods["strict"], family), port, timeout_s=PATIENCE_S))


def test_grpc_passes_plain_and_meshed(town: Town, runner: asyncio.Runner) -> None:
    plain = runner.run(town.plain.grpc(town.pods["perm"].ip, 8082, 3))
    meshed = runner.run(town.friend.grpc("127.0.0.1", town.services["strict-h2"].client_port, 3))
    for pod, answers in (("perm-0", plain), ("strict-0", meshed)):
        assert [answer.split()[0] for answer in answers] == [pod] * 3
        assert all("127.0.0.6" in answer for answer in answers), answers


def test_server_speaks_first(town: Town, runner: asyncio.Runner) -> None:
    async def story() -> None:
        async with _session(town.plain, town.pods["perm"].ip, 8081) as plain:
            assert await plain.line() == "220 perm-0"
            assert await plain.echo("hello") == "hello"
        async with _session(town.friend, "127.0.0.1", town.services["strict-tcp"].client_port) as meshed:
            assert await meshed.line() == "220 strict-0"
            assert await meshed.echo("hello") == "hello"

    runner.run(story())


def test_streams_survive_the_restore(town: Town, runner: asyncio.Runner) -> None:
    """The rescue drains: what it carries goes on for a while, what is new passes the proxy at once."""
    pod, keeper = town.pods["perm"], town.keeper

    async def story() -> None:
        async with _session(town.plain, pod.ip, 8081) as stream:
            assert await stream.line() == "220 perm-0"
            verified = len(keeper.entries(pod, "verified"))
            before = redirected(pod, RESCUE_INBOUND)
            assert set((await keeper.restore(pod))["levels"].values()) == {"capture"}
            try:
                await keeper.until_entry(pod, "verified", verified)
                for number in range(10):
                    assert await stream.echo(f"line {number}") == f"line {number}"
                    assert (await town.plain.ask(pod.ip, 8080)).via == "sidecar"
                assert redirected(pod, RESCUE_INBOUND) <= before, "nobody new is led to the rescue"
                assert await stream.line() == "", "after the drain it ends"
            finally:
                await keeper.bypass(pod, "rescue")

    runner.run(story())


def test_calls_on_one_connection_survive_the_restore(town: Town, runner: asyncio.Runner) -> None:
    pod, keeper = town.pods["strict"], town.keeper

    def carried() -> int:
        return redirected(pod, RESCUE_INBOUND, "v4", "--orig-port-dst", "8082", "--state", "ESTABLISHED")

    async def story() -> None:
        await town.friend.restart()
        await until(lambda: carried() == 0, "the connections of the client's last Envoy stay")
        count, port = 40, town.services["strict-h2"].client_port
        calls = asyncio.create_task(town.friend.grpc("127.0.0.1", port, count, interval_s=0.05))
        try:
            await until(lambda: carried() > 0, "nothing was led to the rescue")
            await keeper.restore(pod)
            answers = await calls
            assert [answer.split()[0] for answer in answers] == ["strict-0"] * count, answers
        finally:
            await keeper.bypass(pod, "rescue")

    runner.run(story())


# ---- authorization ----


async def _served(client: MeshedClient, service: Service) -> bool:
    """HTTP: by status; the client's Envoy says 503 for a connection that was cut."""
    answer = await client.get(service, "/echo", timeout_s=PATIENCE_S)
    assert answer.status in (200, 503)
    if answer.status == 200:
        _is_of_rescue(answer)
    return answer.status == 200


async def _conversed(client: Client, address: str, port: int) -> bool:
    """Envoy judges a connection at its first byte, so the greeting of a server that speaks first tells nothing: with
    Istio's own sidecar it comes to everybody, too. Nothing that the client says gets through."""
    async with _session(client, address, port) as session:
        await session.line()
        return await session.echo("hello") == "hello"


async def _called(client: Client, address: str, port: int) -> bool:
    return (await client.grpc(address, port))[0].startswith("authz-0 ")


def test_principals_are_allowed_and_denied(town: Town, runner: asyncio.Runner) -> None:
    async def story() -> None:
        service = town.services["authz-http"]
        assert await _served(town.friend, service)
        assert not await _served(town.enemy, service), "DENY comes before ALLOW"
        with pytest.raises(ConnectionError):
            await town.plain.ask(town.pods["authz"].ip, 8080)

    runner.run(story())


def test_namespace_and_port_decide(town: Town, runner: asyncio.Runner) -> None:
    async def story() -> None:
        tcp, h2, ip = town.services["authz-tcp"], town.services["authz-h2"], town.pods["authz"].ip
        for meshed in (town.friend, town.enemy):
            assert await _conversed(meshed, "127.0.0.1", tcp.client_port)
            assert not await _called(meshed, "127.0.0.1", h2.client_port)
        assert not await _conversed(town.plain, ip, 8081), "who shows no certificate has no namespace"
        assert await _called(town.plain, ip, 8082)

    runner.run(story())


def test_policy_on_requests_cannot_be_kept_by_the_rescue(town: Town, runner: asyncio.Runner) -> None:
    pod, keeper = town.pods["http"], town.keeper

    async def story() -> None:
        status = await keeper.until_status(pod, lambda status: status["fault"] == "well", "well")
        assert "methods" in status["rescue"] and "not a property of connections" in status["rescue"]
        told = await keeper.bypass(pod, "rescue")
        assert set(told["levels"].values()) == {"capture"}
        [refused, *_] = told["done"]
        assert refused["code"] == "HSD027" and "methods" in refused["why"]
        await keeper.restore(pod)

    runner.run(story())


# ---- outbound ----


@BOTH_FAMILIES
def test_app_calls_a_strict_pod_through_the_rescue(town: Town, runner: asyncio.Runner, family: str) -> None:
    """mTLS with the pod's own identity, which the other side's sidecar has checked and tells."""
    path = f"/call?host={_address(town.pods['vault'], family)}&port=8080&path=%2Fecho"
    answer = runner.run(town.plain.ask(town.pods["perm"].ip, 8080, path, timeout_s=PATIENCE_S)).json()
    assert (answer["status"], answer["via"]) == (200, "sidecar"), answer
    assert f"URI={town.pods['perm'].spiffe_id}" in answer["body"]


@BOTH_FAMILIES
def test_app_calls_out_of_the_mesh_through_the_rescue(town: Town, runner: asyncio.Runner, family: str) -> None:
    path = f"/call?host={_address(town.pods['outside'], family)}&port=8080"
    answer = runner.run(town.plain.ask(town.pods["perm"].ip, 8080, path, timeout_s=PATIENCE_S)).json()
    assert (answer["status"], answer["via"]) == (200, ""), answer


# ---- a connection that stays ----


class Session:
    """Lines over one TCP connection. `line` is "" at its end, however it came."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    async def line(self) -> str:
        async with asyncio.timeout(PATIENCE_S):
            try:
                return (await self._reader.readline()).decode().strip()
            except ConnectionError:
                return ""

    async def echo(self, text: str) -> str:
        self._writer.write(f"{text}\n".encode())
        return await self.line()


@contextlib.asynccontextmanager
async def _session(client: Client, address: str, port: int) -> AsyncIterator[Session]:
    with inside(client.netns):
        sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    await asyncio.get_running_loop().sock_connect(sock, (address, port))
    reader, writer = await asyncio.open_connection(sock=sock)
    try:
        yield Session(reader, writer)
    finally:
        writer.close()
