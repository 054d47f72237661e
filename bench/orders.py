"""Orders of a person to the running agent, as `hotswitch bypass` and `hotswitch restore` send them."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hotswitch.cli.ask import ask
from hotswitch.model import Direction, Level
from hotswitch.sandbox.protector import Protector


class OrderNotCarriedOut(RuntimeError):
    """The agent has taken the order, but the gate is not as ordered; the message ends with what its journal says."""


class Orders:
    """Raises AgentError where the agent refuses, OrderNotCarriedOut."""

    def __init__(self, agent: Protector) -> None:
        self._agent, self._socket = agent, Path(agent.config["socket"])

    async def bypass(self, pod: str, level: Level, directions: Sequence[Direction], for_s: float = 60.0) -> None:
        answer = await self._ask(
            verb="bypass", pod=pod, level=level, directions=list(directions), for_s=for_s, reason="bench"
        )
        if any(answer["levels"][way] != level for way in directions):
            raise OrderNotCarriedOut(f"{pod}: ordered {level}, and got {answer['levels']}: {self._why()}")

    async def restore(self, pod: str) -> None:
        answer = await self._ask(verb="restore", pod=pod)
        if answer["open"] != "closed":
            raise OrderNotCarriedOut(f"{pod}: not restored: {answer['open']}: {self._why()}")

    def _why(self) -> str:
        """What the agent's journal says last."""
        self._agent.journal.catch_up()
        last = self._agent.journal.entries[-5:]
        return "; ".join(f"{entry.event} {entry.code} {entry.failed or entry.why}" for entry in last)

    async def _ask(self, **request: Any) -> dict[str, Any]:
        return await asyncio.to_thread(ask, self._socket, request)
