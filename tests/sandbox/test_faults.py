"""Each fault does what it says, seen from outside, and can be undone (the faults that S4 is about)."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from hotswitch.sandbox.clients import Client, MeshedClient
from hotswitch.sandbox.estate import process_state
from hotswitch.sandbox.faults import CORE_PATTERN, Fault, FaultUnavailable
from hotswitch.sandbox.outcome import Kind
from hotswitch.sandbox.pod import Pod
from hotswitch.sandbox.registry import Service
from hotswitch.sandbox.sandbox import Sandbox
from hotswitch.sandbox.squeeze import Squeeze

pytestmark = pytest.mark.envoy

PATIENCE_S = 0.3


@dataclass(frozen=True)
class Stage:
    pod: Pod
    client: Client
    meshed: MeshedClient
    service: Service

    async def served(self) -> str:
        """Who answers a plain client, or how it fails."""
        return await _told(self.client.ask(self.pod.ip, 8080, timeout_s=PATIENCE_S))

    async def health(self) -> str:
        return await _told(self.client.ask(self.pod.ip, 15021, "/healthz/ready", timeout_s=PATIENCE_S))

    async def mesh(self) -> str:
        return await _told(self.meshed.get(self.service, timeout_s=PATIENCE_S))

    async def shows(self, served: str, health: str) -> None:
        """Traffic and 15021 come to look like this."""
        seen = ("", "")
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(10):
                while seen != (served, health):
                    seen = (await self.served(), await self.health())
        assert seen == (served, health)


async def _told(question: Coroutine[Any, Any, Any]) -> str:
    try:
        answer = await question
    except TimeoutError:
        return "timeout"
    except ConnectionRefusedError:
        return "refused"
    except ConnectionError:
        return "reset"
    return f"{answer.status} {answer.via}".strip()


@pytest.fixture(scope="module")
def stage(box: Sandbox, runner: asyncio.Runner) -> Stage:
    async def build() -> Stage:
        pod = await box.pod("web-0")
        service = await box.service("web", [pod], publish="all")
        stage = Stage(pod, await box.client("plain"), await box.meshed("meshed"), service)
        await pod.ready()
        return stage

    return runner.run(build())


async def _undone(stage: Stage, fault: Fault) -> None:
    await fault.undo()
    await stage.shows("200 sidecar", "200")
    await fault.undo()  # may be repeated


def test_killed(stage: Stage, runner: asyncio.Runner) -> None:
    async def story() -> None:
        restarts = stage.pod.proxy.status.restart_count
        fault = await stage.pod.faults.kill()
        await stage.pod.kubelet.until(lambda: not stage.pod.proxy.status.running)
        assert time.monotonic() - fault.at_s < 1.5, "the relist notices within a second"
        assert await stage.served() == "refused"
        assert not stage.pod.is_ready
        last = stage.pod.proxy.status.last_state
        assert last is not None
        assert last.exit_code == 0, "pilot-agent ends well whatever killed Envoy (facts/istio.md 5)"
        assert last.message == "envoy ended with signal SIGKILL"
        await _undone(stage, fault)
        assert stage.pod.proxy.status.restart_count == restarts + 1

    runner.run(story())


def test_hangs(stage: Stage, runner: asyncio.Runner) -> None:
    async def story() -> None:
        fault = await stage.pod.faults.hang()
        await stage.shows("timeout", "timeout")  # the kernel accepts, nobody answers
        pid = stage.pod.envoy_pid
        assert pid is not None and process_state(pid) == "T"
        answer = await stage.client.ask(stage.pod.ip, 15020, "/healthz/ready")
        assert answer.status == 200, "pilot-agent does not see a hang (facts/istio.md 5)"
        await _undone(stage, fault)

    runner.run(story())


def test_one_worker_of_two_is_stuck(stage: Stage, runner: asyncio.Runner) -> None:
    async def story() -> None:
        fault = await stage.pod.faults.stick_worker()
        run = stage.client.load((stage.pod.ip, 8080), rate=100, seconds=2, timeout_s=0.5)
        summary = (await run.results()).summary()
        assert set(summary.kinds) == {Kind.VIA_PROXY, Kind.TIMEOUT}
        assert 0.3 < summary.kinds[Kind.TIMEOUT] / summary.requests < 0.7, str(summary)
        pid = stage.pod.envoy_pid
        assert pid is not None and process_state(pid) in "RS", "the process as a whole goes on"
        await _undone(stage, fault)

    runner.run(story())


def test_core_is_dumped(stage: Stage, runner: asyncio.Runner) -> None:
    async def story() -> None:
        if CORE_PATTERN.read_text().startswith(("|", "/")):
            with pytest.raises(FaultUnavailable, match="core_pattern"):
                await stage.pod.faults.dump_core()
            return
        fault = await stage.pod.faults.dump_core()
        await stage.pod.kubelet.until(lambda: not stage.pod.proxy.status.running)
        last = stage.pod.proxy.status.last_state
        assert last is not None and last.message == "envoy ended with signal SIGSEGV"
        [core] = stage.pod.faults.cores()
        assert core.stat().st_size > 50 << 20 and core.read_bytes()[:4] == b"\x7fELF"
        await _undone(stage, fault)
        assert stage.pod.faults.cores() == []

    runner.run(story())


def test_killed_for_memory(stage: Stage, runner: asyncio.Runner) -> None:
    async def story() -> None:
        squeeze = Squeeze(stage.pod.proxy_cgroups)
        kills = squeeze.oom_kills()
        fault = await stage.pod.faults.exhaust_memory()
        await stage.pod.kubelet.until(lambda: not stage.pod.proxy.status.running)
        assert squeeze.oom_kills() > kills
        last = stage.pod.proxy.status.last_state
        assert last is not None and last.message == "envoy ended with signal SIGKILL"
        await _undone(stage, fault)

    runner.run(story())


def test_throttled(stage: Stage, runner: asyncio.Runner) -> None:
    async def story() -> None:
        squeeze = Squeeze(stage.pod.proxy_cgroups)
        fault = await stage.pod.faults.throttle(cpus=0.05)
        before = squeeze.throttled()
        run = stage.client.load((stage.pod.ip, 8080), rate=200, seconds=1)
        summary = (await run.results()).summary()
        assert squeeze.throttled() > before
        assert Kind.VIA_PROXY in summary.kinds, "slow, not broken"
        await _undone(stage, fault)
        since = squeeze.throttled()
        await stage.client.load((stage.pod.ip, 8080), rate=200, seconds=0.5).results()
        assert squeeze.throttled() == since

    runner.run(story())


def test_says_it_is_not_ready(stage: Stage, runner: asyncio.Runner) -> None:
    async def story() -> None:
        fault = await stage.pod.faults.say_unready()
        await stage.shows("200 sidecar", "503")
        await _undone(stage, fault)

    runner.run(story())


def test_listener_loses_the_app(stage: Stage, runner: asyncio.Runner) -> None:
    async def story() -> None:
        fault = await stage.pod.faults.break_listener()
        await stage.shows("503 sidecar", "200")
        await _undone(stage, fault)

    runner.run(story())


@pytest.mark.parametrize(("inbound_only", "health"), [(True, "200"), (False, "refused")])
def test_drained(stage: Stage, runner: asyncio.Runner, inbound_only: bool, health: str) -> None:
    async def story() -> None:
        fault = await stage.pod.faults.drain(inbound_only=inbound_only)
        await stage.shows("refused", health)
        assert stage.pod.envoy_pid is not None, "alive"
        await _undone(stage, fault)

    runner.run(story())


def test_restarted_without_listeners(stage: Stage, runner: asyncio.Runner) -> None:
    async def story() -> None:
        fault = await stage.pod.faults.restart_without_lds()
        await stage.shows("refused", "503")
        assert stage.pod.envoy_pid is not None
        await _undone(stage, fault)

    runner.run(story())


def test_certificate_expires(box: Sandbox, stage: Stage, runner: asyncio.Runner) -> None:
    """S4.2c: only mTLS fails, on new connections (the old client may have one from before on some of its workers)."""

    async def story() -> None:
        assert await stage.mesh() == "200 sidecar"
        fault = await stage.pod.faults.expire_certificate()
        newcomer = await box.meshed("newcomer")
        async with asyncio.timeout(10):
            while await _told(newcomer.get(stage.service)) != "503":  # Envoy takes the new secret a moment later
                await newcomer.restart()
            await stage.shows("200 sidecar", "200")
            await _undone(stage, fault)
            while (told := await _told(newcomer.get(stage.service))) != "200 sidecar":
                assert told == "503"

    runner.run(story())


def test_app_is_the_sick_one(stage: Stage, runner: asyncio.Runner) -> None:
    async def story() -> None:
        fault = await stage.pod.faults.sicken_app("silent")
        await stage.shows("timeout", "200")
        assert await _told(stage.pod.ask(stage.pod.ip, 8080, timeout_s=PATIENCE_S)) == "timeout", "directly too"
        await _undone(stage, fault)
        fault = await stage.pod.faults.sicken_app("error")
        await stage.shows("500 sidecar", "200")
        await _undone(stage, fault)

    runner.run(story())


def test_app_leaves(stage: Stage, runner: asyncio.Runner) -> None:
    async def story() -> None:
        fault = await stage.pod.faults.sicken_app("exit")
        await stage.pod.kubelet.until(lambda: not stage.pod.app.status.running)
        last = stage.pod.app.status.last_state
        assert last is not None and last.exit_code == 3
        await stage.shows("503 sidecar", "200")
        await _undone(stage, fault)

    runner.run(story())


def test_fault_of_a_dead_sidecar_is_refused(stage: Stage, runner: asyncio.Runner) -> None:
    async def story() -> None:
        fault = await stage.pod.faults.kill()
        await stage.pod.kubelet.until(lambda: not stage.pod.proxy.status.running)
        with pytest.raises(FaultUnavailable, match="web-0: Envoy does not run"):
            await stage.pod.faults.hang()
        await fault.undo()

    runner.run(story())


def test_machine_is_as_before(stage: Stage) -> None:
    assert not list(Path(stage.pod.proxy_directory).glob("core*"))
