"""Agents and their controller over the real link: granted, told, acted, said; faults of the link (S4.2, I1 to I3)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from hotswitch.controller.app import Controller
from hotswitch.decide.codes import Code
from hotswitch.model import Direction, Level, Mode
from tests.controller.agency import Node, agent_pod, certificate, link, running, token_of
from tests.controller.town import POLICY, Town, town

pytestmark = pytest.mark.k8s

Story = Callable[[Town, Path], Coroutine[Any, Any, None]]
AGENTS = {**POLICY, "spec": {**POLICY["spec"], "actuators": ["agent"]}}


def run(story: Story, tmp_path: Path, **more: Any) -> None:
    async def within() -> None:
        async with town(**{"policy": AGENTS, "more": ["agents"], **more}) as made:
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
