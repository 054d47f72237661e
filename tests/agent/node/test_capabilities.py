"""The DaemonSet has the capabilities it needs and no others: each is taken away, and something fails (S4.2)."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from hotswitch.sandbox.cluster.published import Published
from tests.agent.node.stage import PATIENCE_S, Stage, staged

pytestmark = [pytest.mark.netns, pytest.mark.envoy, pytest.mark.k8s]

POD, LEGACY = "shop/web-0", "shop/legacy-0"
NUMBERS = {
    "CHOWN": 0, "SETGID": 6, "SETUID": 7, "SETPCAP": 8,
    "NET_ADMIN": 12, "NET_RAW": 13, "SYS_PTRACE": 19, "SYS_ADMIN": 21,
}  # fmt: skip
Seen = Callable[[Stage, dict[str, Any]], bool]


def not_guarded(words: str) -> Seen:
    return lambda stage, pods: not pods and any(words in each.failed for each in stage.agent.entries())


def no_rescue(words: str) -> Seen:
    return lambda stage, pods: POD in pods and words in pods[POD]["rescue"] and pods[POD]["gate"] == "ready"


def legacy_refused(stage: Stage, pods: dict[str, Any]) -> bool:
    failed = [each.failed for each in stage.agent.entries(LEGACY)]
    return POD in pods and pods[POD]["gate"] == "ready" and any("iptables-legacy-save" in each for each in failed)


FAILS: dict[str, Seen] = {
    "NET_ADMIN": not_guarded("Operation not permitted"),
    "NET_RAW": legacy_refused,
    "SYS_ADMIN": not_guarded("setns: Operation not permitted"),
    "SYS_PTRACE": not_guarded("may not be asked"),
    "SETUID": no_rescue("does not start"),
    "SETGID": no_rescue("does not start"),
    "SETPCAP": no_rescue("does not start"),
    "CHOWN": no_rescue("does not start"),
}


@pytest.fixture(scope="module")
def stage(runner: asyncio.Runner) -> Iterator[Stage]:
    stack = staged()
    stage = runner.run(stack.__aenter__())
    try:

        async def settle() -> tuple[Published, ...]:
            return await stage.web("web-0"), await stage.web("legacy-0", backend="iptables-legacy")

        runner.run(settle())
        yield stage
    finally:
        runner.run(stack.__aexit__(None, None, None))


def test_it_has_what_the_manifest_says_and_it_is_enough(runner: asyncio.Runner, stage: Stage) -> None:
    listed = set(stage.agent.container["securityContext"]["capabilities"]["add"])
    assert listed == FAILS.keys()
    runner.run(stage.agent.guards(POD, LEGACY))
    status = Path(f"/proc/{stage.agent.agent_pid()}/status").read_text().splitlines()
    for kind in ("CapBnd", "CapPrm", "CapEff"):
        mask = next(int(line.split()[1], 16) for line in status if line.startswith(f"{kind}:"))
        assert mask == sum(1 << NUMBERS[name] for name in listed), kind
    assert "NoNewPrivs:\t1" in status


def test_it_hears_of_threads_that_end_though_it_sees_none(runner: asyncio.Runner, stage: Stage) -> None:  # S4.2a
    """One listener a CPU, in the container as it is shipped."""
    runner.run(stage.agent.guards(POD, LEGACY))
    held = [os.readlink(each) for each in Path(f"/proc/{stage.agent.agent_pid()}/fd").iterdir()]
    assert len([each for each in held if "perf_event" in each]) >= len(os.sched_getaffinity(0))


@pytest.mark.parametrize("capability", FAILS)
def test_without_each_something_fails_that_is_said(runner: asyncio.Runner, stage: Stage, capability: str) -> None:
    async def story() -> None:
        await stage.agent.stop()
        stage.agent.forget()
        stage.agent.without = (capability,)
        stage.agent.start()
        try:
            fails = FAILS[capability]
            await stage.agent.until(lambda pods: fails(stage, pods), f"fails without {capability}", PATIENCE_S)
        finally:
            await stage.agent.stop()
            stage.agent.without = ()

    runner.run(story())
