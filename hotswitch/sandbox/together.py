"""Several things at once, and none of them left running: when one fails or we are cancelled, the others end first.

`asyncio.gather` leaves the others at work, and `TaskGroup` wraps a single error in a group; a sandbox that is being
removed can have neither.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any


async def together(*works: Coroutine[Any, Any, Any]) -> list[Any]:
    """Their results, in order. Raises the first error, once all have ended."""
    tasks = [asyncio.create_task(work) for work in works]
    try:
        return list(await asyncio.gather(*tasks))
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
