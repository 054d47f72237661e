"""Captured DNS: questions go to the resolver they were meant for while the outbound gate is open (S4.3).

pilot-agent's name server is there as a process of the proxy's user, since Istio's conntrack zones tell by that.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from ipaddress import IPv4Address

import pytest

from hotswitch.capture.flows import forget_names_commands
from hotswitch.capture.older import Shape
from hotswitch.capture.spec import Backend, CaptureSpec
from hotswitch.kernel.command import run
from hotswitch.kernel.netns import as_user, inside
from hotswitch.model import Direction, Level, Opening
from hotswitch.sandbox.names import AGENT_DNS, DNS, answer, reply_to
from tests.capture.captured import APP_UID, FAMILIES, OUT_DIRECT, OUT_RESCUE, Captured, captured, tproxy, usual
from tests.namespaces import CLIENT_V4, CLIENT_V6, Pair

pytestmark = pytest.mark.netns

every_backend = pytest.mark.parametrize("backend", Backend)
every_family = pytest.mark.parametrize("family", ["v4", "v6"])
AGENT, RESOLVER, LOCAL = IPv4Address("1.1.1.1"), IPv4Address("2.2.2.2"), IPv4Address("3.3.3.3")  # who answered
WHICH = {
    "all": {"capture_all_dns": True},
    "servers": {"dns_servers_v4": (CLIENT_V4,), "dns_servers_v6": (CLIENT_V6,)},
}
PATIENCE_S, NOBODY_S = 5.0, 0.25  # an answer takes less than a millisecond
every_which = pytest.mark.parametrize("which", WHICH)


def _dns(which: str, **more: object) -> CaptureSpec:
    return usual(redirect_dns=True, **WHICH[which], **more)


@contextmanager
def _answering(netns: str, address: str, port: int, says: IPv4Address, uid: int = 0) -> Iterator[None]:
    """A name server on udp and tcp."""
    with inside(netns), as_user(uid):
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        udp, tcp = socket.socket(family, socket.SOCK_DGRAM), socket.socket(family)
    for sock in (udp, tcp):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((address, port))
    tcp.listen(8)
    threads = [threading.Thread(target=_udp, args=(udp, says)), threading.Thread(target=_tcp, args=(tcp, says))]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        for sock in (udp, tcp):
            with suppress(OSError):  # a udp socket is not connected, and wakes its reader all the same
                sock.shutdown(socket.SHUT_RDWR)
        for thread in threads:
            thread.join()
        udp.close()
        tcp.close()


def _udp(sock: socket.socket, says: IPv4Address) -> None:
    while True:
        try:
            query, peer = sock.recvfrom(512)
            if not query:
                return
            sock.sendto(answer(query, says), peer)
        except OSError:
            return


def _tcp(sock: socket.socket, says: IPv4Address) -> None:
    while True:
        try:
            caller, _ = sock.accept()
        except OSError:
            return
        with caller:
            reply = answer(caller.recv(514)[2:], says)
            caller.sendall(len(reply).to_bytes(2, "big") + reply)


class Resolver:
    """The app's: one udp socket that is kept, as many resolvers do."""

    def __init__(self, pod: Captured, family: str, to: str = "") -> None:
        self._pod, self._v6 = pod, family == "v6"
        self._to = (to or FAMILIES[family][1], DNS)
        self._patience_s = PATIENCE_S
        self._kept = self._socket(socket.SOCK_DGRAM)

    def _socket(self, kind: socket.SocketKind) -> socket.socket:
        with inside(self._pod.pair.pod), as_user(APP_UID):
            sock = socket.socket(socket.AF_INET6 if self._v6 else socket.AF_INET, kind)
        sock.settimeout(self._patience_s)
        if kind is socket.SOCK_DGRAM:
            sock.connect(self._to)  # or a refusal would not be heard
        self._pod.stack.callback(sock.close)
        return sock

    def fresh(self) -> IPv4Address:
        return reply_to(self._socket(socket.SOCK_DGRAM), "some.test", self._to)

    def kept(self) -> IPv4Address:
        return reply_to(self._kept, "some.test", self._to)

    def tcp(self) -> IPv4Address:
        return reply_to(self._socket(socket.SOCK_STREAM), "some.test", self._to)

    @contextmanager
    def expecting_nobody(self) -> Iterator[None]:
        """Waits no longer than an answer that came all the same would take."""
        self._be_patient(NOBODY_S)
        try:
            yield
        finally:
            self._be_patient(PATIENCE_S)

    def _be_patient(self, patience_s: float) -> None:
        self._patience_s = patience_s
        self._kept.settimeout(patience_s)

    def answers(self) -> list[IPv4Address]:
        return [self.fresh(), self.kept(), self.tcp()]


@contextmanager
def _agent(pod: Captured, family: str) -> Iterator[None]:
    with _answering(pod.pair.pod, "::1" if family == "v6" else "127.0.0.1", AGENT_DNS, AGENT, uid=1337):
        yield


def _forget(pod: Captured, *, opened: bool) -> None:
    for command in forget_names_commands(pod.pair.pod, pod.gate.scope, opened=opened):
        run(command)


@every_which
@every_backend
@every_family
@pytest.mark.parametrize("openings", [OUT_DIRECT, OUT_RESCUE], ids=["direct", "rescue"])
def test_pilot_agent_goes_and_comes_back(
    pair: Pair, which: str, backend: Backend, family: str, openings: dict[Direction, Opening]
) -> None:
    with captured(pair, _dns(which), backend) as pod, _answering(pair.client, FAMILIES[family][1], DNS, RESOLVER):
        app = Resolver(pod, family)
        with _agent(pod, family):
            assert app.answers() == [AGENT] * 3
        for question in (app.fresh, app.kept, app.tcp):
            with app.expecting_nobody(), pytest.raises(OSError):
                question()
        pod.open(openings)
        _forget(pod, opened=True)
        assert app.answers() == [RESOLVER] * 3
        with _agent(pod, family):
            assert app.answers() == [RESOLVER] * 3, "open is open, also when pilot-agent is back"
            pod.open({})
            _forget(pod, opened=False)
            assert app.answers() == [AGENT] * 3
        assert pod.istio_rules() == pod.rules


@every_family
def test_names_follow_the_outbound_gate_only(pair: Pair, family: str) -> None:
    spec = tproxy(redirect_dns=True, capture_all_dns=True)
    with (
        captured(pair, spec, Backend.IPTABLES_NFT) as pod,
        _answering(pair.client, FAMILIES[family][1], DNS, RESOLVER),
        _agent(pod, family),
    ):
        app = Resolver(pod, family)
        for openings, who in (
            ({Direction.INBOUND: Opening(Level.DIRECT)}, AGENT),
            ({Direction.OUTBOUND: Opening(Level.HOLD)}, AGENT),
            ({Direction.OUTBOUND: Opening(Level.HOLD, {443: Level.RESCUE})}, RESOLVER),
            ({Direction.OUTBOUND: Opening(Level.RESCUE, {53: Level.HOLD})}, AGENT),
        ):
            pod.open(openings)
            assert app.fresh() == who


def test_other_name_servers_were_never_captured(pair: Pair) -> None:
    spec = usual(redirect_dns=True, dns_servers_v4=("10.97.0.53",))
    with captured(pair, spec, Backend.IPTABLES_NFT) as pod, _answering(pair.client, CLIENT_V4, DNS, RESOLVER):
        app = Resolver(pod, "v4")
        assert app.fresh() == RESOLVER
        pod.open(OUT_DIRECT)
        assert app.answers() == [RESOLVER] * 3


@every_backend
def test_a_resolver_on_loopback(pair: Pair, backend: Backend) -> None:
    with (
        captured(pair, _dns("all"), backend) as pod,
        _answering(pair.pod, "127.0.0.53", DNS, LOCAL),
    ):
        app = Resolver(pod, "v4", "127.0.0.53")
        with _agent(pod, "v4"):
            assert app.answers() == [AGENT] * 3
        pod.open(OUT_DIRECT)
        _forget(pod, opened=True)
        assert app.answers() == [LOCAL] * 3


def test_pilot_agents_own_questions_are_its_own(pair: Pair) -> None:
    """It asks upstream from another zone; neither an opening nor what is forgotten after a restore hurts it."""
    with captured(pair, _dns("all"), Backend.IPTABLES_NFT) as pod, _answering(pair.client, CLIENT_V4, DNS, RESOLVER):
        with inside(pair.pod), as_user(1337):
            own = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        own.settimeout(1.0)
        with own:
            assert reply_to(own, "some.test", (CLIENT_V4, DNS)) == RESOLVER
            pod.open(OUT_DIRECT)
            _forget(pod, opened=True)
            assert reply_to(own, "some.test", (CLIENT_V4, DNS)) == RESOLVER
            pod.open({})
            _forget(pod, opened=False)
            assert reply_to(own, "some.test", (CLIENT_V4, DNS)) == RESOLVER


@pytest.mark.parametrize("shape", [shape for shape in Shape if shape is not Shape.FROM_1_25])
@every_which
def test_rules_of_older_releases(pair: Pair, which: str, shape: Shape) -> None:
    """Until 1.22 questions by UDP are redirected in OUTPUT itself."""
    with (
        captured(pair, _dns(which), Backend.IPTABLES_NFT, shape=shape) as pod,
        _answering(pair.client, CLIENT_V4, DNS, RESOLVER),
    ):
        app = Resolver(pod, "v4")
        with _agent(pod, "v4"):
            assert app.answers() == [AGENT] * 3
        pod.open(OUT_DIRECT)
        _forget(pod, opened=True)
        assert app.answers() == [RESOLVER] * 3
        with _agent(pod, "v4"):
            pod.open({})
            _forget(pod, opened=False)
            assert app.answers() == [AGENT] * 3
