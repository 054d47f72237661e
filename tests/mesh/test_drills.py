"""Pods without an agent are drilled by the helper in them, as the leader orders it (S4.4, S4.6, I2, I3, I6, I8)."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from pathlib import Path

import pytest

from hotswitch.api import names
from hotswitch.api.drills import DrillOrder, DrillRecord, read_record, text_of
from hotswitch.api.values import shown_instant
from hotswitch.cluster.kinds import PODS
from hotswitch.decide.codes import Code
from hotswitch.model import Level
from hotswitch.sandbox.cluster.installed import Controller
from hotswitch.sandbox.cluster.published import Published
from tests.mesh.stage import SHOP, Stage, staged

pytestmark = [pytest.mark.netns, pytest.mark.envoy, pytest.mark.k8s]


def record(stage: Stage, web: Published) -> DrillRecord | None:
    metadata = stage.pods[web.pod.name]["metadata"]
    return read_record(metadata.get("annotations", {}), metadata["uid"])


async def order(stage: Stage, web: Published, for_s: float = 2.0) -> str:
    """A person's, as the command writes it."""
    said = DrillOrder(id=f"o-{time.monotonic_ns()}", at=shown_instant(time.time()), for_s=for_s, by="ann")
    body = {"metadata": {"annotations": {names.DRILL_ORDER: text_of(said)}}}
    await stage.cluster.cluster.patch_merge(PODS, SHOP, web.pod.name, body)
    return said.id


async def ended(stage: Stage, web: Published, order: str, *results: str) -> DrillRecord:
    def told() -> bool:
        known = record(stage, web)
        return known is not None and known.id == order and not known.under_way

    await stage.until(told, f"{web.pod.name}: the drill has ended; {record(stage, web)}")
    found = record(stage, web)
    assert found is not None and found.result in results, (found.result, found.why)
    return found


async def under_way(stage: Stage, web: Published, order: str) -> None:
    """And the gate is open: by the kernel, for the helper tells the controller later."""

    def told() -> bool:
        known = record(stage, web)
        return known is not None and known.id == order and known.under_way

    await stage.until(told, "it was ordered")
    async with asyncio.timeout(30):
        while "HSD005" not in stage.rules(web):
            await asyncio.sleep(0.05)


async def metrics(controller: Controller) -> str:
    return (await controller.get("/metrics")).body.decode()


def test_by_hand_and_nobody_loses_a_request() -> None:
    async def story() -> None:
        async with staged() as stage:
            controller = await stage.controller()
            web, client = await stage.web("web-0"), await stage.cluster.box.client("outside")
            before = stage.rules(web)
            load = client.load((web.pod.ip, 8080), rate=20.0, seconds=12.0, timeout_s=5.0)
            await load.begun()
            passed = await ended(stage, web, await order(stage, web), "passed")
            assert (passed.lost, passed.by, passed.actuator) == (0, "ann", "helper") and passed.served > 5, passed
            assert passed.open_ms and passed.restore_ms and passed.passed
            assert (await load.results()).summary().failed == 0
            assert stage.rules(web) == before  # I4
            await stage.until(lambda: Code.DRILL_PASSED in stage.codes(web), "Event")
            told = await metrics(controller)
            assert 'hotswitch_drills_total{result="passed",workload="shop/deploy/web-0"} 1.0' in told
            assert 'hotswitch_drill_failed{workload="shop/deploy/web-0"} 0.0' in told
            again = await ended(stage, web, await order(stage, web), "passed")  # generations go on
            assert again.id != passed.id and stage.rules(web) == before

    asyncio.run(story())


def test_in_their_turn() -> None:
    async def story() -> None:
        async with staged(drill={"every": "60s", "for": "1s"}) as stage:
            await stage.controller()
            web = await stage.web("web-0")
            await stage.until(lambda: (known := record(stage, web)) and known.result, "its turn came", 90.0)
            known = record(stage, web)
            assert known is not None and (known.by, known.result, known.for_s) == ("schedule", "passed", 1.0), known

    asyncio.run(story())


def test_the_proxy_dies_in_the_midst() -> None:
    """The evidence decides: the pod stays open, and is restored as after any fault."""

    async def story() -> None:
        async with staged() as stage:
            await stage.controller()
            web, client = await stage.web("web-0"), await stage.cluster.box.client("outside")
            before = stage.rules(web)
            said = await order(stage, web, 30.0)
            await under_way(stage, web, said)
            fault = await web.pod.faults.crash_loop()
            interrupted = await ended(stage, web, said, "interrupted")
            assert "in earnest" in interrupted.why, interrupted
            await stage.until(lambda: stage.is_open(web, Level.RESCUE), "the controller has it open")
            answer = await client.ask(web.pod.ip, 8080, timeout_s=30.0)
            assert (answer.status, answer.via) == (200, "")
            await fault.undo()
            await stage.captured(web)
            assert stage.rules(web) == before

    asyncio.run(story())


def test_a_rescue_that_is_stuck_fails_the_drill_and_people_are_told() -> None:
    async def story() -> None:
        async with staged() as stage:
            controller = await stage.controller()
            web = await stage.web("web-0")
            rescue = rescue_of(web)
            os.kill(rescue, signal.SIGSTOP)
            try:
                failed = await ended(stage, web, await order(stage, web), "failed")
            finally:
                os.kill(rescue, signal.SIGCONT)
            assert "nothing was opened" in failed.why and not failed.passed, failed
            await stage.until(lambda: Code.DRILL_FAILED in stage.codes(web), "Event")
            assert 'hotswitch_drill_failed{workload="shop/deploy/web-0"} 1.0' in await metrics(controller)

    asyncio.run(story())


def rescue_of(web: Published) -> int:
    """The Envoy of the helper: it lives in the pod's network, and is not the proxy."""
    wanted = os.stat(f"/proc/{web.pod.envoy_pid}/ns/net").st_ino
    for each in Path("/proc").iterdir():
        if each.name.isdigit() and int(each.name) != web.pod.envoy_pid:
            try:
                there, name = os.stat(each / "ns/net").st_ino, (each / "comm").read_text().strip()
            except OSError:
                continue
            if there == wanted and name == "envoy":
                return int(each.name)
    raise AssertionError("no rescue runs")


def test_the_leader_is_killed_in_the_midst() -> None:  # I1, I6
    """The next one hears from the helper how it ended, and orders no second one."""

    async def story() -> None:
        async with staged() as stage:
            first = await stage.controller()
            await stage.controller()
            web = await stage.web("web-0")
            assert await stage.leader() is first
            said = await order(stage, web, 20.0)
            await under_way(stage, web, said)
            await first.stop(0.0)
            stage.controllers.remove(first)
            passed = await ended(stage, web, said, "passed")
            assert passed.term == 1 and passed.served > 5, passed

    asyncio.run(story())


@pytest.mark.parametrize(
    ("actuators", "why"),
    [
        (["exec"], "no rescue: exec: "),
        (["agent"], "no agent looks after it, and its settings name nobody else who could drill it"),
    ],
)
def test_who_has_no_rescue_is_refused(actuators: list[str], why: str) -> None:  # I2
    async def story() -> None:
        async with staged(actuators=actuators) as stage:
            await stage.controller()
            web = await stage.web("web-0", protected=False)
            before = stage.rules(web)
            refused = await ended(stage, web, await order(stage, web), "refused")
            assert refused.why.startswith(why) and not refused.ran, refused
            await stage.until(lambda: Code.DRILL_REFUSED in stage.codes(web), "Event")
            assert stage.rules(web) == before

    asyncio.run(story())


def test_an_open_pod_of_the_mesh_forbids_it() -> None:  # I3
    async def story() -> None:
        async with staged() as stage:
            await stage.controller()
            web, other = await stage.web("web-0"), await stage.web("other-0")
            fault = await other.pod.faults.crash_loop()
            await stage.until(lambda: stage.is_open(other), "the other one is open")
            refused = await ended(stage, web, await order(stage, web), "refused")
            assert refused.why == "shop/other-0 is open", refused
            await fault.undo()

    asyncio.run(story())
