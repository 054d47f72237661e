"""One listener of a loop for the ends of all proxies (S4.2a).

Opened when somebody first needs it, and closed with the last of them: in between it costs nothing, because the kernel
wakes us for Envoys that are killed and threads of their workers alone. Where it is not allowed that is found out once,
and sockets tell of a death as they always did.

The kernel goes by names, and any container may name its threads so. Who ends very many of them would take the loop's
time from everybody's probes; so after too many within a second nothing is listened to for a minute, and sockets tell.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable
from weakref import WeakKeyDictionary

from hotswitch.kernel.cgroup import WORKER
from hotswitch.kernel.thread_ends import ThreadEnds

WAKES_AT_MOST = 300  # in a second
LOST_COUNTS = 60  # wakes: when records were lost, everybody looks for himself
DEAF_S = 60.0
ENVOY = "envoy"  # the name of its process, in Istio's image and as released
log = logging.getLogger("hotswitch.observe")


class Ends:
    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._kernel: ThreadEnds | None = None
        self._refused = False
        self._users: set[object] = set()
        self._calls: dict[int, Callable[[], None]] = {}
        self._second_s, self._wakes = 0.0, 0
        self._deaf: asyncio.TimerHandle | None = None  # until it goes off

    def join(self, user: object) -> bool:
        """From now on this one needs it. False: it is not to be had. Not now, but in a minute: True."""
        if self._kernel is None and self._deaf is None and not self._refused:
            self._open()
        if self._refused:
            return False
        self._users.add(user)
        return True

    def leave(self, user: object) -> None:
        self._users.discard(user)
        if not self._users:
            self._close()

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

    def _close(self) -> None:
        if self._kernel is not None:
            for descriptor in self._kernel.descriptors:
                self._loop.remove_reader(descriptor)
            self._kernel.close()
            self._kernel = None

    def _heard(self, descriptor: int) -> None:
        if self._kernel is None:
            return
        ended = self._kernel.ended(descriptor)
        if self._are_too_many(1 if ended is not None else LOST_COUNTS):
            self._be_deaf()
        for number in list(self._calls) if ended is None else ended:
            if (call := self._calls.get(number)) is not None:
                self._tell(call)

    def _tell(self, call: Callable[[], None]) -> None:
        try:
            call()
        except Exception:  # the others of the same batch are told all the same
            log.exception("the end of a process")

    # ---- when somebody ends very many ----

    def _are_too_many(self, wakes: int) -> bool:
        now_s = self._loop.time()
        if now_s - self._second_s >= 1.0:
            self._second_s, self._wakes = now_s, 0
        self._wakes += wakes
        return self._wakes > WAKES_AT_MOST

    def _be_deaf(self) -> None:
        self._close()
        self._deaf = self._loop.call_later(DEAF_S, self._hear_again)
        log.warning("too many threads called like a proxy's end: sockets tell of deaths", extra={"for_s": DEAF_S})

    def _hear_again(self) -> None:
        self._deaf = None
        if self._users and self._kernel is None:
            self._open()


_OF_LOOP: WeakKeyDictionary[asyncio.AbstractEventLoop, Ends] = WeakKeyDictionary()


def ends_of(loop: asyncio.AbstractEventLoop) -> Ends:
    if loop not in _OF_LOOP:
        _OF_LOOP[loop] = Ends(loop)
    return _OF_LOOP[loop]
