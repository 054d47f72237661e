"""Drills that the leader orders: written down first, never twice, one at a time, and none on a day that is not quiet.

Over the real link, with the shipped rights; how a drill goes in the kernel is told by the test (agency.Guard.ends). The
real thing: tests/agent/node/test_drill.py.
"""

from __future__ import annotations

import asyncio
import json
import time
from pathlib import Path

import pytest

from hotswitch.agent.link import ControllerAuthority
from hotswitch.api import names
from hotswitch.api.agent.v1 import agent_pb2 as wire
from hotswitch.api.drills import Drilled, Told, text_of
from hotswitch.api.values import shown_instant
from hotswitch.controller.drills.record import begun
from hotswitch.controller.drills.record import ended as ending
from hotswitch.decide.codes import Code
from tests.cli.test_cluster import mesh
from tests.controller.agency import Guard, agent_pod, link, running, token_of
from tests.controller.drilling import BY_SCHEDULE, EVERY_S, attached, ended, heeded, metric, order, record, soon
from tests.controller.test_agents import leads, may_open, opened, run, serving
from tests.controller.town import Town

pytestmark = pytest.mark.k8s


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
