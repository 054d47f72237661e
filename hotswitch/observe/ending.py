"""The end of Envoy's process, known as it begins: 2 to 10 ms before the first of its sockets closes (S4.2a).

The kernel ends a process thread by thread, and the last one gives back all its memory before any file is closed. So two
threads other than the main one are held, of which one at least goes before that; and when it has gone, the kernel's
word on the process decides: to be killed or on its way out, as a whole. A thread alone that ends means nothing.

Where the kernel's tracepoints may be heard (observe.ends) they tell of a kill before any thread has had a CPU to end
on; and of the worker threads, where no descriptors of them are to be had (before Linux 6.9, or in a pid namespace of
our own). With neither, or with two processes that are both called envoy, the held connection tells of the death as it
always did.

A killed process that gets no CPU cannot even end a thread; then it is a look on suspicion that sees it is to be killed.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Sequence

from hotswitch.kernel.cgroup import WORKER, Container
from hotswitch.kernel.process import Process, hold_threads, read, threads
from hotswitch.observe.ends import ENVOY, ends_of

HELD = 2
AGAIN_S = 0.02


class Ending:
    """Calls `doomed` when the Envoy that was last followed is being ended. `since_s`: since when (loop time); None:
    it is not, or another has taken its place."""

    def __init__(self, container: Container, doomed: Callable[[], None]) -> None:
        self._container, self._doomed = container, doomed
        self._loop = asyncio.get_running_loop()
        self._ends = ends_of(self._loop)
        self._held: list[int] = []  # descriptors
        self._awaited: list[int] = []  # the process and its threads
        self._followed: Process | None = None
        self._again: asyncio.TimerHandle | None = None
        self.since_s: float | None = None

    def follow(self, processes: Sequence[Process]) -> None:
        """These are the container's processes now. Quick unless there is another Envoy than before (about 0.3 ms)."""
        living = _living(processes)
        if len(living) > 1:
            self._let_go()
            self._followed = None
        elif living and not _same(living[0], self._followed):
            self._followed, self.since_s = living[0], None
            self._hold()
        elif living and not (self._held or len(self._awaited) > 1 or self._again):
            self._hold()  # it had just begun, and has its threads by now
        elif not living and self.since_s is None and any(_same(each, self._followed) for each in processes):
            self._let_go()
            self.since_s = self._loop.time()
            self._loop.call_soon(self._doomed)

    def _hold(self) -> None:
        self._let_go()
        if self._followed is None:
            return
        self._held = hold_threads(self._followed.pid, HELD, WORKER, self._followed.proc)
        for fd in self._held:
            self._loop.add_reader(fd, self._ended)
        if self._ends.join(self):
            others = [] if self._held else threads(self._followed.pid, WORKER, self._followed.proc)
            self._awaited = [self._followed.pid, *others]
            self._ends.call_at_end(self._awaited, self._ended)

    def _ended(self) -> None:
        """A thread has. Most often it is the end of all; else others are held, once this one is gone for certain."""
        self._let_go()
        if self._lives():
            self._again = self._loop.call_later(AGAIN_S, self._hold_again)

    def _hold_again(self) -> None:
        if self._lives():
            self._hold()

    def _lives(self) -> bool:
        """The followed one does. If it does not, that is told, unless another Envoy does: whose sockets they are then
        cannot be known."""
        if self._followed is None:
            return False
        itself = read(self._followed.pid, self._followed.proc)
        if _same(itself, self._followed) and not itself.doomed:
            return True
        if not _living(self._container.processes()):
            self.since_s = self._loop.time()
            self._doomed()
        return False

    def see_container(self, container: Container) -> None:
        """It runs in another container from now on."""
        self._container = container

    def _let_go(self) -> None:
        if self._again is not None:
            self._again.cancel()
            self._again = None
        for fd in self._held:
            self._loop.remove_reader(fd)
            os.close(fd)
        self._ends.forget(self._awaited)
        self._held, self._awaited = [], []

    def close(self) -> None:
        self._let_go()
        self._ends.leave(self)
        self._followed = None


def _living(processes: Sequence[Process]) -> list[Process]:
    return [process for process in processes if process.name == ENVOY and not process.doomed]


def _same(process: Process, other: Process | None) -> bool:
    return other is not None and (process.pid, process.started) == (other.pid, other.started)
