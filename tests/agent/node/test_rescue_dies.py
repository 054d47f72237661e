"""The rescue of a node dies under a pod that is led to it: once, and again inside the hold-down (S4.4, I3)."""

from __future__ import annotations

import asyncio
import os
import signal
from contextlib import suppress
from pathlib import Path

import pytest

from hotswitch.decide.codes import Code
from hotswitch.sandbox.estate import ProcessId
from tests.agent.keeper import until
from tests.agent.node.stage import PATIENCE_S, Stage, levels, rules, served, staged

pytestmark = [pytest.mark.netns, pytest.mark.envoy, pytest.mark.k8s]


def rescue(stage: Stage) -> list[ProcessId]:
    """The spare Envoy, as the machine numbers it; none while there is none."""
    found = []
    for pid in stage.agent.pids():
        with suppress(FileNotFoundError, ProcessLookupError):  # one that has ended since it was listed
            words = Path(f"/proc/{pid}/cmdline").read_bytes()
            if b"bootstrap.json" in words and b"launch.py" not in words:
                found.append(ProcessId.of(pid))
    return found


async def killed(stage: Stage) -> None:
    """And there is another one."""
    (envoy,) = rescue(stage)
    died = len([each for each in stage.agent.entries() if each.event == "rescue-died"])
    os.kill(envoy.pid, signal.SIGKILL)
    await until(lambda: not envoy.alive, "the rescue does not end")
    await until(
        lambda: len([each for each in stage.agent.entries() if each.event == "rescue-died"]) > died, stage.agent.words
    )
    await until(lambda: rescue(stage), "no other rescue is started")
    await stage.agent.until(lambda pods: pods["shop/web-0"]["rescue"] == "ready", "the rescue is back")


def test_the_rescue_dies_twice_inside_the_hold_down(runner: asyncio.Runner) -> None:
    """Once: led there again as soon as it is back. Twice: held, captured for new flows, and a person is called."""

    async def story() -> None:
        async with staged(hold_down_s=PATIENCE_S, hold_down_max_s=PATIENCE_S, outbound=["hold"]) as stage:
            web = await stage.web("web-0")
            await stage.agent.guards("shop/web-0")
            before = rules(web)
            fault = await web.pod.faults.hang()
            await stage.agent.until(levels(web, "rescue"), "rescued")
            await killed(stage)
            await stage.agent.until(levels(web, "rescue"), "rescued again")
            await served(stage, web)
            await killed(stage)
            await stage.agent.until(levels(web, "hold"), "held")
            await until(lambda: [each for each in pages(stage) if each == Code.RESCUE_DIED_TWICE], stage.agent.words)
            assert rules(web) == before  # I4: no gate leads to a rescue that cannot be trusted
            await fault.undo()
            await stage.agent.until(levels(web, "capture"), "captured")
            await web.pod.ready(PATIENCE_S)
            answer = await stage.client.ask(web.pod.ip, 8080, timeout_s=PATIENCE_S)
            assert (answer.status, answer.via) == (200, "sidecar")

    runner.run(story())


def pages(stage: Stage) -> list[str]:
    return [each.code for each in stage.agent.entries("shop/web-0") if each.event == "page"]
