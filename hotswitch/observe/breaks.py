"""Which of many held connections has broken: one descriptor of the loop's for all of them (S4.2b).

What arrives on such a connection wakes nobody: it is an answer, read when it is due, with those of other pods. Waking
up for each of 250 pods' answers was a quarter of the agent's cost at rest.
"""

from __future__ import annotations

import asyncio
import select
from collections.abc import Callable
from weakref import WeakKeyDictionary


class Breaks:
    """Of one loop. Whoever is told and does not let go is told again."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._epoll = select.epoll()
        self._told: dict[int, Callable[[], None]] = {}
        loop.add_reader(self._epoll.fileno(), self._tell)

    def watch(self, fd: int, broke: Callable[[], None]) -> None:
        """`broke`: called as soon as the far end has ended the connection, in part or as a whole."""
        self._told[fd] = broke
        self._epoll.register(fd, select.EPOLLRDHUP)  # EPOLLHUP and EPOLLERR are always told

    def forget(self, fd: int) -> None:
        """Before the descriptor is closed."""
        del self._told[fd]
        self._epoll.unregister(fd)

    def _tell(self) -> None:
        for fd, _ in self._epoll.poll(0):
            broke = self._told.get(fd)
            if broke is not None:
                try:
                    broke()
                except Exception as failure:
                    told = {"message": f"a break was not handled: {broke}", "exception": failure}
                    asyncio.get_running_loop().call_exception_handler(told)


_OF_LOOP: WeakKeyDictionary[asyncio.AbstractEventLoop, Breaks] = WeakKeyDictionary()


def breaks_of(loop: asyncio.AbstractEventLoop) -> Breaks:
    if loop not in _OF_LOOP:
        _OF_LOOP[loop] = Breaks(loop)
    return _OF_LOOP[loop]
