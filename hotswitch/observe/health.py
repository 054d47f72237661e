"""GET /healthz/ready on 15021, each time on a fresh connection (S4.2b).

A kept connection stays on one Envoy worker and misses half of the hangs; the kernel completes handshakes for a hung
process, so only an answer counts. No task per probe: a socket, two callbacks and a timer, about 100 us of CPU, so one
process can watch thousands of proxies.
"""

from __future__ import annotations

import asyncio
import errno
import socket
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

from hotswitch.kernel.netns import Where, as_user, inside
from hotswitch.model import Probe, ProbeOutcome

REQUEST = b"GET %s HTTP/1.1\r\nHost: %s\r\nUser-Agent: hotswitch\r\nConnection: close\r\n\r\n"
READY_PATH = "/healthz/ready"
_STATUS_BYTES = len(b"HTTP/1.1 200")


class HttpProbe:
    """One GET from inside the namespace. `done(Probe)` is called exactly once, unless `cancel()` comes first.

    `netns` None: from where this process is. `timeout_s` counts from the start; a timer that fires more than `lag_s`
    late makes the outcome INVALID, because then it is our own loop that was slow. So does a socket that cannot be had.
    `uid`: whose socket it shall be (None: our own).
    """

    def __init__(
        self,
        netns: Where | None,
        address: tuple[str, int],
        path: str,
        done: Callable[[Probe], None],
        *,
        timeout_s: float,
        lag_s: float,
        uid: int | None = None,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._done, self._lag_s, self._deadline_s = done, lag_s, self._loop.time() + timeout_s
        self._request = REQUEST % (path.encode(), _host(address[0]))
        self._started_s = self._loop.time()
        self._answer, self._over, self._has_socket = b"", False, True
        self._timer = self._loop.call_at(self._deadline_s, self._late)
        family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        try:
            with _there(netns), as_user(uid, uid) if uid is not None else nullcontext():
                self._socket = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        except OSError as failure:  # the namespace is gone, or we have too many files open: no packet is sent
            self._has_socket = False
            self._loop.call_soon(self._finish, ProbeOutcome.INVALID, str(failure))
            return
        self._start(address)

    def _start(self, address: tuple[str, int]) -> None:
        """On loopback the handshake is over when connect returns, so the request can go at once, nearly always."""
        code = self._socket.connect_ex(address)
        if code in (0, errno.EINPROGRESS):
            self._ask()
        else:  # done() must not be called before the constructor has returned
            self._loop.call_soon(self._finish, _outcome_of(code), errno.errorcode.get(code, str(code)))

    def _ask(self) -> None:
        try:
            self._socket.send(self._request)
        except BlockingIOError:
            self._loop.add_writer(self._socket.fileno(), self._connected)
        except OSError as failure:
            self._loop.call_soon(self._finish, _outcome_of(failure.errno or 0), str(failure))
        else:
            self._loop.add_reader(self._socket.fileno(), self._readable)

    def _connected(self) -> None:
        self._loop.remove_writer(self._socket.fileno())
        code = self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if code:
            self._finish(_outcome_of(code), errno.errorcode.get(code, str(code)))
        else:
            self._ask()

    def _readable(self) -> None:
        try:
            data = self._socket.recv(4096)
        except BlockingIOError:
            return
        except OSError as failure:
            self._finish(_outcome_of(failure.errno or 0), str(failure))
            return
        self._answer += data
        if len(self._answer) >= _STATUS_BYTES:
            self._finish(*outcome_of_status(self._answer))
        elif not data:
            self._finish(ProbeOutcome.RESET, "closed before an answer")

    def _late(self) -> None:
        lag_s = self._loop.time() - self._deadline_s
        outcome = ProbeOutcome.INVALID if lag_s > self._lag_s else ProbeOutcome.TIMEOUT
        self._finish(outcome, f"own loop {lag_s * 1000:.0f} ms late" if outcome is ProbeOutcome.INVALID else "")

    def _finish(self, outcome: ProbeOutcome, detail: str) -> None:
        if self._close():
            self._done(Probe(self._started_s, self._loop.time(), outcome, detail))

    def _close(self) -> bool:
        """asyncio gets numbers: a socket that is not registered it would print, addresses and all, by system calls."""
        if self._over:
            return False
        self._over = True
        self._timer.cancel()
        if not self._has_socket:
            return True
        self._loop.remove_reader(self._socket.fileno())
        self._loop.remove_writer(self._socket.fileno())
        self._socket.close()
        return True

    def cancel(self) -> None:
        self._close()

    @property
    def age_s(self) -> float:
        return self._loop.time() - self._started_s


def _there(netns: Where | None) -> AbstractContextManager[None]:
    return nullcontext() if netns is None else inside(netns)


def outcome_of_status(answer: bytes) -> tuple[ProbeOutcome, str]:
    """The first line's status, and itself as text."""
    status = answer[9:12].decode("ascii", "replace")
    return (ProbeOutcome.OK if status.startswith("2") else ProbeOutcome.UNREADY), f"HTTP {status}"


def _outcome_of(code: int) -> ProbeOutcome:
    if code == errno.ECONNREFUSED:
        return ProbeOutcome.REFUSED
    if code in (errno.ECONNRESET, errno.EPIPE):
        return ProbeOutcome.RESET
    return ProbeOutcome.TIMEOUT if code == errno.ETIMEDOUT else ProbeOutcome.INVALID


def _host(address: str) -> bytes:
    return (f"[{address}]" if ":" in address else address).encode()
