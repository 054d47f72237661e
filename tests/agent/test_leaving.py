"""An agent that ends says nothing of it: its pods are still there, and so may be what it has opened (I1, I3)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from hotswitch.agent.authority import OwnAuthority
from hotswitch.agent.node.agent import NodeAgent
from hotswitch.agent.node.settings import NodeSettings
from hotswitch.agent.pod.agent import PodAgent
from hotswitch.agent.pod.settings import PodSettings

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
