"""The open-loop load program, a process of its own in the client's namespace: one request per tick, whatever happens.

Open loop, because a client that waits for slow answers hides an outage. Every request's start, end and fate are kept
(CLOCK_MONOTONIC, so they compare with any other process's clock) and written as an array at the end; while it runs,
running totals go to standard output. One epoll, no task per request: a new connection costs about 100 us of one core.
"""

from __future__ import annotations

import errno
import gc
import json
import os
import select
import signal
import socket
import sys
import time
from array import array
from collections import deque
from pathlib import Path

from hotswitch.sandbox.loadconfig import LoadConfig
from hotswitch.sandbox.outcome import COUNTED, Kind
from hotswitch.sandbox.process import become
from hotswitch.sandbox.ticker import Ticker

_EVENTS = select.EPOLLIN | select.EPOLLOUT | select.EPOLLRDHUP | select.EPOLLET
_SWEEP_NS = 5_000_000  # how often timeouts are looked for
_ENDPOINTS_NS = 20_000_000  # how often the endpoints file is looked at
_REFUSED = {errno.ECONNREFUSED, errno.EHOSTUNREACH, errno.ENETUNREACH}


class _Connection:
    """One socket. `request`: its row in the results, -1 when idle."""

    __slots__ = ("buffer", "connected", "deadline_ns", "request", "sock")

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.connected = False
        self.request = -1
        self.deadline_ns = 0
        self.buffer = b""


class Load:
    def __init__(self, config: LoadConfig) -> None:
        self._config = config
        self._epoll = select.epoll()
        self._open: dict[int, _Connection] = {}
        self._idle: deque[_Connection] = deque()
        self._results = array("q")  # start_ns, end_ns, kind; three for each request
        self._totals = dict.fromkeys(Kind, 0)
        self._targets = list(config.targets)
        self._turn = 0
        self._endpoints_stamp = 0
        self._request = f"GET {config.path} HTTP/1.1\r\nHost: {config.host}\r\n\r\n".encode()
        self._timeout_ns = round(config.timeout_s * 1e9)
        self._stopped = False

    def run(self) -> None:
        """The loop. Ends after `seconds` (or SIGTERM) and the last answer or timeout."""
        self._connect_first()
        timer = Ticker(1 / self._config.rate)
        self._epoll.register(timer.fd, select.EPOLLIN)
        left = round(self._config.seconds * self._config.rate)
        swept = reported = looked = 0
        while left > 0 or self._waiting():
            for fd, events in self._epoll.poll(0.01):
                if fd == timer.fd:
                    due = min(timer.due(), left)
                    left = 0 if self._stopped else left - due
                    for _ in range(due if not self._stopped else 0):
                        self._tick()
                else:
                    self._on_event(fd, events)
            now = time.monotonic_ns()
            if now - swept > _SWEEP_NS:
                swept = now
                self._time_out(now)
            if now - reported > self._config.report_s * 1e9:
                reported = now
                self._report()
            if self._config.endpoints and now - looked > _ENDPOINTS_NS:
                looked = now
                self._read_endpoints()
        self._report()

    def _connect_first(self) -> None:
        """Open the kept connections, or find out that they cannot be opened, before the first request."""
        for _ in range(self._config.connections):
            self._dial()
        deadline = time.monotonic() + self._config.timeout_s
        while len(self._idle) < len(self._open) and time.monotonic() < deadline:
            for fd, events in self._epoll.poll(0.01):
                self._on_event(fd, events)

    def stop(self, *_: object) -> None:
        self._stopped = True

    def save(self) -> None:
        with open(self._config.output, "wb") as output:
            self._results.tofile(output)

    def _waiting(self) -> bool:
        return any(connection.request >= 0 for connection in self._open.values())

    # ---- one request ----

    def _tick(self) -> None:
        row = len(self._results)
        now = time.monotonic_ns()
        self._results.extend((now, 0, Kind.PENDING))
        connection = self._idle.popleft() if self._idle else None
        if connection is None and 0 < self._config.connections <= len(self._open):
            return self._finish(row, Kind.BUSY)
        if connection is None:
            connection = self._dial()
        if connection is None:
            return self._finish(row, Kind.REFUSED)
        connection.request = row
        connection.deadline_ns = now + self._timeout_ns
        if connection.connected:
            self._send(connection)

    def _dial(self) -> _Connection | None:
        """A socket on its way; None where there is nobody to dial or the kernel says no at once."""
        if not self._targets:
            return None
        target = self._targets[self._turn % len(self._targets)]
        self._turn += 1
        family = socket.AF_INET6 if ":" in target[0] else socket.AF_INET
        sock = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        if sock.connect_ex(target) not in (0, errno.EINPROGRESS):
            sock.close()
            return None
        connection = self._open[sock.fileno()] = _Connection(sock)
        self._epoll.register(sock.fileno(), _EVENTS)
        return connection

    def _send(self, connection: _Connection) -> None:
        try:
            connection.sock.send(self._request)
        except OSError as error:
            self._drop(connection, _kind_of(error.errno))

    def _on_event(self, fd: int, events: int) -> None:
        connection = self._open.get(fd)
        if connection is None:
            return
        if not connection.connected:
            if not events & (select.EPOLLOUT | select.EPOLLERR | select.EPOLLHUP):
                return
            if not self._connected(connection):
                return
        if events & ~select.EPOLLOUT:
            self._receive(connection)

    def _connected(self, connection: _Connection) -> bool:
        error = connection.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if error:
            self._drop(connection, _kind_of(error))
            return False
        connection.connected = True
        if connection.request >= 0:
            self._send(connection)
        else:
            self._idle.append(connection)
        return connection.sock.fileno() >= 0

    def _receive(self, connection: _Connection) -> None:
        try:
            data = connection.sock.recv(16384)
        except BlockingIOError:
            return
        except OSError as error:
            return self._drop(connection, _kind_of(error.errno))
        if not data:
            return self._drop(connection, Kind.RESET)
        connection.buffer += data
        if (kind := _judge(connection.buffer)) is not None:
            self._answered(connection, kind)

    def _answered(self, connection: _Connection, kind: Kind) -> None:
        row, connection.request, connection.buffer = connection.request, -1, b""
        if row >= 0:
            self._finish(row, kind)
        if self._config.connections:
            self._idle.append(connection)
        else:
            self._close(connection)

    # ---- fates ----

    def _finish(self, row: int, kind: Kind) -> None:
        self._results[row + 1] = time.monotonic_ns()
        self._results[row + 2] = kind
        self._totals[kind] += 1

    def _drop(self, connection: _Connection, kind: Kind) -> None:
        if connection.request >= 0:
            self._finish(connection.request, kind)
        elif connection in self._idle:
            self._idle.remove(connection)
        self._close(connection)

    def _close(self, connection: _Connection) -> None:
        self._open.pop(connection.sock.fileno(), None)
        connection.sock.close()

    def _time_out(self, now: int) -> None:
        late = [each for each in self._open.values() if each.request >= 0 and now > each.deadline_ns]
        for connection in late:
            self._drop(connection, Kind.TIMEOUT)

    def _read_endpoints(self) -> None:
        assert self._config.endpoints is not None
        stamp = os.stat(self._config.endpoints).st_mtime_ns
        if stamp != self._endpoints_stamp:
            self._endpoints_stamp = stamp
            lines = Path(self._config.endpoints).read_text().split("\n")
            self._targets = [(host, int(port)) for host, port in (line.split() for line in lines if line)]

    def _report(self) -> None:
        totals = {kind.name.lower(): self._totals[kind] for kind in COUNTED}
        report = {"at_ns": time.monotonic_ns(), "sent": len(self._results) // 3, **totals}
        sys.stdout.write(json.dumps(report) + "\n")
        sys.stdout.flush()


def _judge(data: bytes) -> Kind | None:
    """What a response amounts to, once it is whole."""
    head, found, body = data.partition(b"\r\n\r\n")
    if not found:
        return None
    at = head.find(b"content-length: ")
    if at >= 0 and len(body) < int(head[at + 16 :].split(b"\r", 1)[0]):
        return None
    if not head.startswith(b"HTTP/1.1 200"):
        return Kind.HTTP_ERROR
    return Kind.VIA_PROXY if b"\r\nx-via:" in head else Kind.DIRECT


def _kind_of(error: int | None) -> Kind:
    if error in _REFUSED:
        return Kind.REFUSED
    return Kind.TIMEOUT if error == errno.ETIMEDOUT else Kind.RESET


def main() -> None:
    config, parent = LoadConfig.load(Path(sys.argv[1])), os.getppid()
    become(config.uid, config.gid, parent)
    load = Load(config)
    if config.endpoints:
        load._read_endpoints()
    signal.signal(signal.SIGTERM, load.stop)
    gc.disable()  # a pause of ours must not look like one of the proxy's; nothing here makes cycles
    load.run()
    load.save()


if __name__ == "__main__":
    main()
