"""Orders of a person to the running agent, as `hotswitch bypass` and `hotswitch restore` send them."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hotswitch.cli.ask import ask
from hotswitch.model import Direction, Level
from hotswitch.sandbox.protector import Protector


class Orders:
    """Raises AgentError where the agent refuses."""

    def __init__(self, agent: Protector) -> None:
        self._socket = Path(agent.config["socket"])

    async def bypass(self, pod: str, level: Level, directions: Sequence[Direction], for_s: float = 60.0) -> None:
        answer = await self._ask(
            verb="bypass", pod=pod, level=level, directions=list(directions), for_s=for_s, reason="bench"
        )
        if any(answer["levels"][way] != level for way in directions):
            raise RuntimeError(f"{pod}: ordered {level}, and got {answer['levels']}: {answer['done']}")

    async def restore(self, pod: str) -> None:
        answer = await self._ask(verb="restore", pod=pod)
        if answer["open"] != "closed":
            raise RuntimeError(f"{pod}: not restored: {answer['open']}: {answer['done']}")

    async def _ask(self, **request: Any) -> dict[str, Any]:
        return await asyncio.to_thread(ask, self._socket, request)
