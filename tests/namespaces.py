"""pytest plugin: real network namespaces for tests, made and removed here. Two of them are joined by a veth pair."""

from __future__ import annotations

import itertools
import os
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import pytest

from hotswitch.kernel.command import Command, run
from hotswitch.kernel.netns import inside

_numbers = itertools.count()
POD_V4, CLIENT_V4 = "10.97.0.2", "10.97.0.1"
POD_V6, CLIENT_V6 = "fd97::2", "fd97::1"


def ip(*words: str, netns: str | None = None) -> None:
    run(Command(("ip", *words), netns=netns), check=True)


@contextmanager
def namespace() -> Iterator[str]:
    """The path of a new namespace with loopback up."""
    name = f"ht-{os.getpid()}-{next(_numbers)}"
    ip("netns", "add", name)
    path = f"/run/netns/{name}"
    try:
        ip("link", "set", "lo", "up", netns=path)
        yield path
    finally:
        ip("netns", "del", name)


@dataclass(frozen=True)
class Pair:
    """A pod's namespace and a client's, with IPv4 and IPv6 between them."""

    pod: str
    client: str

    def listen(self, port: int, address: str = "::") -> socket.socket:
        with inside(self.pod):
            sock = socket.socket(socket.AF_INET6)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((address, port))
        sock.listen(64)
        return sock

    def call(self, address: str, port: int, *, source_port: int = 0, timeout_s: float = 2.0) -> bytes:
        """Connect from the client and read what is said. Raises OSError."""
        with inside(self.client):
            sock = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET)
        with sock:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.settimeout(timeout_s)
            if source_port:
                sock.bind(("::" if ":" in address else "0.0.0.0", source_port))
            sock.connect((address, port))
            return sock.recv(100)

    @contextmanager
    def speaker(self, port: int, words: bytes) -> Iterator[None]:
        """A server on `port` in the pod that says `words` to everybody and hangs up."""
        with self.listen(port) as sock:
            thread = threading.Thread(target=_speak, args=(sock, words))
            thread.start()
            try:
                yield
            finally:
                sock.shutdown(socket.SHUT_RDWR)
                thread.join()


def _speak(sock: socket.socket, words: bytes) -> None:
    while True:
        try:
            caller, _ = sock.accept()
        except OSError:
            return
        with caller:
            caller.sendall(words)


@pytest.fixture
def netns() -> Iterator[str]:
    with namespace() as path:
        yield path


@pytest.fixture
def pair() -> Iterator[Pair]:
    with namespace() as pod, namespace() as client:
        pod_name = pod.rpartition("/")[2]
        ip("link", "add", "veth", "type", "veth", "peer", "name", "eth0", "netns", pod_name, netns=client)
        for where, link, v4, v6 in ((pod, "eth0", POD_V4, POD_V6), (client, "veth", CLIENT_V4, CLIENT_V6)):
            ip("addr", "add", f"{v4}/24", "dev", link, netns=where)
            ip("addr", "add", f"{v6}/64", "dev", link, "nodad", netns=where)
            ip("link", "set", link, "up", netns=where)
        _wait_for_carrier(lambda: Pair(pod, client).call(POD_V6, 9))
        yield Pair(pod, client)


def _wait_for_carrier(call: Callable[[], object]) -> None:
    """Refused means the way is there: nothing listens on the discard port."""
    for _ in range(200):
        try:
            call()
        except ConnectionRefusedError:
            return
        except OSError:
            continue
    raise AssertionError("the two namespaces cannot reach each other")
