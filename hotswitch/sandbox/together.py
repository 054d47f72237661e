"""Work that a sandbox's end has to wait for: several things at once, or a thread, and none of them left running.

What is being removed must not grow meanwhile. `asyncio.gather` leaves the others at work when one fails, `TaskGroup`
wraps a single error in a group, and a thread goes on after `asyncio.to_thread` was cancelled.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

Result = TypeVar("Result")


async def together(*works: Coroutine[Any, Any, Any]) -> list[Any]:
    """Their results, in order. Raises the first error, once all have ended."""
    tasks = [asyncio.create_task(work) for work in works]
    try:
        return list(await asyncio.gather(*tasks))
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def to_its_end(function: Callable[..., Result], *args: Any) -> Result:
    """In a thread; when we are cancelled, that happens once the thread has ended. Raises what `function` raises."""
    work = asyncio.create_task(asyncio.to_thread(function, *args))
    try:
        return await asyncio.shield(work)
    except asyncio.CancelledError:
        while not work.done():
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.wait({work})
        if not work.cancelled():
            work.exception()  # it has been asked for, so it is not called forgotten
        raise
