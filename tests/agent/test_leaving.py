"""An agent that ends says nothing of it: its pods are still there, and so may be what it has opened (I1, I3)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from hotswitch.agent.authority import OwnAuthority
from hotswitch.agent.granted import GrantedGuard
from hotswitch.agent.node import leaving
from hotswitch.agent.node.agent import NodeAgent
from hotswitch.agent.node.settings import NodeSettings
from hotswitch.agent.pod.agent import PodAgent
from hotswitch.agent.pod.settings import PodSettings
from hotswitch.model import Direction, Level, Mode, Opening, PodRef, PodUid, Policy

pytestmark = pytest.mark.unit


def of_node(directory: Path) -> NodeAgent:
    return NodeAgent(NodeSettings(node="node", directory=directory), OwnAuthority())


def of_pod(directory: Path) -> PodAgent:
    told = PodSettings(
        pod="web-0", namespace="shop", uid="uid", addresses="10.0.0.7", directory=directory,
        annotations=directory / "annotations",
    )  # fmt: skip
    return PodAgent(told, OwnAuthority())


@pytest.mark.parametrize("made", [of_node, of_pod])
def test_the_link_ends_before_the_guards(tmp_path: Path, made: Callable[[Path], Any]) -> None:  # I3
    """A controller that hears of no pods gives their places away, and may act on them itself."""

    async def story() -> None:
        agent, order = made(tmp_path), list[str]()

        async def let_go(*, leave: bool) -> None:
            assert leave

        agent._stack.callback(order.append, "link")
        agent.guards["uid"] = SimpleNamespace(close=lambda: order.append("guard"), spare=SimpleNamespace(close=let_go))
        await agent.close()
        assert order == ["link", "guard"]

    asyncio.run(story())


def test_when_its_patience_ends_nobody_else_is_led_to_its_rescue(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:  # I1
    """The last connections drain for a while yet; who falls ill meanwhile would be led to what ends with the agent."""
    monkeypatch.setattr(leaving, "DRAINED_WITHIN_S", 0.0)
    listed = (Level.RESCUE, Level.HOLD)

    def guard(name: str, openings: dict[Direction, Opening]) -> Any:
        made: Any = object.__new__(GrantedGuard)
        made.pod, made.standing = PodRef(name, "shop", PodUid(name)), SimpleNamespace(openings=openings)
        made.policy, made.leaves, made._mapped = Policy(mode=Mode.AUTO, inbound=listed), False, False
        made.spare, made.step, made.gave_up = SimpleNamespace(drained_by_s=0.0), lambda: (), False
        made.give_up = lambda: setattr(made, "gave_up", True)
        return made

    async def story() -> None:
        agent = of_node(tmp_path)
        ill, well = guard("ill", {Direction.INBOUND: Opening(Level.RESCUE)}), guard("well", {})
        agent.guards |= {"ill": ill, "well": well}
        await agent._leaving.done(0.0)
        assert (ill.gave_up, well.gave_up) == (True, False)
        assert [each.policy.inbound for each in (ill, well)] == [(Level.HOLD,)] * 2

    asyncio.run(story())
