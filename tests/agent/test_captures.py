"""{REDIRECT, TPROXY} x {iptables-nft, iptables-legacy, native nft}, captured DNS in half of them: the agent's walks.

One pod each, with a real Envoy; families, levels and directions are gone through on it. Inspected, switched by order
and back, rescued from kill -9 and back, cut loose from a hang; nothing of ours is left (S4.2, S4.3, I4).
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import socket
from collections.abc import Iterator
from ipaddress import IPv4Address

import pytest
import yaml

from hotswitch.kernel.command import Command, run
from hotswitch.kernel.netns import as_user, inside
from hotswitch.sandbox.app import APP_UID
from hotswitch.sandbox.names import DNS, MESH_ADDRESS, MESH_ONLY, MIRROR, NameUnknown, reply_to
from hotswitch.sandbox.outcome import Kind
from hotswitch.sandbox.pod import Pod
from hotswitch.sandbox.sandbox import Sandbox
from tests.agent.keeper import Keeper, gate_text, rules, ruleset, until
from tests.agent.load import ending, flows
from tests.agent.town import Town, nothing_of_ours_is_left

pytestmark = pytest.mark.envoy

WITH_DNS = {
    ("TPROXY", "iptables-nft"): "all",
    ("TPROXY", "nftables"): "servers",
    ("REDIRECT", "iptables-legacy"): "servers",
}
PODS = {
    f"{mode.lower()}-{backend}": {"interception": mode, "backend": backend, "dns": WITH_DNS.get((mode, backend), "")}
    for mode, backend in itertools.product(("REDIRECT", "TPROXY"), ("iptables-nft", "iptables-legacy", "nftables"))
}
NAMED = [name for name, spec in PODS.items() if spec["dns"]]
FAMILIES, WAYS, LEVELS = ("v4", "v6"), ("inbound", "outbound"), ("rescue", "direct")
NOT_CAPTURED = {
    "metadata": {"name": "none", "annotations": {"sidecar.istio.io/interceptionMode": "NONE"}},
    "spec": {"containers": [{"name": "istio-proxy", "args": ["proxy", "sidecar"]}, {"name": "app"}]},
}
"""As the injector leaves such a pod: with a proxy, and without istio-init."""
RATE, CONNECTIONS = 20.0, 4
every_pod = pytest.mark.parametrize("name", PODS)


@pytest.fixture(scope="module")
def town(box: Sandbox, runner: asyncio.Runner) -> Town:
    return runner.run(_build(box))


async def _build(box: Sandbox) -> Town:
    pods = {name: await box.pod(name, **spec) for name, spec in PODS.items()}
    outside, client = await box.pod("outside", sidecar=False), await box.client("plain")
    await asyncio.gather(*(pod.ready(60) for pod in (*pods.values(), outside)))
    keeper = Keeper(box, list(pods.values()))
    await keeper.guard()
    return Town(pods, outside, client, keeper, RATE)


async def _servers(town: Town, pod: Pod) -> set[str]:
    return {await town.server(way, pod, family) for way in WAYS for family in FAMILIES}


class Resolver:
    """The app's own, with one socket that is kept. `asks_itself`: nobody stands between it and the name server."""

    def __init__(self, pod: Pod) -> None:
        self._pod, self._to = pod, (pod.spec.resolvers[0], DNS)
        self._kept = self._socket()

    def _socket(self, kind: socket.SocketKind = socket.SOCK_DGRAM) -> socket.socket:
        with inside(self._pod.netns), as_user(APP_UID):
            sock = socket.socket(socket.AF_INET, kind)
        sock.settimeout(1.0)  # what went to a pilot-agent that was just ending is not answered
        if kind is socket.SOCK_DGRAM:
            sock.connect(self._to)
        return sock

    async def find(self, name: str) -> IPv4Address:
        with self._socket() as sock:
            return await asyncio.to_thread(reply_to, sock, name, self._to)

    async def asks_itself(self) -> set[bool]:
        """Over a fresh socket, the kept one, and tcp."""
        found = set()
        with self._socket() as fresh, self._socket(socket.SOCK_STREAM) as tcp:
            for sock in (fresh, self._kept, tcp):
                seen = await asyncio.to_thread(reply_to, sock, MIRROR, self._to)
                found.add(int(seen) == sock.getsockname()[1])
        return found

    def close(self) -> None:
        self._kept.close()


@contextlib.contextmanager
def _resolver(pod: Pod) -> Iterator[Resolver]:
    resolver = Resolver(pod)
    try:
        yield resolver
    finally:
        resolver.close()


@every_pod
def test_switched_by_order(town: Town, runner: asyncio.Runner, name: str) -> None:
    pod, keeper = town.pods[name], town.keeper

    async def story() -> None:
        await keeper.until_rest(pod)
        closed, original = gate_text(pod), rules(pod).fingerprint
        kept = [town.load(way, pod, family, RATE, CONNECTIONS) for way in WAYS for family in FAMILIES]
        async with ending(*kept) as runs:
            await asyncio.gather(*(flows(each, CONNECTIONS) for each in runs))
            for way, level in itertools.product(WAYS, LEVELS):
                other = "outbound" if way == "inbound" else "inbound"
                told = await keeper.bypass(pod, level, way)
                assert told["levels"] == {way: level, other: "capture"}
                for family in FAMILIES:
                    assert await town.server(way, pod, family) == level
                    assert await town.server(other, pod, family) == "proxy"
                told = await keeper.restore(pod)
                assert set(told["levels"].values()) == {"capture"}
                assert await _servers(town, pod) == {"proxy"}
        for each in runs:
            assert {row.kind for row in (await each.results()).rows} - {Kind.BUSY} == {Kind.VIA_PROXY}
        nothing_of_ours_is_left(pod, closed, original)

    runner.run(story())


@every_pod
def test_the_proxy_is_killed_and_comes_back(town: Town, runner: asyncio.Runner, name: str) -> None:
    pod, keeper = town.pods[name], town.keeper

    async def story() -> None:
        await keeper.until_rest(pod)
        closed, original = gate_text(pod), rules(pod).fingerprint
        seen = {event: len(keeper.entries(pod, event)) for event in ("open", "close", "verified")}
        fault = await keeper.cause(pod.faults.kill())
        opened = await keeper.until_entry(pod, "open", seen["open"])
        assert (opened.code, opened.evidence["fault"]) == ("HSD001", "dead")
        assert await _servers(town, pod) == {"rescue"}
        await fault.undo()
        assert (await keeper.until_entry(pod, "close", seen["close"])).code == "HSD010"
        assert await _servers(town, pod) == {"proxy"}
        proof = await keeper.until_entry(pod, "verified", seen["verified"])
        assert proof.evidence == {"istio_rules_unchanged": "True", "refusal": ""}
        nothing_of_ours_is_left(pod, closed, original)

    runner.run(story())


@pytest.mark.parametrize("name", NAMED)
def test_names_while_pilot_agent_is_gone(town: Town, runner: asyncio.Runner, name: str) -> None:
    """The app asks its own name server then. What only pilot-agent knows is unknown until it is back."""
    pod, keeper = town.pods[name], town.keeper

    async def story() -> None:
        await keeper.until_rest(pod)
        with _resolver(pod) as app:
            assert await app.asks_itself() == {False}
            assert await app.find(MESH_ONLY) == MESH_ADDRESS
            seen = {event: len(keeper.entries(pod, event)) for event in ("open", "close")}
            fault = await keeper.cause(pod.faults.crash_loop())
            await keeper.until_entry(pod, "open", seen["open"])
            await until(lambda: _all_ask_themselves(app), "questions go to the name server itself")
            with pytest.raises(NameUnknown):
                await app.find(MESH_ONLY)
            await fault.undo()
            await keeper.until_entry(pod, "close", seen["close"])
            await until(lambda: _none_asks_itself(app), "questions go to pilot-agent again")
            assert await app.find(MESH_ONLY) == MESH_ADDRESS

    runner.run(story())


def test_names_while_the_proxy_hangs(town: Town, runner: asyncio.Runner) -> None:
    """pilot-agent lives and could answer, but nobody knows that at the opening: names go the same way as in a death."""
    pod, keeper = town.pods["tproxy-iptables-nft"], town.keeper

    async def story() -> None:
        await keeper.until_rest(pod)
        with _resolver(pod) as app:
            assert await app.asks_itself() == {False}
            seen = len(keeper.entries(pod, "open"))
            fault = await keeper.cause(pod.faults.hang())
            await keeper.until_entry(pod, "open", seen)
            await until(lambda: _all_ask_themselves(app), "questions go to the name server itself")
            await fault.undo()
            await keeper.until_rest(pod)
            await until(lambda: _none_asks_itself(app), "questions go to pilot-agent again")

    runner.run(story())


async def _all_ask_themselves(app: Resolver) -> bool:
    with contextlib.suppress(OSError):  # the kept socket, until its flow is forgotten
        return await app.asks_itself() == {True}
    return False


async def _none_asks_itself(app: Resolver) -> bool:
    with contextlib.suppress(OSError):
        return await app.asks_itself() == {False}
    return False


@pytest.mark.parametrize("name", ["tproxy-iptables-nft", "tproxy-nftables"])
def test_a_hung_proxy_lets_go_of_its_flows(town: Town, runner: asyncio.Runner, name: str) -> None:
    """With TPROXY they are at the app's own address and port; they are known by their sockets."""
    pod, keeper = town.pods[name], town.keeper

    async def story() -> None:
        await keeper.until_rest(pod)
        seen = {event: len(keeper.entries(pod, event)) for event in ("open", "cut")}
        kept = town.load("inbound", pod, "v4", RATE, CONNECTIONS)
        async with ending(kept):
            await flows(kept, CONNECTIONS)
            fault = await keeper.cause(pod.faults.hang())
            await keeper.until_entry(pod, "open", seen["open"])
            cut = await keeper.until_entry(pod, "cut", seen["cut"])
            assert int(cut.evidence["flows"]) >= CONNECTIONS
            assert await town.server("inbound", pod, "v4") == "rescue"
            await fault.undo()
            await keeper.until_rest(pod)

    runner.run(story())


def test_where_nothing_is_captured_nothing_is_opened(box: Sandbox, runner: asyncio.Runner) -> None:
    async def story() -> None:
        pod = await box.pod("none", interception="NONE")
        await pod.ready(60)
        keeper = Keeper(box, [pod], "none-agent")
        (keeper.home / "pod.yaml").write_text(yaml.safe_dump(NOT_CAPTURED))
        keeper.pod_config(pod)["capture"] = {"manifest": str(keeper.home / "pod.yaml")}
        await keeper.begin()
        status = await keeper.until_status(pod, lambda status: status["fault"] == "well", "well")
        assert "NONE captures nothing" in status["gate"]
        told = await keeper.bypass(pod)
        assert set(told["levels"].values()) <= {"capture", "hold"}
        await keeper.cause(pod.faults.kill())
        await keeper.until_status(pod, lambda status: status["fault"] == "dead", "dead")
        assert keeper.entries(pod, "open") == []
        assert ruleset(pod) == ""
        await keeper.heal()
        await keeper.end()

    runner.run(story())


def test_rules_of_an_older_shape_are_refused(box: Sandbox, runner: asyncio.Runner) -> None:
    """Without the rule that lets Istio's own mark pass, nothing would lead past TPROXY."""

    async def story() -> None:
        pod = await box.pod("older", interception="TPROXY")
        await pod.ready(60)
        mark = ("ISTIO_INBOUND", "-p", "tcp", "-m", "mark", "--mark", "1337", "-j", "RETURN")
        run(Command(("iptables-nft", "-t", "mangle", "-D", *mark), pod.netns), check=True)
        keeper = Keeper(box, [pod], "older-agent")
        await keeper.begin()
        status = await keeper.until_status(pod, lambda status: "missing" in status["gate"], "refused")
        assert "mangle ISTIO_INBOUND: missing:" in status["gate"]
        await keeper.end()

    runner.run(story())
