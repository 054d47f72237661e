"""A story of the controller's town, run, and what it waits for."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from hotswitch.model import Direction, Level
from tests.controller.town import OPEN, Town, town

Story = Callable[[Town], Coroutine[Any, Any, None]]


def run(story: Story, **more: Any) -> None:
    async def within() -> None:
        async with town(**more) as made:
            await story(made)
            assert not made.api.denied, made.api.denied

    asyncio.run(within())


def is_open(made: Town, name: str) -> bool:
    status = made.status(name)
    return status is not None and not status.under_way and status.levels == OPEN


def is_closed(made: Town, name: str) -> bool:
    status = made.status(name)
    captured = {way: Level.CAPTURE for way in Direction}
    return status is not None and not status.under_way and status.levels == captured
