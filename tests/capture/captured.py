"""A captured pod for tests of the gate: Istio's rules on a real kernel, and servers that say who they are."""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field, replace
from typing import Any

from hotswitch.capture import iptables, older
from hotswitch.capture.gate import Gate
from hotswitch.capture.gate_table import scope_of
from hotswitch.capture.inspect import inspect
from hotswitch.capture.older import Shape
from hotswitch.capture.render import commands
from hotswitch.capture.spec import Backend, CaptureSpec, Interception
from hotswitch.kernel.command import Command, run
from hotswitch.kernel.netns import as_user, inside
from hotswitch.model import Direction, Generation, Level, Opening
from tests.namespaces import CLIENT_V4, CLIENT_V6, POD_V4, POD_V6, Pair

IPV6_TRANSPARENT = 75
APP_UID = 1000
APP, ELSEWHERE = 8080, 9100  # the app's port; a port of the client's
FAMILIES = {"v4": (POD_V4, CLIENT_V4), "v6": (POD_V6, CLIENT_V6)}
IN_RESCUE, IN_DIRECT = ({Direction.INBOUND: Opening(level)} for level in (Level.RESCUE, Level.DIRECT))
OUT_RESCUE, OUT_DIRECT = ({Direction.OUTBOUND: Opening(level)} for level in (Level.RESCUE, Level.DIRECT))


def usual(**more: Any) -> CaptureSpec:
    """What the injector sets, in a pod with both address families."""
    exclude = {"inbound_exclude_ports": (15090, 15021, 15020)}
    return CaptureSpec(**{"inbound_ports": "*", "outbound_cidrs": "*", "ipv6": True, **exclude, **more})


def tproxy(**more: Any) -> CaptureSpec:
    return usual(mode=Interception.TPROXY, **more)


class Talk:
    """A connection that stays: who answered, whom it saw, and whether it still answers."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self.who, self.saw = sock.recv(200).decode().split()

    def echoes(self) -> bool:
        self._sock.sendall(b"still there?")
        return self._sock.recv(100) == b"still there?"

    def abort(self) -> None:
        _reset(self._sock)

    def close(self) -> None:
        self._sock.close()


def _reset(sock: socket.socket) -> None:
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


@dataclass
class Captured:
    """`rules`: Istio's as they were loaded."""

    pair: Pair
    spec: CaptureSpec
    gate: Gate
    rules: str
    stack: ExitStack = field(default_factory=ExitStack)

    def open(self, openings: dict[Direction, Opening], *, expiry_s: float = 60) -> None:
        self.gate.write(openings, expiry_s=expiry_s, generation=Generation(1), reason="test")

    def istio_rules(self) -> str:
        return inspect(self.pair.pod, self.spec).fingerprint

    def own_table(self) -> str:
        return run(Command(("nft", "-s", "list", "table", "inet", "hotswitch"), self.pair.pod), check=True).stdout

    def serve(self, port: int, name: str, *, transparent: bool = False, netns: str = "", backlog: int = 64) -> Server:
        """`backlog` 0: one that accepts nobody by itself."""
        return self.stack.enter_context(serving(netns or self.pair.pod, port, name, transparent, backlog))

    def call_in(self, family: str, port: int = APP, source_port: int = 0, timeout_s: float = 3.0) -> Talk:
        """From the client to the pod. Raises OSError."""
        return self._call(self.pair.client, (FAMILIES[family][0], port), None, None, source_port, timeout_s)

    def begin_call_in(self, family: str, source_port: int = 0) -> socket.socket:
        """From the client to the pod, without waiting for an answer."""
        with inside(self.pair.client):
            sock = socket.socket(socket.AF_INET6 if family == "v6" else socket.AF_INET)
        self.stack.callback(sock.close)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(("", source_port))
        sock.setblocking(False)
        sock.connect_ex((FAMILIES[family][0], APP))
        return sock

    def call_out(self, family: str, port: int = ELSEWHERE, uid: int = APP_UID, gid: int | None = None) -> Talk:
        """From the app to the client's side. Raises OSError."""
        return self._call(self.pair.pod, (FAMILIES[family][1], port), uid, gid)

    def call_to(self, address: str, port: int, uid: int, gid: int) -> Talk:
        """From a process of that user in the pod. Raises OSError."""
        return self._call(self.pair.pod, (address, port), uid, gid)

    def call_within(self, address: str, port: int, source: str = "") -> Talk:
        """From the app to an IPv4 address that may be the pod's own. Raises OSError."""
        return self._call(self.pair.pod, (address, port), APP_UID, None, source=source)

    def call_from(self, netns: str, address: str, port: int) -> Talk:
        """From another namespace, e.g. a guest's. Raises OSError."""
        return self._call(netns, (address, port), None, None)

    def _call(
        self,
        netns: str,
        aim: tuple[str, int],
        uid: int | None,
        gid: int | None,
        source_port: int = 0,
        timeout_s: float = 3.0,
        source: str = "",
    ) -> Talk:
        with inside(netns):
            v6 = ":" in aim[0]
            with ExitStack() as owner:
                if uid is not None:
                    owner.enter_context(as_user(uid, gid))
                sock = socket.socket(socket.AF_INET6 if v6 else socket.AF_INET)
        self.stack.callback(sock.close)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.settimeout(timeout_s)
        if source_port or source:
            sock.bind((source or ("::" if v6 else "0.0.0.0"), source_port))
        sock.connect(aim)
        return Talk(sock)


@dataclass
class Server:
    sock: socket.socket
    callers: list[socket.socket] = field(default_factory=list)

    def run(self, name: str) -> None:
        while True:
            try:
                caller, peer = self.sock.accept()
            except OSError:
                return
            self.callers.append(caller)
            threading.Thread(target=_talk, args=(caller, name, peer[0]), daemon=True).start()

    def reset_next(self) -> None:
        """Accept one caller and end it with a reset, as the kernel does for a process that is killed."""
        caller, _ = self.sock.accept()
        _reset(caller)

    def stop(self) -> None:
        """As a killed process: nobody listens any longer, and its connections end."""
        for sock in (self.sock, *self.callers):
            with suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
            sock.close()


@contextmanager
def serving(netns: str, port: int, name: str, transparent: bool = False, backlog: int = 64) -> Iterator[Server]:
    """A server that greets everybody with "<name> <their address>" and echoes."""
    with inside(netns):
        sock = socket.socket(socket.AF_INET6)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if transparent:
        sock.setsockopt(socket.IPPROTO_IPV6, IPV6_TRANSPARENT, 1)
    sock.bind(("::", port))
    sock.listen(backlog)
    server = Server(sock)
    thread = threading.Thread(target=server.run, args=(name,))
    if backlog:
        thread.start()
    try:
        yield server
    finally:
        server.stop()
        if backlog:
            thread.join()


def _talk(caller: socket.socket, name: str, peer: str) -> None:
    try:
        caller.sendall(f"{name} {peer.removeprefix('::ffff:')}".encode())
        while words := caller.recv(100):
            caller.sendall(words)
    except OSError:
        pass
    finally:
        caller.close()


def _load(pod: str, spec: CaptureSpec, backend: Backend, shape: Shape) -> None:
    """Istio's rules; iptables' in the shape of an older release."""
    for command in commands(spec, backend, pod):
        if shape is not Shape.FROM_1_25 and command.argv[0].endswith("-restore"):
            family = 6 if command.argv[0].startswith("ip6") else 4
            command = replace(command, stdin=iptables.restore_text(older.rules(spec, family, shape)))
        run(command, check=True)


@contextmanager
def captured(
    pair: Pair, spec: CaptureSpec, backend: Backend, *, proxy: bool = True, shape: Shape = Shape.FROM_1_25
) -> Iterator[Captured]:
    """A pod with these rules, a closed gate, an app, a rescue, somebody outside, and (`proxy`) a proxy."""
    _load(pair.pod, spec, backend, shape)
    gate = Gate(pair.pod, scope_of(spec))
    gate.install()
    gate.trust()
    with ExitStack() as stack:
        made = Captured(pair, spec, gate, inspect(pair.pod, spec).fingerprint, stack)
        stack.callback(gate.close)
        for port, name in ((APP, "app"), (15106, "rescue"), (15101, "rescue")):
            made.serve(port, name)
        made.serve(ELSEWHERE, "outside", netns=pair.client)
        if proxy:
            made.serve(15006, "proxy", transparent=spec.tproxy)
            made.serve(15001, "proxy")
        yield made
