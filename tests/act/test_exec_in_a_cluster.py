"""Actuator `exec`: Istio's own commands where a container allows them, and a sentence where not (S4.3, S4.3b)."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from hotswitch.act.execing import ExecActuator
from hotswitch.act.helper import HelperActuator
from hotswitch.act.order import Outcome
from hotswitch.cluster.exec import ExecOutcome, Executed, exec_in
from hotswitch.model import Direction, Level, PodUid
from hotswitch.sandbox.clients import Client
from hotswitch.sandbox.cluster.cluster import SandboxCluster
from hotswitch.sandbox.cluster.published import Published
from tests.act.targets import IMAGE, order, target, until_able
from tests.agent.keeper import rules

pytestmark = pytest.mark.envoy

CAPTURED = dict.fromkeys(Direction, Level.CAPTURE)
DIRECT = dict.fromkeys(Direction, Level.DIRECT)


@pytest.fixture(scope="module")
def client(cluster: SandboxCluster, runner: asyncio.Runner) -> Client:
    return runner.run(cluster.box.client("plain"))


@pytest.fixture(scope="module")
def web(cluster: SandboxCluster, runner: asyncio.Runner) -> Published:
    """TPROXY: its istio-proxy has NET_ADMIN."""

    async def build() -> Published:
        web = await cluster.pod("web-0", interception="TPROXY")
        await web.pod.ready()
        return web

    return runner.run(build())


def test_capture_is_taken_away_and_comes_back(
    cluster: SandboxCluster, web: Published, client: Client, runner: asyncio.Runner
) -> None:
    async def story() -> None:
        actuator = ExecActuator(cluster.cluster)
        before = rules(web.pod)
        able = await actuator.ability(await target(cluster, web))
        assert able.can(Direction.INBOUND, Level.DIRECT), able.refusal
        assert not able.can(Direction.INBOUND, Level.RESCUE)
        assert able.truth and able.truth.levels == CAPTURED and able.truth.istio_complete
        assert (await client.ask(web.pod.ip, 8080)).via == "sidecar"

        opened = await actuator.carry_out(await target(cluster, web), order(1, Level.DIRECT))
        assert opened.outcome is Outcome.DONE, opened
        assert opened.truth and opened.truth.levels == DIRECT
        assert "nothing closes this by itself" in opened.sentence
        assert rules(web.pod).backends == ()
        answer = await client.ask(web.pod.ip, 8080)
        assert (answer.status, answer.via) == (200, "")
        again = await actuator.carry_out(await target(cluster, web), order(1, Level.DIRECT))
        assert (again.outcome, again.sentence) == (Outcome.DONE, "it was so before")

        closed = await actuator.carry_out(await target(cluster, web), order(2))
        assert closed.outcome is Outcome.DONE, closed
        assert closed.truth and closed.truth.levels == CAPTURED
        assert closed.truth.istio_rules == able.truth.istio_rules
        assert rules(web.pod).fingerprint == before.fingerprint  # I4
        assert (await client.ask(web.pod.ip, 8080)).via == "sidecar"

    runner.run(story())


def test_set_up_over_something_left_behind(cluster: SandboxCluster, web: Published, runner: asyncio.Runner) -> None:
    """Istio's set-up fails on chains that are there; its reconciliation does not."""

    async def story() -> None:
        actuator, original = ExecActuator(cluster.cluster), rules(web.pod).fingerprint
        await actuator.carry_out(await target(cluster, web), order(3, Level.DIRECT))
        left = await exec_in(
            cluster.cluster, "default", "web-0", "istio-proxy", ("iptables-nft", "-t", "nat", "-N", "ISTIO_REDIRECT")
        )
        assert left.succeeded, left
        closed = await actuator.carry_out(await target(cluster, web), order(4))
        assert closed.outcome is Outcome.DONE, closed
        assert rules(web.pod).fingerprint == original

    runner.run(story())


def test_exit_code_0_is_not_believed(cluster: SandboxCluster, web: Published, runner: asyncio.Runner) -> None:
    """The clean-up ends with 0 whatever it leaves: here it was never run at all."""

    async def nothing(*args: Any, **more: Any) -> Executed:
        if args[4][0] == "pilot-agent":
            return Executed(ExecOutcome.EXITED, 0, b"", b"", "it ended with exit code 0")
        return await exec_in(*args, **more)

    async def lost(*args: Any, **more: Any) -> Executed:
        if args[4][0] == "pilot-agent":
            return Executed(ExecOutcome.UNKNOWN, None, b"", b"", "the connection was lost")
        return await exec_in(*args, **more)

    async def story() -> None:
        answer = await ExecActuator(cluster.cluster, nothing).carry_out(
            await target(cluster, web), order(5, Level.DIRECT)
        )
        assert answer.outcome is Outcome.FAILED and "the rules say inbound capture" in answer.sentence
        answer = await ExecActuator(cluster.cluster, lost).carry_out(await target(cluster, web), order(6, Level.DIRECT))
        assert answer.outcome is Outcome.UNKNOWN and answer.truth and answer.truth.levels == CAPTURED

    runner.run(story())


def test_what_it_cannot_do_is_refused(cluster: SandboxCluster, web: Published, runner: asyncio.Runner) -> None:
    async def story() -> None:
        actuator, known = ExecActuator(cluster.cluster), await target(cluster, web)
        for impossible in (order(7, Level.RESCUE), order(7, Level.DIRECT, Direction.INBOUND)):
            answer = await actuator.carry_out(known, impossible)
            assert answer.outcome is Outcome.REFUSED, impossible
        stale = replace(known, pod=replace(known.pod, uid=PodUid("of-the-one-before")))
        answer = await actuator.carry_out(stale, order(7, Level.DIRECT))
        assert answer.outcome is Outcome.FAILED and "another pod" in answer.sentence
        (command, *rest) = actuator.plan(known, order(7, Level.DIRECT))
        assert command.startswith("kubectl exec -n default web-0 -c istio-proxy -- pilot-agent istio-iptables")
        assert command.endswith("--cleanup-only")
        assert any("nothing closes this" in line for line in rest)

    runner.run(story())


def test_ordinary_sidecar_cannot(cluster: SandboxCluster, runner: asyncio.Runner) -> None:
    async def story() -> None:
        pod = await cluster.pod("plain-0")
        await pod.pod.ready()
        actuator = ExecActuator(cluster.cluster)
        able = await actuator.ability(await target(cluster, pod))
        assert not able.levels and "drops ALL capabilities" in able.refusal
        assert "drops ALL" in await actuator.prepare(await target(cluster, pod))
        answer = await actuator.carry_out(await target(cluster, pod), order(1, Level.DIRECT))
        assert answer.outcome is Outcome.FAILED
        tried = await exec_in(
            cluster.cluster, "default", "plain-0", "istio-proxy",
            ("pilot-agent", "istio-iptables", "-p", "15001", "--cleanup-only"),
        )  # fmt: skip
        assert tried.code == 0 and b"ermi" in tried.stderr, "what would become of it: refused, and exit code 0"
        assert rules(pod.pod).backends, "and nothing was cleaned"

    runner.run(story())


def test_ordinary_sidecar_with_a_helper_of_istios_image(
    cluster: SandboxCluster, client: Client, runner: asyncio.Runner
) -> None:
    async def story() -> None:
        pod = await cluster.pod("with-0", native=True)
        await pod.pod.ready()
        actuator, before = ExecActuator(cluster.cluster, own_container=True), rules(pod.pod).fingerprint
        await until_able(actuator, lambda: target(cluster, pod))
        opened = await actuator.carry_out(await target(cluster, pod), order(1, Level.DIRECT))
        assert opened.outcome is Outcome.DONE, opened
        assert (await client.ask(pod.pod.ip, 8080)).via == ""
        closed = await actuator.carry_out(await target(cluster, pod), order(2))
        assert closed.outcome is Outcome.DONE, closed
        assert rules(pod.pod).fingerprint == before
        assert await actuator.prepare(await target(cluster, pod)) == ""
        assert len((await target(cluster, pod)).manifest["spec"]["ephemeralContainers"]) == 1
        other = await HelperActuator(cluster.cluster, IMAGE).ability(await target(cluster, pod))
        assert "executable file not found" in other.refusal, "there is no room for hotswitch's own"

    runner.run(story())
