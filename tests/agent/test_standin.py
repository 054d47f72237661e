"""The app's rewritten probes while pilot-agent is gone: without the stand-in the kubelet kills a healthy app, with it
not; and what the app says of itself is passed on, be it good or bad (S4.2; architecture, "The whole switch" 5).
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from hotswitch.model import AGENT_STATUS, STAND_IN
from hotswitch.sandbox.ask import Answer, ask
from hotswitch.sandbox.kubelet import Timings
from hotswitch.sandbox.pod import LIVENESS_PATH, Pod
from hotswitch.sandbox.sandbox import Sandbox
from tests.agent.keeper import Keeper, gate_text, until

pytestmark = pytest.mark.envoy

PROBES = {"app_period_s": 1.0, "app_failures": 5, "liveness": True}  # killed after five seconds of refusals
LOOK_ON_S = 7.0
TIMINGS = Timings(backoff_first_s=60.0)  # the second restart waits so long: pilot-agent is away for all of a test
KINDS: dict[str, dict[str, Any]] = {"httpGet": {}, "tcpSocket": {"tcp": True}, "grpc": {"grpc": True}}


async def from_node(pod: Pod, path: str = LIVENESS_PATH, port: int = AGENT_STATUS, **more: Any) -> Answer:
    """As the kubelet asks. Raises OSError."""
    return await ask(pod.ip, port, path, netns=pod._node_netns, **more)


async def answers(pod: Pod, wanted: Callable[[int], bool]) -> bool:
    try:
        return wanted((await from_node(pod)).status)
    except OSError:
        return wanted(0)


@asynccontextmanager
async def kept(box: Sandbox, name: str, *pods: Pod, **app: Any) -> AsyncIterator[Keeper]:
    await asyncio.gather(*(pod.ready() for pod in pods))
    keeper = Keeper(box, pods, name)
    for pod in pods:
        keeper.pod_config(pod)["app"] |= app
    await keeper.guard()
    try:
        yield keeper
    finally:
        await keeper.heal()
        await keeper.stop()


async def away(keeper: Keeper, pod: Pod) -> None:
    """Killed twice: now the kubelet waits before it starts the sidecar again."""
    await keeper.cause(pod.faults.crash_loop())
    await pod.kubelet.until(lambda: pod.proxy.status.waiting == "CrashLoopBackOff")


def test_the_kubelet_kills_a_healthy_app_without_the_stand_in(box: Sandbox, runner: asyncio.Runner) -> None:
    async def scene() -> None:
        pod = await box.pod("alone-0", **PROBES, timings=TIMINGS)
        async with kept(box, "alone", pod, stand_in=False) as keeper:
            await away(keeper, pod)
            await pod.kubelet.until(lambda: pod.app.status.restart_count > 0)
            assert (await keeper.status(pod))["stand_in"] == "switched off"

    runner.run(scene())


@pytest.mark.parametrize("kind", KINDS)
def test_a_healthy_app_lives_on_while_pilot_agent_is_away(box: Sandbox, runner: asyncio.Runner, kind: str) -> None:
    async def scene() -> None:
        name = f"{kind.lower()}-0"
        pod = await box.pod(name, **PROBES, **KINDS[kind], probe=kind, timings=TIMINGS)
        async with kept(box, name, pod) as keeper:
            closed = gate_text(pod)
            await away(keeper, pod)
            begun = await keeper.until_entry(pod, "stand-in")
            assert begun.failed == "" and LIVENESS_PATH in begun.evidence["probes"]
            await until(lambda: answers(pod, lambda status: status == 200), "the app's health, by way of the stand-in")
            assert (await keeper.status(pod))["stand_in"] == "answers"
            await asyncio.sleep(LOOK_ON_S)  # that nothing happens can only be seen for a while
            assert pod.app.status.restart_count == 0, keeper.told(pod)
            assert pod.app.status.ready
            await keeper.heal()
            assert "listens" in (await keeper.until_entry(pod, "stand-in-ended")).why
            await keeper.until_rest(pod)
            duties = keeper.entries(pod, "stand-in-ended")  # one for each time that pilot-agent was back for a moment
            assert sum(int(duty.evidence.get("passed", "0")) for duty in duties) >= LOOK_ON_S / 2, duties
            assert gate_text(pod) == closed  # I4
            assert pod.app.status.restart_count == 0

    runner.run(scene())


@pytest.mark.parametrize("kind", KINDS)
def test_a_sick_app_is_still_said_to_be_sick(box: Sandbox, runner: asyncio.Runner, kind: str) -> None:
    async def scene() -> None:
        name = f"sick-{kind.lower()}-0"
        pod = await box.pod(name, **PROBES, **KINDS[kind], probe=kind, timings=TIMINGS)
        async with kept(box, name, pod) as keeper:
            await away(keeper, pod)
            await until(lambda: answers(pod, lambda status: status == 200), "well")
            sickness = "exit" if kind == "tcpSocket" else "error"
            if sickness == "exit":
                pod.app.process.signal(signal.SIGSTOP)  # the kernel goes on accepting: a tcpSocket probe is content
                assert await answers(pod, lambda status: status == 200)
                pod.app.process.signal(signal.SIGCONT)
            process = pod.app.process
            await keeper.cause(pod.faults.sicken_app(sickness))
            if sickness == "error":
                await until(lambda: answers(pod, lambda status: status == 500), "the app's own 500")
            await pod.kubelet.until(lambda: pod.app.process is not process)  # restarted, as it should be
            await until(lambda: answers(pod, lambda status: status == 200), "the new app is well")

    runner.run(scene())


def test_nothing_else_is_answered_and_nobody_else_let_in(box: Sandbox, runner: asyncio.Runner) -> None:
    async def scene() -> None:
        pod = await box.pod("strict-0", timings=TIMINGS)
        async with kept(box, "strict", pod) as keeper:
            with pytest.raises(ConnectionError):  # pilot-agent listens, and so we do not
                await pod.ask("127.0.0.1", STAND_IN, uid=0)
            await away(keeper, pod)
            await until(lambda: answers(pod, lambda status: status == 200), "well")
            assert (await from_node(pod, "/app-health/other/livez")).status == 404
            assert (await from_node(pod, "/healthz/ready")).status == 503
            assert (await from_node(pod, "/app-lifecycle/app/prestopz")).status == 503
            assert (await from_node(pod, "/")).status == 404
            assert (await from_node(pod, method="POST")).status == 405
            with pytest.raises(ConnectionError):  # to the stand-in's own port, from within: nobody was led here
                await pod.ask("127.0.0.1", STAND_IN, LIVENESS_PATH, uid=0)
            plan = await keeper.tell("plan", pod=pod.name)
            assert LIVENESS_PATH in plan["stand_in"][0]

    runner.run(scene())


def test_an_agent_that_is_killed_leaves_nothing_half_open(box: Sandbox, runner: asyncio.Runner) -> None:  # I1
    async def scene() -> None:
        pod = await box.pod("orphan-0", timings=TIMINGS)
        async with kept(box, "orphan", pod) as keeper:
            closed = gate_text(pod)
            await away(keeper, pod)
            await until(lambda: answers(pod, lambda status: status == 200), "well")
            await keeper.end(signal.SIGKILL)
            assert await answers(pod, lambda status: status == 0)  # at once as without us: refused
            await keeper.heal()
            await until(lambda: answers(pod, lambda status: status == 200), "pilot-agent itself, seconds later", 5.0)
            await keeper.begin()
            await keeper.until_rest(pod)
            assert gate_text(pod) == closed

    runner.run(scene())
