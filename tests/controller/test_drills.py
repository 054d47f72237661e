"""Drills that the leader orders: written down first, never twice, one at a time, and none on a day that is not quiet.

Over the real link, with the shipped rights; how a drill goes in the kernel is told by the test (agency.Guard.ends). The
real thing: tests/agent/node/test_drill.py.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import time
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from hotswitch.agent.link import ControllerAuthority
from hotswitch.api import names
from hotswitch.api.agent.v1 import agent_pb2 as wire
from hotswitch.api.drills import Drilled, DrillOrder, DrillRecord, Told, read_record, text_of
from hotswitch.api.values import shown_instant
from hotswitch.cluster.client import Cluster
from hotswitch.cluster.failure import ApiFailure
from hotswitch.cluster.lease import Elector
from hotswitch.cluster.pods import Pod
from hotswitch.controller.app import Controller
from hotswitch.controller.drills.record import begun, write
from hotswitch.controller.drills.record import ended as ending
from hotswitch.decide.codes import Code
from hotswitch.decide.drill import Schedule, turn_s
from tests.cli.test_cluster import mesh
from tests.controller.agency import Guard, Node, agent_pod, link, running, token_of
from tests.controller.test_agents import AGENTS, leads, may_open, opened, run, serving
from tests.controller.town import Town

pytestmark = pytest.mark.k8s

EVERY_S = 60.0
BY_SCHEDULE = {**AGENTS, "spec": {**AGENTS["spec"], "drill": {"every": "60s", "for": "2s"}}}


def record(made: Town, name: str) -> DrillRecord | None:
    return read_record(made.annotations(name), made.api.admin.get("pods", name, "shop")["metadata"]["uid"])


def order(made: Town, name: str, **more: Any) -> DrillOrder:
    """A person's, as the command writes it."""
    said = DrillOrder(**{"id": f"o-{time.monotonic_ns()}", "at": shown_instant(time.time()), "by": "ann", **more})
    annotations = {names.DRILL_ORDER: text_of(said)}
    made.api.admin.patch("pods", name, {"metadata": {"annotations": annotations}}, namespace="shop")
    return said


async def heeded(made: Town, guard: Guard, number: int = 1) -> None:
    await made.until(lambda: len(guard.orders) >= number, "the agent is told to drill")


async def ended(made: Town, name: str, said: str, result: str) -> DrillRecord:
    """The pod says so."""
    found: list[DrillRecord] = []

    def told() -> bool:
        known = record(made, name)
        found[:] = [known] if known is not None and known.id == said and not known.under_way else []
        return bool(found)

    await made.until(told, f"{name}: {result}; {made.annotations(name).get(names.DRILLED)}")
    assert found[0].result == result, found[0]
    return found[0]


def metric(controller: Controller, name: str, **labels: str) -> float | None:
    controller.refresh_metrics()
    return controller.metrics.registry.get_sample_value(name, labels)


def soon(number: int) -> list[str]:
    """Names of workloads whose turn comes in a second or two."""
    now_s = time.time()
    every = (f"w{number}" for number in itertools.count())
    schedule = Schedule(EVERY_S)
    near = (each for each in every if 1.0 < turn_s(schedule, f"shop/deploy/{each}", now_s) - now_s < 2.0)
    return list(itertools.islice(near, number))


def test_in_their_turn_one_pod_of_each_workload(tmp_path: Path) -> None:  # S4.4, S4.6, I3, I8
    async def story(made: Town, tls: Path) -> None:
        async with serving(made, tls) as controller:
            await leads(made, controller)
            async with running(link(made, controller, tls, token_of(made, agent_pod(made)))) as node:
                guards: dict[str, list[Guard]] = {}
                for workload in soon(2):
                    for number in range(2):
                        name = f"{workload}-{number}"
                        uid = await made.pod(name, workload)
                        guards.setdefault(workload, []).append(node.attach(name, uid, f"deploy/{workload}"))
                everybody = [each for both in guards.values() for each in both]
                for number in range(2):
                    await made.until(
                        lambda number=number: sum(len(each.orders) for each in everybody) > number, "a turn"
                    )
                    (drilled,) = [each for each in everybody if each.orders and each.drilled is None]  # one at a time
                    assert [each.for_s for each in drilled.orders] == [2.0]
                    drilled.ends("passed")
                    passed = await ended(made, drilled.pod.name, drilled.orders[0].id, "passed")
                    assert (passed.by, passed.term, passed.open_ms, passed.restore_ms) == ("schedule", 1, 20.0, 30.0)
                    await made.until(lambda on=drilled.pod.name: Code.DRILL_PASSED in made.codes(on), "Event")
                assert [sum(bool(each.orders) for each in both) for both in guards.values()] == [1, 1]
                for workload in guards:
                    named = {"workload": f"shop/deploy/{workload}"}
                    assert metric(controller, "hotswitch_drills_total", result="passed", **named) == 1
                    assert metric(controller, "hotswitch_drill_failed", **named) == 0
                    overdue_s = metric(controller, "hotswitch_drill_overdue_timestamp_seconds", **named)
                    assert overdue_s is not None and overdue_s > time.time() + EVERY_S
        lines = [json.loads(each) for each in (made.api.directory / "c0.jsonl").read_text().splitlines()]
        assert len([each for each in lines if each["event"] == "drill-ordered"]) == 2

    run(story, tmp_path, policy=BY_SCHEDULE)


def test_who_will_not_and_who_observes_has_no_turn(tmp_path: Path) -> None:  # I2
    async def story(made: Town, tls: Path) -> None:
        async with serving(made, tls) as controller:
            await leads(made, controller)
            async with running(link(made, controller, tls, token_of(made, agent_pod(made)))) as node:
                off, observes, willing = soon(3)
                guards = {}
                for name, labels in ((off, {}), (observes, {names.MODE_LABEL: "observe"}), (willing, {})):
                    uid = await made.pod(f"{name}-0", name, **labels)
                    guards[name] = node.attach(f"{name}-0", uid, f"deploy/{name}")
                    if name == off:
                        out = {"metadata": {"annotations": {names.DRILL: "off"}}}
                        made.api.admin.patch("pods", f"{name}-0", out, namespace="shop")
                await heeded(made, guards[willing])
                guards[willing].ends("failed", "a request through the rescue failed")
                await ended(made, f"{willing}-0", guards[willing].orders[0].id, "failed")
                named = {"workload": f"shop/deploy/{willing}"}
                assert metric(controller, "hotswitch_drill_failed", **named) == 1
                assert not guards[off].orders and not guards[observes].orders

    run(story, tmp_path, policy=BY_SCHEDULE)


def test_by_hand(tmp_path: Path) -> None:  # S4.4, I8
    """The command finds the pod, orders, and waits for what becomes of it."""

    async def story(made: Town, tls: Path) -> None:
        async with serving(made, tls) as controller:
            await leads(made, controller)
            async with running(link(made, controller, tls, token_of(made, agent_pod(made)))) as node:
                guards = {name: node.attach(name, await made.pod(name)) for name in ("web-0", "web-1")}
                for guard in guards.values():
                    await made.until(lambda guard=guard: may_open(node, guard.pod.uid), "granted")
                dry = await mesh(made, "drill", "shop/deploy/web", "--dry-run")
                assert (dry.exit_code, dry.stdout.splitlines()[0]) == (0, "would order a drill of shop/web-0, 5 s:")
                assert names.DRILL_ORDER not in made.annotations("web-0")
                command = asyncio.create_task(mesh(made, "drill", "deploy/web", "-n", "shop", "--for", "3s"))
                await heeded(made, guards["web-0"])
                assert guards["web-0"].orders[0].for_s == 3.0
                guards["web-0"].ends("passed", "requests went through the rescue")
                told = await command
                assert (told.exit_code, told.stdout.splitlines()[0]) == (
                    0, "shop/web-0: PASSED: requests went through the rescue",
                ), told.output  # fmt: skip
                again = await mesh(made, "drill", "shop/deploy/web", "--dry-run")
                assert "would order a drill of shop/web-1" in again.stdout  # whose last one is longest ago
                wrong = await mesh(made, "drill", "shop/deploy/web", "--for", "2m")
                assert wrong.exit_code == 2 and "--for is not between 1s and 1m" in wrong.stderr
                assert not guards["web-1"].orders

    run(story, tmp_path)


def test_by_hand_on_a_day_that_is_not_quiet(tmp_path: Path) -> None:  # I3
    async def story(made: Town, tls: Path) -> None:
        async with serving(made, tls) as controller:
            await leads(made, controller)
            async with running(link(made, controller, tls, token_of(made, agent_pod(made)))) as node:
                guard = node.attach("web-0", await made.pod("web-0"))
                other = node.attach("other-0", await made.pod("other-0", "other"), "deploy/other")
                await opened(made, node, other.pod.uid)
                await made.until(lambda: list(controller.office.every_open()), "and the leader knows")
                told = await ended(made, "web-0", order(made, "web-0").id, "refused")
                assert told.why == "shop/other-0 is open" and told.ran == ""
                await made.until(lambda: Code.DRILL_REFUSED in made.codes("web-0"), "Event")
                assert not guard.orders

    run(story, tmp_path)


def test_an_order_that_is_none_or_comes_late_drills_nobody(tmp_path: Path) -> None:  # I2
    async def story(made: Town, tls: Path) -> None:
        async with serving(made, tls) as controller:
            await leads(made, controller)
            async with running(link(made, controller, tls, token_of(made, agent_pod(made)))) as node:
                guard = node.attach("web-0", await made.pod("web-0"))
                late = order(made, "web-0", at=shown_instant(time.time() - 3600))
                assert "in its time" in (await ended(made, "web-0", late.id, "refused")).why
                annotations = {names.DRILL_ORDER: '{"id": "x", "at": "now"}'}
                made.api.admin.patch("pods", "web-0", {"metadata": {"annotations": annotations}}, namespace="shop")
                await made.until(lambda: "HSC010" in made.codes("web-0"), "its author hears of it")
                assert not guard.orders and record(made, "web-0").id == late.id

    run(story, tmp_path)


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


def test_an_agent_of_an_earlier_version_is_not_ordered(tmp_path: Path) -> None:
    class Earlier(ControllerAuthority):
        def _hello(self) -> wire.Hello:
            hello = super()._hello()
            hello.ClearField("drills")
            return hello

    async def story(made: Town, tls: Path) -> None:
        async with serving(made, tls) as controller:
            await leads(made, controller)
            settings = link(made, controller, tls, token_of(made, agent_pod(made)))
            async with running(settings, authority=Earlier(settings, beat_s=0.3)) as node:
                guard = await attached(made, node)
                told = await ended(made, "web-0", order(made, "web-0").id, "refused")
                assert "of an earlier version" in told.why and not guard.orders

    run(story, tmp_path)


WRITE = "hotswitch.controller.drills.record.write"


def test_an_order_is_heeded_once_whatever_drills_come_after(tmp_path: Path) -> None:  # I2, I6
    """It stays with the pod when a turn, an hour later, has taken its place in the record."""

    async def story(made: Town, tls: Path) -> None:
        async with serving(made, tls) as controller:
            await leads(made, controller)
            async with running(link(made, controller, tls, token_of(made, agent_pod(made)))) as node:
                guard = await attached(made, node)
                said = order(made, "web-0")
                await heeded(made, guard)
                guard.ends("passed")
                first = await ended(made, "web-0", said.id, "passed")
                turn = begun(guard.pod.uid, first, Told(id="t1", for_s=2.0, by="schedule"), 1)
                later = ending(turn, Drilled(id="t1", result="passed", why=""))
                annotations = {names.DRILLED: text_of(later)}
                made.api.admin.patch("pods", "web-0", {"metadata": {"annotations": annotations}}, namespace="shop")
                known = controller.drills._town.said
                await made.until(lambda: (found := known[guard.pod.uid].record) and found.id == "t1", "seen")
                assert known[guard.pod.uid].waits is None
                await controller.drills._look()
                assert record(made, "web-0") == later and len(guard.orders) == 1
                another = order(made, "web-0")
                await heeded(made, guard, 2)
                assert guard.orders[1].id == another.id

    run(story, tmp_path)


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


async def attached(made: Town, node: Node) -> Guard:
    guard = node.attach("web-0", await made.pod("web-0"))
    await made.until(lambda: may_open(node, guard.pod.uid), "granted")
    return guard
