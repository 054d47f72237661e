"""The one place that opens netlink. Sockets are made inside a pod's namespace once, and used from outside ever after.

A library would do for most of it, but not on the path from fault to traffic: a flip by pyroute2 costs 220 us, by the
`nft` command 1-2 ms, by a prepared message on a held socket about 15 us. Layouts: include/uapi/linux/netlink.h.
"""

from __future__ import annotations

import contextlib
import os
import socket
import struct
from collections.abc import Iterator

from hotswitch.kernel.netns import Where, cookie, inside
from hotswitch.model import NetnsCookie

NETLINK_ROUTE, NETLINK_SOCK_DIAG, NETLINK_NETFILTER = 0, 4, 12
NLM_F_REQUEST, NLM_F_ACK, NLM_F_DUMP, NLM_F_CREATE = 0x1, 0x4, 0x300, 0x400
NLMSG_ERROR, NLMSG_DONE = 2, 3
NLA_F_NESTED, NLA_TYPE_MASK = 0x8000, 0x3FFF
RTMGRP_LINK = 1
RTM_NEWLINK, RTM_DELLINK = 16, 17
ANSWER_TIMEOUT_S = 1.0

_HEADER = struct.Struct("=IHHII")
_ATTR = struct.Struct("=HH")
_ERRNO = struct.Struct("=i")
_ANSWER_TIMEOUT = struct.pack("@ll", int(ANSWER_TIMEOUT_S), round(ANSWER_TIMEOUT_S % 1 * 1e6))  # struct timeval


def attr(kind: int, data: bytes) -> bytes:
    return _ATTR.pack(4 + len(data), kind) + data + b"\0" * (-len(data) % 4)


def nest(kind: int, *parts: bytes) -> bytes:
    return attr(kind | NLA_F_NESTED, b"".join(parts))


def text(kind: int, value: str) -> bytes:
    return attr(kind, value.encode() + b"\0")


def message(kind: int, flags: int, body: bytes, sequence: int = 1) -> bytes:
    return _HEADER.pack(_HEADER.size + len(body), kind, flags, sequence, 0) + body


def acknowledged(request: bytes) -> bytes:
    """The same message, with a wish to be told of its success."""
    size, kind, flags, sequence, port = _HEADER.unpack_from(request)
    return _HEADER.pack(size, kind, flags | NLM_F_ACK, sequence, port) + request[_HEADER.size :]


def attrs(data: bytes) -> Iterator[tuple[int, bytes]]:
    """The attributes of `data`: (type without flags, payload)."""
    at = 0
    while at + 4 <= len(data):
        size, kind = _ATTR.unpack_from(data, at)
        if size < 4:
            return
        yield kind & NLA_TYPE_MASK, data[at + 4 : at + size]
        at += (size + 3) & ~3


def messages(data: bytes) -> Iterator[tuple[int, bytes]]:
    """The messages of one datagram: (type, body)."""
    at = 0
    while at + _HEADER.size <= len(data):
        size, kind, *_ = _HEADER.unpack_from(data, at)
        if size < _HEADER.size:
            return
        yield kind, data[at + _HEADER.size : at + size]
        at += (size + 3) & ~3


class NetlinkSocket:
    """A netlink socket that belongs to the namespace at `netns` (None: this one) for as long as it is open.

    It keeps that namespace alive: close it when the pod is gone. Raises OSError as `inside` and socket() do.
    """

    def __init__(self, protocol: int, netns: Where | None = None, groups: int = 0) -> None:
        if netns is None:
            self._open(protocol, groups)
        else:
            with inside(netns):
                self._open(protocol, groups)
        self.cookie: NetnsCookie = cookie(self._socket)

    def _open(self, protocol: int, groups: int) -> None:
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, protocol)
        self._socket.bind((0, groups))  # a timeout of Python's own costs a system call more each time
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, _ANSWER_TIMEOUT)

    def fileno(self) -> int:
        return self._socket.fileno()

    def close(self) -> None:
        self._socket.close()

    def transact(self, request: bytes, acks: int = 1) -> None:
        """Send and wait for `acks` acknowledgements. Raises the first error as OSError; nothing stays unread."""
        self._socket.send(request)
        failure = 0
        while acks > 0:
            for kind, body in messages(self._socket.recv(65536)):
                if kind == NLMSG_ERROR:
                    code = _ERRNO.unpack_from(body)[0]
                    failure = failure or code
                    acks -= 1
            if failure:  # an aborted batch may answer for some of its messages only
                self._discard()
                raise OSError(-failure, os.strerror(-failure))

    def ask(self, request: bytes) -> bytes:
        """Send a request that has one answer; its body. Raises OSError on an error answer."""
        self._socket.send(request)
        for kind, body in messages(self._socket.recv(65536)):
            if kind == NLMSG_ERROR and (code := _ERRNO.unpack_from(body)[0]):
                raise OSError(-code, os.strerror(-code))
            return body
        return b""

    def dump(self, request: bytes) -> list[bytes]:
        """Send a dump request; the bodies of all parts. Raises OSError on an error answer."""
        self._socket.send(request)
        bodies: list[bytes] = []
        while True:
            for kind, body in messages(self._socket.recv(262144)):
                if kind == NLMSG_DONE:
                    return bodies
                if kind == NLMSG_ERROR:
                    code = _ERRNO.unpack_from(body)[0]
                    self._discard()
                    raise OSError(-code, os.strerror(-code))
                bodies.append(body)

    def _discard(self) -> None:
        with contextlib.suppress(BlockingIOError):
            while self._socket.recv(65536, socket.MSG_DONTWAIT):
                pass

    def events(self) -> list[tuple[int, bytes]]:
        """What was announced since the last call (for sockets with groups): (type, body). Never waits."""
        found: list[tuple[int, bytes]] = []
        try:
            while True:
                found.extend(messages(self._socket.recv(65536, socket.MSG_DONTWAIT)))
        except BlockingIOError:
            return found
        except OSError:  # ENOBUFS: announcements were lost, so the caller has to look for itself
            return [*found, (0, b"")]
