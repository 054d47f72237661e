"""Straight to the app, by the controller as it is shipped: clients told first, or Istio's own commands run (S4.3).

`direct` inbound by the gate: label, touch, istiod's word, and only then the gate; back in reverse. `exec` on a pod that
is captured by TPROXY, whose proxy is allowed to run Istio's clean-up: both ways at once, ended by the controller alone.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from hotswitch.api import names
from hotswitch.cluster.kinds import ENDPOINTSLICES
from hotswitch.decide.codes import Code
from hotswitch.model import Direction, Level
from hotswitch.sandbox.cluster.published import Published
from tests.agent.keeper import rules
from tests.mesh.stage import SHOP, Stage, staged
from tests.mesh.test_faults import command

pytestmark = pytest.mark.envoy
TIER = "tier-2-direct"
IN, OUT = Direction.INBOUND, Direction.OUTBOUND


def stages(runner: asyncio.Runner, **policy: Any) -> Iterator[Stage]:
    with ExitStack() as stack:
        within = staged(TIER, **policy)
        stage = runner.run(within.__aenter__())
        stack.callback(lambda: runner.run(within.__aexit__(None, None, None)))
        runner.run(stage.controller())
        yield stage


@pytest.fixture(scope="module")
def stage(runner: asyncio.Runner) -> Iterator[Stage]:
    levels = {"inbound": ["direct", "hold"], "outbound": ["direct", "hold"]}
    yield from stages(runner, levels=levels, actuators=["helper"])


@pytest.fixture(scope="module")
def by_exec(runner: asyncio.Runner) -> Iterator[Stage]:
    levels = {"inbound": ["direct", "hold"], "outbound": ["direct", "hold"]}
    yield from stages(runner, levels=levels, actuators=["exec"])


def label(stage: Stage, web: Published) -> str:
    return str(stage.pods[web.pod.name]["metadata"]["labels"][names.TLS_MODE_LABEL])


def told(stage: Stage, service: str) -> set[str]:
    """How istiod tells clients now to speak to the Service's endpoints."""
    return {
        each.tls_mode for each in stage.cluster.istiod.clusters()[f"outbound|8080||{service}.{SHOP}.svc.cluster.local"]
    }


async def touched(stage: Stage, service: str) -> list[str]:
    slices = await stage.cluster.cluster.list(ENDPOINTSLICES, SHOP)
    mine = [each["metadata"] for each in slices if each["metadata"]["labels"]["kubernetes.io/service-name"] == service]
    return [about.get("annotations", {}).get(names.TOUCHED, "") for about in mine]


def steps(stage: Stage, web: Published) -> list[str]:
    """As they were written down, in turn; none twice in a row."""
    found: list[str] = []
    for each in stage.written(web):
        if each.step and found[-1:] != [each.step]:
            found.append(each.step)
    return found


def test_meshed_clients_are_told_before_the_gate_opens(stage: Stage, runner: asyncio.Runner) -> None:  # S4.3, S4.5
    async def story() -> None:
        web = await stage.web("told-0")
        before = stage.rules(web)
        service = await stage.cluster.service("told", [web], publishNotReadyAddresses=True)
        client = await stage.cluster.box.meshed("teller")
        await client.start([service])
        await client.until_endpoints(service, 1)
        assert (await client.get(service)).via == "sidecar" and told(stage, "told") == {"istio"}
        async with await web.pod.faults.crash_loop():
            await stage.until(lambda: stage.levels(web).get(IN) is Level.DIRECT, "opened straight to the app")
            assert label(stage, web) == "disabled" and told(stage, "told") == {"disabled"}
            (mark,) = await touched(stage, "told")
            assert mark.startswith(f"{web.uid}/") and mark.endswith("/plain")
            answer = await client.get(service, timeout_s=10.0)
            assert (answer.status, answer.via) == (200, ""), "plaintext, past the dead proxy"
            assert steps(stage, web) == ["gate", "plain-label", "plain-touch", "plain-eds"]
            first = next(each for each in stage.written(web) if each.step == "plain-label")
            assert first.levels.get(IN) is not Level.DIRECT, "the gate before the label"
        await stage.captured(web)
        status = stage.status(web)
        assert label(stage, web) == "istio" and told(stage, "told") == {"istio"}
        assert status is not None and status.tls_mode_before is None
        assert steps(stage, web)[-3:] == ["mtls-label", "mtls-touch", "mtls-eds"]
        (mark,) = await touched(stage, "told")
        assert mark.endswith("/mtls") and stage.rules(web) == before  # I4
        await client.restart()
        await client.until_endpoints(service, 1)
        assert (await client.get(service, timeout_s=10.0)).via == "sidecar"

    runner.run(story())


def test_tproxy_sidecar_hangs_and_nobody_is_beside_it(by_exec: Stage, runner: asyncio.Runner) -> None:  # S4.2b, S4.3
    """The kubelet's probe of readiness is the second witness, and late; until then it is said that one alone has seen
    it. Envoy stands still, its container runs: Istio's commands can be run beside it."""

    async def story() -> None:
        stage = by_exec
        web = await stage.web(
            "hung-0", protected=False, interception="TPROXY", readiness_period_s=2.0, readiness_timeout_s=1.0
        )
        before = rules(web.pod).fingerprint
        client = await stage.cluster.box.client("to-hung")
        async with await web.pod.faults.hang():
            await stage.until(lambda: Code.NOT_SECONDED in stage.codes(web), "said that one alone has seen it")
            await stage.until(lambda: stage.levels(web) == {IN: Level.DIRECT, OUT: Level.DIRECT}, "opened by exec")
            status = stage.status(web)
            assert status is not None and (status.actuator, status.fault) == ("exec", "hung")
            assert stage.pods[web.pod.name]["metadata"]["labels"][names.OPENED_BY_LABEL] == "exec"
            answer = await client.ask(web.pod.ip, 8080, timeout_s=10.0)
            assert (answer.status, answer.via) == (200, "")
        await stage.captured(web)
        assert rules(web.pod).fingerprint == before  # I4
        assert names.OPENED_BY_LABEL not in stage.pods[web.pod.name]["metadata"]["labels"]
        assert not {"HSC003", Code.CUT} & set(stage.codes(web)), "all was done that was said to be, and at once"
        assert (await client.ask(web.pod.ip, 8080, timeout_s=10.0)).via == "sidecar"

    runner.run(story())


def test_tproxy_pod_is_opened_and_closed_by_istios_own_commands(by_exec: Stage, runner: asyncio.Runner) -> None:
    """By a person's order: which faults open is for other tests; this is about the commands. S4.3b, S4.6"""

    async def story() -> None:
        stage = by_exec
        web = await stage.web("tproxy-0", protected=False, interception="TPROXY")
        before = rules(web.pod).fingerprint
        client = await stage.cluster.box.client("to-tproxy")
        assert (await client.ask(web.pod.ip, 8080)).via == "sidecar"
        words = ("bypass", web.pod.name, "-n", SHOP, "--level", "direct", "--for", "10m", "--reason", "test")
        await command(stage, *words)
        await stage.until(lambda: stage.levels(web) == {IN: Level.DIRECT, OUT: Level.DIRECT}, "opened by exec")
        status = stage.status(web)
        assert status is not None and status.actuator == "exec" and "15001" not in stage.rules(web)
        answer = await client.ask(web.pod.ip, 8080, timeout_s=10.0)
        assert (answer.status, answer.via) == (200, "")
        await command(stage, "restore", web.pod.name, "-n", SHOP)
        await stage.captured(web)
        assert rules(web.pod).fingerprint == before  # I4: the same rules; which chain was made first is not kept
        assert (await client.ask(web.pod.ip, 8080, timeout_s=10.0)).via == "sidecar"

    runner.run(story())
