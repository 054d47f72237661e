"""A drill in whose midst somebody goes, changes, or cannot write (I1, I2, I6, I8)."""

from __future__ import annotations

import asyncio
import time
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from hotswitch.api.drills import DrillRecord
from hotswitch.api.values import shown_instant
from hotswitch.cluster.client import Cluster
from hotswitch.cluster.failure import ApiFailure
from hotswitch.cluster.lease import Elector
from hotswitch.cluster.pods import Pod
from hotswitch.controller.drills.record import write
from hotswitch.decide.codes import Code
from hotswitch.decide.drill import Schedule, turn_s
from tests.controller.agency import agent_pod, link, running, token_of
from tests.controller.drilling import BY_SCHEDULE, EVERY_S, attached, ended, heeded, metric, order, record, soon
from tests.controller.test_agents import leads, may_open, run, serving
from tests.controller.town import Town

pytestmark = pytest.mark.k8s


def test_another_controller_leads_while_a_drill_is_under_way(tmp_path: Path) -> None:  # I6
    """It orders no second one, and hears from the agent how the first one ended."""

    async def story(made: Town, tls: Path) -> None:
        async with AsyncExitStack() as first:
            old = await first.enter_async_context(serving(made, tls, "c0"))
            await leads(made, old)
            async with serving(made, tls, "c1") as new:
                await made.until(lambda: new.office.port, "serves")
                both = tuple(f"127.0.0.1:{each.office.port}" for each in (old, new))
                settings = link(made, old, tls, token_of(made, agent_pod(made)), addresses=both)
                async with running(settings) as node:
                    guard = node.attach("web-0", await made.pod("web-0"))
                    await made.until(lambda: may_open(node, guard.pod.uid), "granted")
                    said = order(made, "web-0")
                    await heeded(made, guard)
                    await first.aclose()
                    await leads(made, new)
                    await made.until(lambda: new.office.told(guard.pod.uid), "the new one is told")
                    under_way = record(made, "web-0")
                    assert under_way is not None and under_way.under_way and under_way.term == 1
                    guard.ends("passed")
                    await ended(made, "web-0", said.id, "passed")
                    second = order(made, "web-0")
                    told = await ended(made, "web-0", second.id, "refused")
                    assert "the leader is new" in told.why and told.ran
                    assert len(guard.orders) == 1

    run(story, tmp_path)


def test_the_agent_is_killed_in_the_midst(tmp_path: Path) -> None:  # I1, I6
    """With what it kept its successor knows that the order was heard, and drills no second time."""

    async def story(made: Town, tls: Path) -> None:
        uid = await made.pod("web-0")
        async with serving(made, tls) as controller:
            await leads(made, controller)
            settings = link(made, controller, tls, token_of(made, agent_pod(made)), kept=tmp_path / "kept")
            async with running(settings) as node:
                guard = node.attach("web-0", uid)
                await made.until(lambda: may_open(node, uid), "granted")
                said = order(made, "web-0")
                await heeded(made, guard)
            async with running(settings) as node:
                guard = node.attach("web-0", uid)
                told = await ended(made, "web-0", said.id, "failed")
                assert "the agent ended" in told.why and guard.drilled is not None
                assert metric(controller, "hotswitch_drill_failed", workload="shop/deploy/web") == 1

    run(story, tmp_path)


def test_the_agents_pod_is_another_one_in_the_midst(tmp_path: Path) -> None:  # I1, I6
    """It remembers nothing: it is not given the order again, and the drill has failed."""

    async def story(made: Town, tls: Path) -> None:
        uid = await made.pod("web-0")
        async with serving(made, tls) as controller:
            await leads(made, controller)
            settings = link(made, controller, tls, token_of(made, agent_pod(made)))
            async with running(settings) as node:
                guard = node.attach("web-0", uid)
                await made.until(lambda: may_open(node, uid), "granted")
                said = order(made, "web-0")
                await heeded(made, guard)
            async with running(settings) as node:
                guard = node.attach("web-0", uid)
                told = await ended(made, "web-0", said.id, "failed")
                assert "another one is there now" in told.why
                await made.until(lambda: Code.DRILL_FAILED in made.codes("web-0"), "Event")
                assert not guard.orders

    run(story, tmp_path)


WRITE = "hotswitch.controller.drills.record.write"


def test_pods_that_cannot_be_written_keep_no_other_from_its_turn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:  # S4.4
    refused: set[str] = set()

    async def some(cluster: Cluster, pod: Pod, content: DrillRecord) -> None:
        if pod.metadata.name != willing[0] or len(refused) < 2:
            refused.add(pod.metadata.name)
            raise ApiFailure(422, "Invalid", "a webhook says no")
        await write(cluster, pod, content)

    monkeypatch.setattr(WRITE, some)
    willing: list[str] = []

    async def story(made: Town, tls: Path) -> None:
        async with serving(made, tls) as controller:
            await leads(made, controller)
            async with running(link(made, controller, tls, token_of(made, agent_pod(made)))) as node:
                late = node.attach("late-0", await made.pod("late-0", "late"), "deploy/late")
                in_turn, other = sorted(
                    soon(2), key=lambda each: turn_s(Schedule(EVERY_S), f"shop/deploy/{each}", time.time())
                )
                willing.append(f"{other}-0")
                guards = [
                    node.attach(f"{each}-0", await made.pod(f"{each}-0", each), f"deploy/{each}")
                    for each in (in_turn, other)
                ]
                order(made, late.pod.name, at=shown_instant(time.time() - 3600))
                await made.until(lambda: refused >= {"late-0", f"{in_turn}-0"}, "not written")
                await heeded(made, guards[1])
                assert not guards[0].orders and not late.orders

    run(story, tmp_path, policy=BY_SCHEDULE)


def test_who_does_not_lead_any_more_writes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:  # I6
    """As after its process stood still: its lease is over before it could be told."""

    async def story(made: Town, tls: Path) -> None:
        async with serving(made, tls) as controller:
            await leads(made, controller)
            async with running(link(made, controller, tls, token_of(made, agent_pod(made)))) as node:
                guard = await attached(made, node)
                monkeypatch.setattr(Elector, "leading", property(lambda _: False))
                order(made, "web-0")
                drills = controller.drills
                await made.until(lambda: guard.pod.uid in drills._town.said, "the order is seen")
                await drills._look()
                await drills._look()
                assert record(made, "web-0") is None and not guard.orders
                monkeypatch.undo()

    run(story, tmp_path)


def test_the_pod_goes_while_its_drill_is_written_down(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:  # I8
    """Nobody is paged of a drill that was never begun."""

    async def story(made: Town, tls: Path) -> None:
        async with serving(made, tls) as controller:
            drills, gone = controller.drills, asyncio.Event()

            async def and_goes(cluster: Cluster, pod: Pod, content: DrillRecord) -> None:
                await write(cluster, pod, content)
                made.api.admin.delete("pods", "web-0", "shop", 0)
                await made.until(lambda: pod.uid not in drills._town.pods, "seen")
                gone.set()

            await leads(made, controller)
            async with running(link(made, controller, tls, token_of(made, agent_pod(made)))) as node:
                guard = await attached(made, node)
                monkeypatch.setattr(WRITE, and_goes)
                order(made, "web-0")
                await asyncio.wait_for(gone.wait(), 30)
                await asyncio.sleep(0)
                assert not drills._under_way and not guard.orders

    run(story, tmp_path)


def test_the_agent_goes_while_its_drill_is_written_down(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:  # I8
    async def story(made: Town, tls: Path) -> None:
        async with AsyncExitStack() as agents, serving(made, tls) as controller:

            async def and_its_agent_goes(cluster: Cluster, pod: Pod, content: DrillRecord) -> None:
                await write(cluster, pod, content)
                await agents.aclose()
                await made.until(lambda: controller.office.desk.agent_of(pod.uid) is None, "it is gone")

            await leads(made, controller)
            settings = link(made, controller, tls, token_of(made, agent_pod(made)))
            guard = await attached(made, await agents.enter_async_context(running(settings)))
            monkeypatch.setattr(WRITE, and_its_agent_goes)
            told = await ended(made, "web-0", order(made, "web-0").id, "refused")
            assert "its agent went" in told.why and not guard.orders
            assert metric(controller, "hotswitch_drills_total", workload="shop/deploy/web", result="failed") is None

    run(story, tmp_path)
