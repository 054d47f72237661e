"""Agents that are not what they say, say what they may not, or say too much: refused, counted, logged (S4.2, I2).

Calls are made by hand, byte by byte where need be; the controller, its certificate and the tokens are real. One town
serves all cases of a test: each ends a link of its own.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest

from hotswitch.api.agent.v1 import agent_pb2 as wire
from hotswitch.controller.agents import server
from hotswitch.controller.agents.limits import BURST, MESSAGE_BYTES, Rejected
from hotswitch.controller.agents.waiting import Crowd, Waiting
from hotswitch.controller.app import Controller
from hotswitch.sandbox.ca import CertificateAuthority, spiffe_id
from hotswitch.sandbox.kubeapi.faults import Fault, Faults
from hotswitch.sandbox.kubeapi.identity import AUDIENCE
from tests.controller.agency import NAME, agent_pod, certificate, link, running, token_of
from tests.controller.test_agents import AGENTS, leads, serving
from tests.controller.town import Town, town

pytestmark = pytest.mark.k8s

Story = Callable[[Town, Path, Controller], Coroutine[Any, Any, None]]
METHOD = f"/{server.SERVICE}/{server.METHOD}"
PATIENCE_S = 45.0


def run(story: Story, tmp_path: Path, **more: Any) -> None:
    async def within() -> None:
        async with town(policy=AGENTS, more=["agents"]) as made:
            tls = certificate(tmp_path / "tls")
            async with serving(made, tls, **more) as controller:
                await leads(made, controller)
                await story(made, tls, controller)
            assert not made.api.denied, made.api.denied

    asyncio.run(within())


def hello(**more: Any) -> wire.FromAgent:
    said: dict[str, Any] = {"newest": 1, "oldest": 1, "node": "node-0", "instance": "i", **more}
    return wire.FromAgent(hello=wire.Hello(**said))


@asynccontextmanager
async def calling(controller: Controller, tls: Path, token: str = "") -> AsyncIterator[grpc.aio.StreamStreamCall]:
    credentials = grpc.ssl_channel_credentials((tls / "ca.crt").read_bytes())
    options = [("grpc.ssl_target_name_override", NAME)]
    async with grpc.aio.secure_channel(f"127.0.0.1:{controller.office.port}", credentials, options=options) as channel:
        metadata = (("authorization", f"Bearer {token}"),) if token else ()
        call = channel.stream_stream(METHOD)(metadata=metadata)
        yield call
        call.cancel()


async def ended(call: grpc.aio.StreamStreamCall) -> str:
    """The first word of what the controller says at the end of the link."""
    async with asyncio.timeout(PATIENCE_S):
        try:
            while await call.read() is not grpc.aio.EOF:
                pass
        except grpc.aio.AioRpcError as failure:
            return (failure.details() or "").partition(":")[0]
        return ((await call.details()) or "").partition(":")[0]


async def end_of(controller: Controller, tls: Path, token: str, *messages: wire.FromAgent | bytes) -> str:
    async with calling(controller, tls, token) as call:
        try:
            for each in messages:
                await call.write(each if isinstance(each, bytes) else each.SerializeToString())
        except (grpc.aio.AioRpcError, asyncio.InvalidStateError):
            pass  # it was cut off already
        return await ended(call)


async def welcomed(call: grpc.aio.StreamStreamCall, **more: Any) -> None:
    await call.write(hello(**more).SerializeToString())
    async with asyncio.timeout(PATIENCE_S):
        raw = await call.read()
    assert wire.ToAgent.FromString(raw).WhichOneof("said") == "welcome"


def counted(controller: Controller, reason: str) -> float:
    found = controller.metrics.registry.get_sample_value("hotswitch_agent_refusals_total", {"reason": reason})
    return found or 0.0


def test_who_is_not_believed(tmp_path: Path) -> None:
    async def story(made: Town, tls: Path, controller: Controller) -> None:
        uid = await made.pod("web-0")
        ours, other = agent_pod(made), agent_pod(made, "node-1")
        stranger = agent_pod(made, "node-7", "somebody", "shop")
        gone = agent_pod(made, "node-9")
        of_gone = token_of(made, gone)
        made.api.admin.delete("pods", gone["metadata"]["name"], gone["metadata"]["namespace"], grace_s=0)
        good = token_of(made, ours)
        await made.until(lambda: controller.office.place_of(uid), "the pod is known")
        cases = {
            "no token": ("no-token", "", hello()),
            "somebody's invention": ("bad-token", "x" * 40, hello()),
            "of a pod that is gone": ("bad-token", of_gone, hello(node="node-9")),
            "for the API server": ("bad-token", token_of(made, ours, AUDIENCE), hello()),
            "for somebody else": ("bad-token", token_of(made, ours, "vault"), hello()),
            "not bound": ("not-bound", token_of(made, ours, bound=False), hello()),
            "of another account": ("wrong-account", token_of(made, stranger), hello(node="node-7")),
            "for another node": ("wrong-node", token_of(made, other), hello()),
            "for no node": ("wrong-node", good, hello(node="")),
            "for another pod": ("wrong-pod", token_of(made, stranger), hello(node="", pod_uid=uid)),
            "for a pod that is not meshed": (
                "unknown-pod", token_of(made, stranger), hello(node="", pod_uid=stranger["metadata"]["uid"]),
            ),
            "too old": ("version", good, hello(newest=0, oldest=0)),
            "too new": ("version", good, hello(newest=9, oldest=2)),
            "of a leader that is not yet": ("not-leading", good, hello(term=2**40)),
        }  # fmt: skip
        for what, (reason, token, message) in cases.items():
            before = counted(controller, reason)
            assert await end_of(controller, tls, token, message) == reason, what
            assert reason == "not-leading" or counted(controller, reason) == before + 1, what
            assert not controller.office.desk.agents, what
        async with calling(controller, tls, good) as call:  # and who is believed
            await welcomed(call)
            assert [*controller.office.desk.agents] == ["node/node-0"]

    run(story, tmp_path)


def test_strangers_fill_the_queue_for_tokens() -> None:
    """One address its own part, all together the whole; who is there already is not sent away for it."""

    async def story() -> None:
        waiting, go = Waiting(Crowd(per_address=3, in_all=5, at_once=1)), asyncio.Event()
        done: list[str] = []

        async def review(peer: str) -> None:
            async with waiting.turn(peer):
                await go.wait()
                done.append(peer)

        async def busy(peer: str) -> str:
            with pytest.raises(Rejected) as refused:
                await review(peer)
            return refused.value.reason

        flood = [asyncio.create_task(review(f"ipv4:10.0.0.1:{port}")) for port in range(3)]
        await asyncio.sleep(0)
        assert await busy("ipv4:10.0.0.1:99") == "busy"
        others = [asyncio.create_task(review(f"ipv6:%5Bfd00::{at}%5D:1")) for at in range(2)]
        await asyncio.sleep(0)
        assert await busy("ipv4:10.0.0.2:1") == "busy"
        go.set()
        await asyncio.gather(*flood, *others)
        assert len(done) == 5
        await review("ipv4:10.0.0.1:100")  # and nothing of it is left
        assert not waiting._here

    asyncio.run(story())


def test_tokens_are_looked_at_one_after_the_other(tmp_path: Path) -> None:
    """The API server is slow; more come than may wait. They are counted, and whoever waited is heard."""

    async def story(made: Town, tls: Path, controller: Controller) -> None:
        good, slow = token_of(made, agent_pod(made)), asyncio.Event()
        admit = controller.office._server._doorkeeper.admit

        async def slowly(token: str, said: wire.Hello) -> Any:
            await slow.wait()
            return await admit(token, said)

        controller.office._server._doorkeeper.admit = slowly
        async with calling(controller, tls, good) as first, calling(controller, tls, good) as second:
            for call in (first, second):
                await call.write(hello().SerializeToString())
            waiting = controller.office._server._waiting
            await made.until(lambda: waiting._here.total() == 2, "both wait")
            assert await end_of(controller, tls, "x" * 40, hello()) == "busy"
            assert counted(controller, "busy") == 1
            slow.set()
            await made.until(lambda: controller.office.desk.agents, "heard")

    run(story, tmp_path, agents_per_address=2)


def test_a_reviewer_that_knows_no_audiences(tmp_path: Path) -> None:
    """An API server, or a webhook before it, that says yes to any token it knows and names no audience."""

    async def story(made: Town, tls: Path, controller: Controller) -> None:
        good = token_of(made, agent_pod(made))
        answer = made.api.handlers._reviews._token

        def careless(token: str, audiences: tuple[str, ...]) -> Any:
            told = answer(token, audiences)
            return {name: value for name, value in told.items() if name != "audiences"}

        made.api.handlers._reviews._token = careless  # type: ignore[method-assign]
        assert await end_of(controller, tls, good, hello()) == "wrong-audience"
        assert counted(controller, "wrong-audience") == 1

    run(story, tmp_path)


POOR: dict[str, Callable[[Faults], Fault]] = {
    **{
        str(code): lambda faults, code=code: faults.fail(code, resource="tokenreviews", times=1)  # type: ignore[misc]
        for code in (403, 409, 410, 429, 500)
    },
    "cut": lambda faults: faults.cut(resource="tokenreviews", times=1),
    "cut after": lambda faults: faults.cut(after=True, resource="tokenreviews", times=1),
    "garbled": lambda faults: faults.garble(resource="tokenreviews", times=1),
    "garbled after": lambda faults: faults.garble(after=True, resource="tokenreviews", times=1),
}


@pytest.mark.parametrize("fail", POOR.values(), ids=POOR)
def test_api_server_fails_at_a_token(
    tmp_path: Path, fail: Callable[[Faults], Fault], caplog: pytest.LogCaptureFixture
) -> None:
    """Nobody is let in, nobody is blamed, and the agent may come again at once."""

    async def story(made: Town, tls: Path, controller: Controller) -> None:
        good = token_of(made, agent_pod(made))
        fault = fail(made.api.faults)
        assert await end_of(controller, tls, good, hello()) == "api"
        assert fault.struck == 1 and counted(controller, "api") == 0
        async with calling(controller, tls, good) as call:
            await welcomed(call)
        assert not [each for each in caplog.records if each.exc_info], caplog.text

    run(story, tmp_path)


def test_an_api_server_that_names_no_node(tmp_path: Path) -> None:
    """Before Kubernetes 1.30: the node is looked up, and nothing is taken from what the agent says."""

    async def story(made: Town, tls: Path, controller: Controller) -> None:
        good = token_of(made, agent_pod(made))
        answer = made.api.handlers._reviews._token

        def older(token: str, audiences: tuple[str, ...]) -> Any:
            told = answer(token, audiences)
            told.get("user", {}).get("extra", {}).pop("authentication.kubernetes.io/node-name", None)
            return told

        made.api.handlers._reviews._token = older  # type: ignore[method-assign]
        assert await end_of(controller, tls, good, hello(node="node-1")) == "wrong-node"
        async with calling(controller, tls, good) as call:
            await welcomed(call)

    run(story, tmp_path)


def beat(number: int, **more: Any) -> wire.FromAgent:
    return wire.FromAgent(beat=wire.Beat(number=number, **more))


def report(uid: str, **more: Any) -> wire.FromAgent:
    return wire.FromAgent(pod=wire.PodReport(uid=uid, **more))


def test_what_may_not_be_said(tmp_path: Path) -> None:
    async def story(made: Town, tls: Path, controller: Controller) -> None:
        mine, foreign = await made.pod("web-0"), await made.pod("web-1")
        known = made.api.admin.get("pods", "web-1", "shop")
        made.api.admin.delete("pods", "web-1", "shop", grace_s=0)
        fresh = {
            **known,
            "metadata": {k: v for k, v in known["metadata"].items() if k not in ("uid", "resourceVersion")},
        }
        fresh["spec"] = {**known["spec"], "nodeName": "node-1"}
        foreign = made.api.admin.create(fresh)["metadata"]["uid"]
        await made.until(lambda: controller.office.place_of(foreign) and controller.office.place_of(mine), "known")
        good = token_of(made, agent_pod(made))
        nan = wire.Standing(hold_down_s=float("nan"))
        up = wire.Standing(levels={"up": "direct"})
        long = wire.Diagnosis(sentence="x" * (MESSAGE_BYTES + 1))
        cases: dict[str, tuple[str, list[wire.FromAgent | bytes]]] = {
            "a beat first": ("malformed", [beat(1)]),
            "nonsense first": ("malformed", [b"\xff\xff\xff"]),
            "nonsense later": ("malformed", [hello(), b"\xff\xff\xff"]),
            "hello twice": ("malformed", [hello(), hello()]),
            "no number": ("malformed", [hello(), report(mine, standing=nan)]),
            "a direction of its own": ("malformed", [hello(), report(mine, standing=up)]),
            "too long": ("oversized", [hello(), report(mine, diagnosis=long)]),
            "too long a hello": ("oversized", [hello(software="x" * (MESSAGE_BYTES + 1))]),
            "too many": ("too-many", [hello(), *[wire.FromAgent(gone=wire.PodGone(uid="x"))] * (int(BURST) + 500)]),
            "of another node's pod": ("foreign-pod", [hello(), report(foreign)]),
            "a line of another node's pod": ("foreign-pod", [hello(), wire.FromAgent(line=wire.Line(uid=foreign))]),
        }  # fmt: skip
        for what, (reason, messages) in cases.items():
            before = counted(controller, reason)
            told = await end_of(controller, tls, good, *messages)
            assert told == reason or reason == "too-many", what  # who still writes does not hear why it was cut off
            await made.until(lambda now=before + 1, word=reason: counted(controller, word) == now, what)
        assert controller.office.told(foreign) is None

    run(story, tmp_path)


def test_what_is_passed_over(tmp_path: Path) -> None:
    """The link goes on: a pod that has just gone, a beat that comes twice, a kind of message of a later version."""

    async def story(made: Town, tls: Path, controller: Controller) -> None:
        uid = await made.pod("web-0")
        await made.until(lambda: controller.office.place_of(uid), "known")
        async with calling(controller, tls, token_of(made, agent_pod(made))) as call:
            await welcomed(call)
            for each in (report("nobody"), beat(5), beat(5), beat(4), b"\x9a\x06\x02\x08\x01", report(uid)):
                await call.write(each if isinstance(each, bytes) else each.SerializeToString())
            await made.until(lambda: controller.office.told(uid), "the last one is heard")
            assert (counted(controller, "unknown-pod"), counted(controller, "replayed")) == (1, 2)

    run(story, tmp_path)


def test_a_controller_whose_certificate_is_not_good(tmp_path: Path) -> None:
    """It is not obeyed, nor shown the token: of another authority, or under another name."""

    async def story(made: Town, tls: Path, controller: Controller) -> None:
        good = token_of(made, agent_pod(made))
        another = certificate(tmp_path / "another")
        for wrong in ({"authority": another / "ca.crt"}, {"server_name": "somebody.else"}):
            async with running(link(made, controller, tls, good, **wrong)) as node:
                await made.until(lambda: node.authority.refused.get("certificate"), "refused by the agent")
                assert not node.authority.connected.is_set()
        assert not controller.office.desk.agents

    run(story, tmp_path)


def test_an_agent_without_a_certificate_where_one_is_asked_for(tmp_path: Path) -> None:
    async def within() -> None:
        async with town(policy=AGENTS, more=["agents"]) as made:
            tls, own = certificate(tmp_path / "tls"), tmp_path
            identity = CertificateAuthority().issue(spiffe_id("hotswitch-agents", "hotswitch-agent"))
            (own / "chain.pem").write_bytes(identity.chain_pem)
            (own / "key.pem").write_bytes(identity.key_pem)
            (own / "root.pem").write_bytes(identity.root_pem)
            async with serving(made, tls, agents_clients=own / "root.pem") as controller:
                await leads(made, controller)
                good = token_of(made, agent_pod(made))
                async with running(link(made, controller, tls, good)) as node:
                    await made.until(lambda: node.authority.failures > 1, "refused by the controller")
                    assert not node.authority.connected.is_set()
                shown = {"certificate": own / "chain.pem", "key": own / "key.pem"}
                async with running(link(made, controller, tls, good, **shown)) as node:
                    await made.until(node.authority.connected.is_set, "connected")

    asyncio.run(within())


def test_plaintext_is_not_spoken_where_there_is_a_certificate(tmp_path: Path) -> None:
    async def story(made: Town, tls: Path, controller: Controller) -> None:
        good = token_of(made, agent_pod(made))
        async with running(link(made, controller, tls, good, authority=None)) as node:
            await made.until(lambda: node.authority.failures > 1, "the controller hangs up")
            assert not node.authority.connected.is_set()
        with pytest.raises((ssl.SSLError, OSError)):
            await asyncio.open_connection(
                "127.0.0.1", controller.office.port, ssl=ssl.create_default_context(), server_hostname=NAME
            )

    run(story, tmp_path)
