"""What a guard holds of its pod's namespace: the namespace itself, the gate, and threads that work by both (I6).

A thread goes on when whoever waits for it is cancelled. So the descriptors are held until the last one has ended: their
numbers would else be another pod's by then, whose rules it would look at or change.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from hotswitch.capture.gate_choice import AnyGate, open_gate
from hotswitch.capture.gate_table import GateScope
from hotswitch.kernel.netns import PinnedNamespace

T = TypeVar("T")


class Holding:
    """Made by `hold`, within the event loop."""

    def __init__(self, namespace: PinnedNamespace, gate: AnyGate) -> None:
        self.namespace, self.gate = namespace, gate
        self._loop = asyncio.get_running_loop()
        self._apart: set[asyncio.Future[Any]] = set()  # threads that work by our descriptors
        self.closed = False

    async def in_thread(self, work: Callable[[], T]) -> T:
        """Wait for `work`, which is not cancelled with whoever waits."""
        job = self._loop.run_in_executor(None, work)
        self._apart.add(job)
        job.add_done_callback(self._came_back)
        return await asyncio.shield(job)

    def _came_back(self, job: asyncio.Future[Any]) -> None:
        self._apart.discard(job)
        if not job.cancelled():
            job.exception()  # whoever waited for it has it, or went away
        if self.closed and not self._apart:
            self._let_go()

    def close(self) -> None:
        """Let go, at once or as soon as the last thread has ended."""
        if self.closed:
            return
        self.closed = True
        if not self._apart:
            self._let_go()

    def _let_go(self) -> None:
        self.gate.close()
        with contextlib.suppress(OSError):
            self.namespace.close()


def hold(netns: str | Path, scope: GateScope) -> Holding:
    """Raises OSError when the namespace cannot be entered; then nothing is held."""
    namespace = PinnedNamespace(netns)
    try:
        return Holding(namespace, open_gate(namespace.path, scope))
    except BaseException:
        namespace.close()
        raise
