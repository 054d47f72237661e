"""Actuator `helper` on real pods: put there through the API, asked and ordered by exec (S4.2, S4.3)."""

from __future__ import annotations

import asyncio
import os
import signal
from dataclasses import replace
from typing import Any

import pytest

from hotswitch.act.helper import HelperActuator
from hotswitch.act.order import Ability, Outcome
from hotswitch.cluster.exec import ExecOutcome, Executed, exec_in
from hotswitch.model import Fault, Level, PodUid
from hotswitch.sandbox.cluster.cluster import SandboxCluster
from hotswitch.sandbox.cluster.published import Published
from tests.act.targets import IMAGE, order, target, until_able

pytestmark = pytest.mark.envoy

LOST = Executed(ExecOutcome.UNKNOWN, None, b"", b"", "the connection ended before it was said how the command ended")


def rescues(able: Ability) -> bool:
    """And it has seen the proxy well: one that never was is taken to be starting, not dead."""
    seen = able.truth.diagnosis if able.truth else None
    return bool(able.levels) and not able.rescue_refusal and seen is not None and seen.fault is Fault.WELL


@pytest.fixture(scope="module")
def web(cluster: SandboxCluster, runner: asyncio.Runner) -> Published:
    """A native sidecar, and a helper that could rescue."""

    async def build() -> Published:
        web = await cluster.pod("web-0", native=True)
        await web.pod.ready()
        await until_able(HelperActuator(cluster.cluster, IMAGE), lambda: target(cluster, web), rescues)
        return web

    return runner.run(build())


async def newest(cluster: SandboxCluster, pod: Published) -> int:
    able = await HelperActuator(cluster.cluster, IMAGE).ability(await target(cluster, pod))
    assert able.truth is not None
    return able.truth.generation


def test_dead_sidecar_is_seen_and_rescued(cluster: SandboxCluster, web: Published, runner: asyncio.Runner) -> None:
    async def story() -> None:
        helper = HelperActuator(cluster.cluster, IMAGE)
        client = await cluster.box.client("plain")
        fault = await web.pod.faults.crash_loop()

        def dead(able: Ability) -> bool:
            return bool(able.truth and able.truth.diagnosis and able.truth.diagnosis.fault is Fault.DEAD)

        able = await until_able(helper, lambda: target(cluster, web), dead)
        assert able.truth and set(able.truth.levels.values()) == {Level.CAPTURE}
        opened = await helper.carry_out(await target(cluster, web), order(able.truth.generation + 1, Level.RESCUE))
        assert opened.outcome is Outcome.DONE, opened
        assert opened.truth and set(opened.truth.levels.values()) == {Level.RESCUE}
        assert (await client.ask(web.pod.ip, 8080)).json()["peer"].startswith("127.0.0.6:")
        await fault.undo()
        await web.pod.ready()
        closed = await helper.carry_out(await target(cluster, web), order(opened.truth.generation + 1))
        assert closed.truth and set(closed.truth.levels.values()) == {Level.CAPTURE}
        assert closed.truth.istio_rules == able.truth.istio_rules, "Istio's rules are what they were"  # I4
        assert (await client.ask(web.pod.ip, 8080)).via == "sidecar"

    runner.run(story())


def test_exec_is_lost_on_the_way(cluster: SandboxCluster, web: Published, runner: asyncio.Runner) -> None:
    """Carried out and not heard of: the kernel is asked. Not carried out: nothing is claimed."""

    async def story() -> None:
        async def lost_after(*args: Any, **more: Any) -> Executed:
            done = await exec_in(*args, **more)
            return LOST if args[4][1] == "order" else done

        async def lost_before(*args: Any, **more: Any) -> Executed:
            return LOST if args[4][1] == "order" else await exec_in(*args, **more)

        number = await newest(cluster, web)
        answer = await HelperActuator(cluster.cluster, IMAGE, lost_after).carry_out(
            await target(cluster, web), order(number + 1, Level.RESCUE)
        )
        assert answer.outcome is Outcome.DONE and "the kernel shows it" in answer.sentence
        answer = await HelperActuator(cluster.cluster, IMAGE, lost_before).carry_out(
            await target(cluster, web), order(number + 2)
        )
        assert answer.outcome is Outcome.UNKNOWN
        assert answer.truth and set(answer.truth.levels.values()) == {Level.RESCUE}
        again = await HelperActuator(cluster.cluster, IMAGE).carry_out(await target(cluster, web), order(number + 2))
        assert again.outcome is Outcome.DONE, "the same order, sent again"

    runner.run(story())


def test_order_for_a_pod_that_was_replaced(cluster: SandboxCluster, web: Published, runner: asyncio.Runner) -> None:
    async def story() -> None:  # I6
        helper, known = HelperActuator(cluster.cluster, IMAGE), await target(cluster, web)
        stale = replace(known, pod=replace(known.pod, uid=PodUid("of-the-one-before")))
        number = await newest(cluster, web)
        answer = await helper.carry_out(stale, order(number + 1, Level.DIRECT))
        assert answer.outcome is Outcome.REFUSED and "not this pod" in answer.sentence
        assert "another pod" in (await helper.ability(stale)).refusal

    runner.run(story())


def test_a_second_helper_is_never_made(cluster: SandboxCluster, web: Published, runner: asyncio.Runner) -> None:
    async def story() -> None:
        helper = HelperActuator(cluster.cluster, IMAGE)
        without = dict((await target(cluster, web)).manifest)
        without["spec"] = {k: v for k, v in without["spec"].items() if k != "ephemeralContainers"}
        stale = replace(await target(cluster, web), manifest=without)  # a look at the pod from before
        await helper.prepare(stale)
        manifest = (await target(cluster, web)).manifest
        assert len(manifest["spec"]["ephemeralContainers"]) == 1

    runner.run(story())


def test_helper_that_has_ended_is_said_and_left(cluster: SandboxCluster, runner: asyncio.Runner) -> None:
    async def story() -> None:
        pod = await cluster.pod("old-0")
        await pod.pod.ready()
        helper = HelperActuator(cluster.cluster, IMAGE)
        await until_able(helper, lambda: target(cluster, pod))
        process = pod.ephemeral["hotswitch-helper"].process
        assert process is not None
        os.kill(process.pid, signal.SIGKILL)
        gone = await until_able(helper, lambda: target(cluster, pod), lambda able: "has ended" in able.refusal)
        assert "never starts again" in gone.refusal
        assert "has ended" in await helper.prepare(await target(cluster, pod))
        answer = await helper.carry_out(await target(cluster, pod), order(1, Level.DIRECT))
        assert answer.outcome is Outcome.FAILED
        assert len((await target(cluster, pod)).manifest["spec"]["ephemeralContainers"]) == 1

    runner.run(story())


def test_image_that_cannot_be_pulled(cluster: SandboxCluster, runner: asyncio.Runner) -> None:
    async def story() -> None:
        pod = await cluster.pod("wrong-0")
        await pod.pod.ready()
        helper = HelperActuator(cluster.cluster, "registry.test/no-such:1")
        await helper.prepare(await target(cluster, pod))

        def told(able: Ability) -> bool:
            return "ErrImagePull" in able.refusal

        await until_able(helper, lambda: target(cluster, pod), told)

    runner.run(story())


def test_plan_can_be_typed(cluster: SandboxCluster, web: Published, runner: asyncio.Runner) -> None:
    async def planned() -> list[str]:
        return HelperActuator(cluster.cluster, IMAGE).plan(await target(cluster, web), order(7, Level.RESCUE))

    (command,) = runner.run(planned())
    assert command.startswith("kubectl exec -i -n default web-0 -c hotswitch-helper -- hotswitch order <<'EOF'")
