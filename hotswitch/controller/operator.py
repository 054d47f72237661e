"""The process: kopf as its frame for our own resource, the controller beside it, and their end (S4.1).

Pods are not watched by kopf: it keeps a task and a copy for each object, which is too much for ten thousand pods
(facts/kubernetes.md 2). Nothing is stored in objects by kopf: there are only event handlers, no finalizers, no peering.
It begins when everything was read: until then its news are of no use, and its start would take time from the reading.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import signal
from collections.abc import Callable

from hotswitch.controller.app import Controller
from hotswitch.controller.frame import Frame
from hotswitch.controller.health import serve
from hotswitch.controller.settings import ControllerSettings

SELDOM = 50_000  # new objects, from one collection to the next


async def read_in_peace(controller: Controller, then: Callable[[], None]) -> None:
    """The garbage collector is spared: nearly nothing dies until all was read, and all of that lives for long; a
    collection that looks at it again keeps everybody waiting. `then`: what comes after it."""
    usual = gc.get_threshold()
    gc.set_threshold(SELDOM, *usual[1:])
    try:
        await controller.watching.synced.wait()
    finally:
        gc.set_threshold(*usual)
    gc.collect()
    gc.freeze()
    then()


async def run(settings: ControllerSettings) -> None:
    """Until SIGTERM or SIGINT. Raises ConnectError, OSError when the port is taken."""
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with Controller(settings) as controller:
        await operate(controller, stop)


async def operate(controller: Controller, stop: asyncio.Event) -> None:
    """All that the process does for it, until `stop`. Raises OSError when the port is taken."""
    async with serve(controller):
        stopped = asyncio.create_task(stop.wait())
        work = asyncio.create_task(controller.run())
        frame = Frame(controller)
        start = asyncio.create_task(read_in_peace(controller, frame.start))
        try:
            await asyncio.wait([work, stopped], return_when=asyncio.FIRST_COMPLETED)
        finally:
            start.cancel()
            await controller.finish()
            work.cancel()
            try:
                with contextlib.suppress(asyncio.CancelledError):
                    await work
            finally:
                await frame.stop()
