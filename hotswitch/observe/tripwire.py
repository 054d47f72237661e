"""The connection held open to the proxy's 15021: it breaks within 0.2 ms of the proxy losing its sockets (S4.2b).

One reconnect at once tells a recycled idle connection from a loss. A successful reconnect proves nothing for long: the
held connection closes before the listeners do (14 of 20 kills), so it becomes the held connection and is watched on.

Health can be asked over it too, for a tenth of what a fresh connection costs. It stays on one Envoy worker, so an
answer says nothing of the others; and silence is only a reason to ask anew. An answer is there when it is listened for:
it wakes nobody.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import select
import socket
from collections.abc import Callable

from hotswitch.kernel.netns import Where, inside
from hotswitch.model import HEALTH, Port, Probe, Tripwire
from hotswitch.observe.breaks import breaks_of
from hotswitch.observe.health import READY_PATH, outcome_of_status

ANSWER_BYTES = 4096
CONNECT_WAIT_S = 0.001  # a loopback connect is answered in tens of us, or not at all (full accept queue)
_REQUEST = f"GET {READY_PATH} HTTP/1.1\r\nHost: 127.0.0.1\r\nUser-Agent: hotswitch\r\n\r\n".encode()


class HeldConnection:
    """Holds one connection to 127.0.0.1:`port` in the namespace; calls `changed` when the tripwire's state changes.
    `cut`: called as soon as it breaks, before the reconnect."""

    def __init__(
        self, netns: Where, changed: Callable[[], None], *, cut: Callable[[], None] | None = None, port: Port = HEALTH
    ) -> None:
        self._netns, self._changed, self._port, self._cut = netns, changed, port, cut
        self._socket: socket.socket | None = None
        self._loop = asyncio.get_running_loop()
        self._breaks = breaks_of(self._loop)
        self.state = Tripwire.UNARMED
        self.since_s = self._loop.time()
        self.breaks = 0
        self.cut_s: float | None = None  # when it last broke
        self.closed_s: float | None = None  # and when the far end last closed it, be it without having answered
        self._asked_s: float | None = None
        self._late = False
        self._answered: Callable[[Probe], None] = _ignore

    def arm(self) -> Tripwire:
        """Connect, or find out that it is not possible now. Never waits longer than CONNECT_WAIT_S."""
        self._drop()
        try:
            with inside(self._netns):
                fresh = socket.socket(socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        except OSError:  # the namespace is gone; whoever watches the pod's link will say so
            self._become(Tripwire.UNANSWERED)
            return self.state
        state = _connect(fresh, self._port)
        if state is Tripwire.HELD:
            self._socket = fresh
            self._breaks.watch(fresh.fileno(), self._broke)
        else:
            fresh.close()
        self._become(state)
        return self.state

    def _broke(self) -> None:
        held = self._socket
        assert held is not None
        closed = False
        try:
            data = held.recv(ANSWER_BYTES)
            if data:
                self._hear(data)  # the last words; that it is broken will be told again
                return
            closed = True
        except BlockingIOError:  # told of one before it, whose number this one has
            return
        except OSError:
            pass
        self.breaks += 1
        self._drop()
        self.cut_s = self._loop.time()
        if closed:
            self.closed_s = self.cut_s
        if self._cut is not None:
            self._cut()
        self.arm()
        self._changed()

    def heed(self) -> None:
        """Is it broken, and not told yet? Then it is told now."""
        if self._socket is None:
            return
        with contextlib.suppress(OSError):
            if self._socket.recv(1, socket.MSG_PEEK):
                return
        self._broke()

    # ---- asking over it ----

    def ask(self, answered: Callable[[Probe], None]) -> bool:
        """GET /healthz/ready; `answered` gets the answer, however late, from `listen`. False when it cannot be asked
        now: nothing is held, or the last question still stands."""
        if self._socket is None or self._asked_s is not None:
            return False
        try:
            self._socket.send(_REQUEST)
        except OSError:  # it is broken; the loop will say so
            return False
        self._asked_s, self._answered = self._loop.time(), answered
        return True

    @property
    def waited_s(self) -> float:
        """How long a question has stood whose answer was listened for in vain; 0 when there is none."""
        return self._loop.time() - self._asked_s if self._late and self._asked_s is not None else 0.0

    def listen(self) -> None:
        """Take what has been answered by now, if anything was asked."""
        if self._asked_s is None or self._socket is None:
            return
        try:
            self._hear(self._socket.recv(ANSWER_BYTES))
        except BlockingIOError:
            self._late = True
        except OSError:  # it is broken; the loop will say so
            return

    def _hear(self, data: bytes) -> None:
        begins = data.find(b"HTTP/1.")  # before it: the rest of an earlier answer
        asked_s = self._asked_s
        if asked_s is None or begins < 0:
            return
        self._asked_s, self._late = None, False
        outcome, status = outcome_of_status(data[begins : begins + 20])
        self._answered(Probe(asked_s, self._loop.time(), outcome, status))

    def _become(self, state: Tripwire) -> None:
        if state is not self.state:
            self.state, self.since_s = state, self._loop.time()

    def _drop(self) -> None:
        self._asked_s, self._late = None, False
        if self._socket is not None:
            self._breaks.forget(self._socket.fileno())
            self._socket.close()
            self._socket = None

    def close(self) -> None:
        self._drop()


def _ignore(_: Probe) -> None: ...


def _connect(fresh: socket.socket, port: Port) -> Tripwire:
    code = fresh.connect_ex(("127.0.0.1", port))
    if code == errno.EINPROGRESS:
        poller = select.poll()
        poller.register(fresh, select.POLLOUT)
        if not poller.poll(CONNECT_WAIT_S * 1000):
            return Tripwire.UNANSWERED
        code = fresh.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
    if code == 0:
        return Tripwire.HELD
    return Tripwire.REFUSED if code == errno.ECONNREFUSED else Tripwire.UNANSWERED
