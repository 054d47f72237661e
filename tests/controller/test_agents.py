"""Agents and their controller over the real link: granted, told, acted, said; faults of the link (S4.2, I1 to I3)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from hotswitch.agent.link import ControllerAuthority
from hotswitch.agent.outbox import LINES_AT_MOST
from hotswitch.api import names
from hotswitch.api.agent.v1 import agent_pb2 as wire
from hotswitch.controller.app import Controller
from hotswitch.decide.codes import Code
from hotswitch.decide.grants import Refused
from hotswitch.model import Direction, Level, Mode, PodRef, PodUid
from hotswitch.report.journal import entry
from tests.controller.agency import Node, agent_pod, certificate, link, running, token_of
from tests.controller.town import POLICY, Town, town

pytestmark = pytest.mark.k8s

Story = Callable[[Town, Path], Coroutine[Any, Any, None]]
AGENTS = {**POLICY, "spec": {**POLICY["spec"], "actuators": ["agent"]}}


def run(story: Story, tmp_path: Path, **more: Any) -> None:
    async def within() -> None:
        async with town(**{"policy": AGENTS, "more": ["agents"], "led_before": False, **more}) as made:
            await story(made, certificate(tmp_path / "tls"))
            assert not made.api.denied, made.api.denied

    asyncio.run(within())


def serving(made: Town, tls: Path, identity: str = "c0", **more: Any) -> Any:
    return made.controller(identity, agents_port=0, agents_tls=tls, **more)


async def leads(made: Town, controller: Controller) -> None:
    await made.until(lambda: controller.office.port and controller.office.desk.term, "leads, and serves agents")


def may_open(node: Node, uid: str) -> bool:
    guard = node.guards[uid]
    grant, right = node.authority.grant(guard.pod.uid), node.authority.right(guard.pod)
    return grant is not None and grant.policy.mode is Mode.AUTO and min(right.node, right.namespace, right.workload) > 0


def test_an_agent_acts_within_its_grant_and_the_controller_tells(tmp_path: Path) -> None:  # S4.2, S4.4, S4.5, S4.6, I8
    async def story(made: Town, tls: Path) -> None:
        uid = await made.pod("web-0")
        async with serving(made, tls) as controller:
            await leads(made, controller)
            async with running(link(made, controller, tls, token_of(made, agent_pod(made)))) as node:
                guard = node.attach("web-0", uid)
                await made.until(lambda: may_open(node, uid), "granted")
                assert node.authority.grant(guard.pod.uid).spiffe_id == "spiffe://cluster.local/ns/shop/sa/default"
                guard.dead = True
                await made.until(lambda: Code.OPENED in guard.acts, "the agent opens")
                await made.until(lambda: Code.OPENED in made.codes("web-0"), "Event")
                await made.until(
                    lambda: (page := made.status("web-0")) and page.levels[Direction.INBOUND] is Level.RESCUE
                )
                page = made.status("web-0")
                assert (page.actuator, page.code, page.fault) == ("agent", Code.OPENED, "dead")
                guard.dead = False
                await made.until(lambda: Code.RESTORED in guard.acts, "the agent restores")
                await made.until(lambda: Code.RESTORED in made.codes("web-0"), "Event of the end")
                await made.until(lambda: made.status("web-0").levels[Direction.INBOUND] is Level.CAPTURE)
            lines = (made.api.directory / "c0.jsonl").read_text()
            assert '"who":"agent on node-0"' in lines

    run(story, tmp_path)


async def opened(made: Town, node: Node, uid: str) -> None:
    guard = node.guards[uid]
    await made.until(lambda: may_open(node, uid), "granted")
    guard.dead = True
    await made.until(lambda: guard.standing.is_open, "open")


def test_controller_api_server_and_names_are_gone(tmp_path: Path) -> None:  # I1
    """Within its last lease the agent opens, renews and restores; after it, nothing opens."""

    async def story(made: Town, tls: Path) -> None:
        first, second = await made.pod("web-0"), await made.pod("web-1")
        async with serving(made, tls, agents_life_s=8.0) as controller:
            await leads(made, controller)
            settings = link(
                made,
                controller,
                tls,
                token_of(made, agent_pod(made)),
                addresses=(f"nowhere.invalid:{controller.office.port}",),
            )
            asked: list[str] = []

            async def resolve(address: str) -> list[str]:
                asked.append(address)
                if len(asked) > 1:
                    raise OSError("no names")
                return [f"127.0.0.1:{controller.office.port}"]

            authority = ControllerAuthority(settings, resolve, beat_s=0.3)
            async with running(settings, authority=authority) as node:
                for name, uid in (("web-0", first), ("web-1", second)):
                    node.attach(name, uid)
                await made.until(lambda: may_open(node, first) and may_open(node, second), "granted")
                await made.api.stop()
                await controller.office.stop_serving()
                await opened(made, node, first)
                guard = node.guards[first]
                guard.dead = False
                await made.until(lambda: not guard.standing.is_open, "restored")
                await made.until(lambda: authority.right(guard.pod).until_s < asyncio.get_running_loop().time(), "over")
                node.guards[second].dead = True
                await made.until(lambda: Code.HELD in node.guards[second].acts, "held")
                line = next(each for each in node.journal if each.code == Code.HELD and each.pod == "shop/web-1")
                assert line.evidence["not inbound rescue"].startswith(Code.GRANT_ENDED)
                await made.api.start()
                assert len(asked) > 1 or node.authority.failures

    run(story, tmp_path)


def test_the_agent_starts_anew_while_open(tmp_path: Path) -> None:  # I1, I6
    """With what it kept it is the same holder; nothing is closed, and the controller tells the rest of the story."""

    async def story(made: Town, tls: Path) -> None:
        uid = await made.pod("web-0")
        async with serving(made, tls) as controller:
            await leads(made, controller)
            settings = link(made, controller, tls, token_of(made, agent_pod(made)), kept=tmp_path / "kept")
            async with running(settings) as node:
                node.attach("web-0", uid)
                await opened(made, node, uid)
                await made.until(lambda: Code.OPENED in made.codes("web-0"), "told")
                left, holders = node.guards[uid].standing, controller.office.desk.ledger.holders
            await made.until(lambda: not controller.office.desk.agents, "the link has ended", timeout_s=15.0)
            assert controller.office.told(uid) is not None  # nobody else acts on it meanwhile
            async with running(settings) as node:
                assert may_open_at_once(node, uid), "from memory, before any word of the controller"
                guard = node.attach("web-0", uid)
                guard.standing, guard.dead = left, True
                await made.until(node.authority.connected.is_set, "the link is back")
                guard.dead = False
                await made.until(lambda: Code.RESTORED in made.codes("web-0"), "the end is told")
                assert controller.office.desk.ledger.holders == holders
                assert Code.CLOSED_BY_MODE not in guard.acts

    run(story, tmp_path)


def may_open_at_once(node: Node, uid: str) -> bool:
    pod = PodRef("web-0", "shop", PodUid(uid), "deploy/web")
    return node.authority.grant(pod.uid) is not None and node.authority.right(pod).node > 0


def test_another_controller_leads_while_open(tmp_path: Path) -> None:  # I1, I6
    """The agent goes over to it; what is open stays and is told; the deposed one's words count no longer."""

    async def story(made: Town, tls: Path) -> None:
        uid = await made.pod("web-0")
        async with AsyncExitStack() as first:
            old = await first.enter_async_context(serving(made, tls, "c0"))
            await leads(made, old)
            async with serving(made, tls, "c1") as new:
                await made.until(lambda: new.office.port, "serves")
                both = tuple(f"127.0.0.1:{each.office.port}" for each in (old, new))
                settings = link(made, old, tls, token_of(made, agent_pod(made)), addresses=both)
                async with running(settings) as node:
                    guard = node.attach("web-0", uid)
                    await opened(made, node, uid)
                    await made.until(lambda: Code.OPENED in made.codes("web-0"), "told")
                    term = node.authority.lease.term
                    await first.aclose()
                    await leads(made, new)
                    await made.until(lambda: node.authority.lease.term > term, "the new one is obeyed")
                    await made.until(lambda: new.office.told(uid), "the new one is told")
                    assert guard.standing.is_open
                    late = wire.ToAgent(welcome=wire.Welcome(version=1, term=term))
                    with pytest.raises(Refused, match="older"):
                        node.authority._welcome(late)
                    with pytest.raises(Refused, match="older"):
                        node.authority._hear(wire.ToAgent(grant=wire.PodGrant(uid=uid, term=term, version=99)))
                    guard.dead = False
                    await made.until(
                        lambda: (page := made.status("web-0")) and page.levels[Direction.INBOUND] is Level.CAPTURE
                    )
                    assert made.status("web-0").term == new.office.desk.term

    run(story, tmp_path)


def test_a_controller_that_does_not_lead_hears_nobody(tmp_path: Path) -> None:  # I6
    async def story(made: Town, tls: Path) -> None:
        async with serving(made, tls, "c0") as leader:
            await leads(made, leader)
            async with serving(made, tls, "c1") as other:
                await made.until(lambda: other.office.port, "serves")
                settings = link(made, other, tls, token_of(made, agent_pod(made)))
                async with running(settings) as node:
                    await made.until(lambda: node.authority.failures > 1, "sent away, and tried again")
                    assert not node.authority.connected.is_set() and not node.authority.lease.places

    run(story, tmp_path)


def test_the_only_place_goes_where_it_is_needed(tmp_path: Path) -> None:  # I3
    """Of a workload one pod may be open: the place lies idle on one node, and the pod of the other one falls ill."""

    async def story(made: Town, tls: Path) -> None:
        uids = [await made.pod("web-0"), await made.pod("web-1", node="node-1")]
        async with serving(made, tls) as controller, AsyncExitStack() as stack:
            await leads(made, controller)
            nodes = []
            for number, uid in enumerate(uids):
                token = token_of(made, agent_pod(made, f"node-{number}"))
                settings = link(made, controller, tls, token, node=f"node-{number}")
                nodes.append(node := await stack.enter_async_context(running(settings)))
                node.attach(f"web-{number}", uid)
                await made.until(lambda node=node, uid=uid: node.authority.grant(PodUid(uid)), "granted")
            await made.until(lambda: any(may_open(node, uid) for node, uid in zip(nodes, uids, strict=True)), "one may")
            idle = next(at for at in range(2) if may_open(nodes[at], uids[at]))
            needy = nodes[1 - idle].guards[uids[1 - idle]]
            needy.dead = True
            await made.until(lambda: needy.standing.is_open, "the place has moved")
            holder = nodes[idle].guards[uids[idle]]
            holder.dead = True
            await made.until(lambda: Code.HELD in holder.acts, "and is not there twice")
            assert not holder.standing.is_open

    run(story, tmp_path, policy=one_of_a_workload())


def one_of_a_workload() -> dict[str, Any]:
    budgets = {"mesh": 5, "namespace": 5, "workload": 1}
    return {**AGENTS, "spec": {**AGENTS["spec"], "budgets": budgets}}


def test_a_pod_that_no_agent_looks_after_counts_their_places(tmp_path: Path) -> None:  # I3
    """The controller itself opens nothing with a place that an agent holds."""

    async def story(made: Town, tls: Path) -> None:
        mine, ours = await made.pod("web-0"), await made.pod("web-1", node="node-1")
        async with serving(made, tls) as controller:
            await leads(made, controller)
            async with running(link(made, controller, tls, token_of(made, agent_pod(made)))) as node:
                guard = node.attach("web-0", mine)
                await made.until(lambda: node.authority.grant(guard.pod.uid), "granted")
                guard.dead = True
                await made.until(lambda: guard.standing.is_open, "open")
                await made.until(lambda: Code.OPENED in made.codes("web-0"), "told")
                await made.kill("web-1")
                await made.until(lambda: Code.HELD in made.codes("web-1"), "held")
                assert made.kernel.truth(ours).levels[Direction.INBOUND] is Level.CAPTURE

    spec = {**one_of_a_workload()["spec"], "actuators": ["agent", "helper"]}
    run(story, tmp_path, policy={**AGENTS, "spec": spec})


def test_a_person_orders(tmp_path: Path) -> None:
    """By annotation, as without agents: the order comes with the grant, and ends with the annotation."""

    async def story(made: Town, tls: Path) -> None:
        uid = await made.pod("web-0")
        async with serving(made, tls) as controller:
            await leads(made, controller)
            async with running(link(made, controller, tls, token_of(made, agent_pod(made)))) as node:
                guard = node.attach("web-0", uid)
                await made.until(lambda: may_open(node, uid), "granted")
                until = (datetime.now(UTC) + timedelta(minutes=5)).isoformat()
                order = {
                    names.OVERRIDE: "rescue", names.OVERRIDE_UNTIL: until, names.OVERRIDE_DIRECTION: "inbound",
                    names.OVERRIDE_REASON: "a drill", names.OVERRIDE_BY: "ann",
                }  # fmt: skip
                made.api.admin.patch("pods", "web-0", {"metadata": {"annotations": order}}, namespace="shop")
                await made.until(lambda: Code.OPENED_BY_ORDER in guard.acts, "opened")
                gone = dict.fromkeys(order)
                made.api.admin.patch("pods", "web-0", {"metadata": {"annotations": gone}}, namespace="shop")
                await made.until(lambda: not guard.standing.is_open, "closed")

    run(story, tmp_path)


def test_settings_leave_agents_out(tmp_path: Path) -> None:  # I2
    async def story(made: Town, tls: Path) -> None:
        uid = await made.pod("web-0")
        async with serving(made, tls) as controller:
            await leads(made, controller)
            async with running(link(made, controller, tls, token_of(made, agent_pod(made)))) as node:
                guard = node.attach("web-0", uid)
                await opened(made, node, uid)
                made.api.admin.apply([{**AGENTS, "spec": {**AGENTS["spec"], "actuators": ["helper"]}}])
                await made.until(lambda: not guard.standing.is_open, "withdrawn, and so closed")
                assert Code.CLOSED_BY_MODE in guard.acts

    run(story, tmp_path)


def test_lines_that_do_not_fit_are_counted(tmp_path: Path) -> None:
    async def story(made: Town, tls: Path) -> None:
        uid = await made.pod("web-0")
        async with serving(made, tls) as controller:
            await leads(made, controller)
            settings = link(made, controller, tls, token_of(made, agent_pod(made)))
            authority = ControllerAuthority(settings, beat_s=0.3)
            ref = PodRef("web-0", "shop", PodUid(uid), "deploy/web")
            for number in range(LINES_AT_MOST + 7):
                authority.acted(entry("verified", ref, generation=number))
            assert authority.dropped == 7
            async with running(settings, authority=authority):
                await made.until(
                    lambda: [each.dropped for each in controller.office.desk.agents.values()] == [7], "told"
                )

    run(story, tmp_path)


def test_a_drill_that_failed_is_told_on_its_pod(tmp_path: Path) -> None:  # S4.4, S4.6
    async def story(made: Town, tls: Path) -> None:
        uid = await made.pod("web-0")
        async with serving(made, tls) as controller:
            await leads(made, controller)
            async with running(link(made, controller, tls, token_of(made, agent_pod(made)))) as node:
                guard = node.attach("web-0", uid)
                await made.until(lambda: may_open(node, uid), "granted")
                why = "nothing was opened: the rescue does not serve: refused"
                node.authority.acted(entry("drill", guard.pod, code=Code.DRILL_FAILED, why=why, failed=why))
                await made.until(lambda: Code.DRILL_FAILED in made.codes("web-0"), "Event")
                assert "HSC003" not in made.codes("web-0")

    run(story, tmp_path)
