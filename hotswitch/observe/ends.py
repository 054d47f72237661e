"""One listener of a loop for the ends of all proxies (S4.2a).

Opened when somebody first needs it, and closed with the last of them: in between it costs nothing, because the kernel
wakes us for Envoys that are killed and threads of their workers alone. Where it is not allowed that is found out once,
and sockets tell of a death as they always did.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable
from weakref import WeakKeyDictionary

from hotswitch.kernel.cgroup import WORKER
from hotswitch.kernel.thread_ends import ThreadEnds

ENVOY = "envoy"  # the name of its process, in Istio's image and as released
log = logging.getLogger("hotswitch.observe")


class Ends:
    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._kernel: ThreadEnds | None = None
        self._refused = False
        self._users: set[object] = set()
        self._calls: dict[int, Callable[[], None]] = {}

    def join(self, user: object) -> bool:
        """From now on this one needs it. False: it is not to be had."""
        if self._kernel is None and not self._refused:
            self._open()
        if self._kernel is None:
            return False
        self._users.add(user)
        return True

    def leave(self, user: object) -> None:
        self._users.discard(user)
        if self._kernel is not None and not self._users:
            for descriptor in self._kernel.descriptors:
                self._loop.remove_reader(descriptor)
            self._kernel.close()
            self._kernel = None

    def call_at_end(self, numbers: Iterable[int], call: Callable[[], None]) -> None:
        """`call`, once one of these processes is to be killed, or one of these threads has ended; until `forget`."""
        self._calls |= dict.fromkeys(numbers, call)

    def forget(self, numbers: Iterable[int]) -> None:
        for number in numbers:
            self._calls.pop(number, None)

    def _open(self) -> None:
        try:
            self._kernel = ThreadEnds(ENVOY, WORKER)
        except OSError as failure:
            self._refused = True
            log.info("ends of processes are not told", extra={"why": str(failure)})
            return
        for descriptor in self._kernel.descriptors:
            self._loop.add_reader(descriptor, self._heard, descriptor)

    def _heard(self, descriptor: int) -> None:
        if self._kernel is None:
            return
        ended = self._kernel.ended(descriptor)
        for number in list(self._calls) if ended is None else ended:
            if (call := self._calls.get(number)) is not None:
                call()


_OF_LOOP: WeakKeyDictionary[asyncio.AbstractEventLoop, Ends] = WeakKeyDictionary()


def ends_of(loop: asyncio.AbstractEventLoop) -> Ends:
    if loop not in _OF_LOOP:
        _OF_LOOP[loop] = Ends(loop)
    return _OF_LOOP[loop]
