"""Captured, cleaned, captured again: seen from outside and from the app, by real connections (S4.3b, S4.5)."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, nullcontext

import pytest

from hotswitch.capture.apply import ApplyFailed, ApplyRefused, apply
from hotswitch.capture.clean import clean
from hotswitch.capture.clean import plan as plan_of_cleaning
from hotswitch.capture.inspect import inspect
from hotswitch.capture.inspection import State
from hotswitch.capture.reading import read
from hotswitch.capture.spec import Backend, CaptureSpec, Interception
from hotswitch.kernel.command import run
from hotswitch.kernel.netns import as_user, inside
from tests.capture.leavings import do, foreign, load, odd_spec, picture
from tests.namespaces import CLIENT_V4, CLIENT_V6, POD_V4, POD_V6, Pair, _speak

pytestmark = pytest.mark.netns

EVERY = pytest.mark.parametrize("backend", list(Backend), ids=str)
MODES = pytest.mark.parametrize("mode", [Interception.REDIRECT, Interception.TPROXY], ids=str)
SOL_IPV6, IPV6_TRANSPARENT, IP_TRANSPARENT = 41, 75, 19
APP, WORLD = 8080, 9000
FAMILIES = {
    "v4": ((POD_V4, CLIENT_V4),),
    "v6": ((POD_V6, CLIENT_V6),),
    "dual": ((POD_V4, CLIENT_V4), (POD_V6, CLIENT_V6)),
}


@contextmanager
def says(netns: str, port: int, words: bytes, kind: int = socket.SOCK_STREAM, address: str = "::") -> Iterator[None]:
    """A server on `port` that says `words` to everybody; TPROXY may lead flows for other addresses to it."""
    with inside(netns), as_user(1337, 1337) if port == 15053 else nullcontext():  # zones go by its owner
        sock = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, kind)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if address == "::":
        sock.setsockopt(SOL_IPV6, IPV6_TRANSPARENT, 1)
        sock.setsockopt(socket.SOL_IP, IP_TRANSPARENT, 1)
    sock.bind((address, port))
    if kind == socket.SOCK_STREAM:
        sock.listen(64)
    thread = threading.Thread(target=_speak if kind == socket.SOCK_STREAM else _answer, args=(sock, words))
    thread.start()
    try:
        yield
    finally:
        sock.shutdown(socket.SHUT_RDWR) if kind == socket.SOCK_STREAM else _stop(netns, port, address)
        thread.join()
        sock.close()


def _answer(sock: socket.socket, words: bytes) -> None:
    while True:
        question, caller = sock.recvfrom(100)
        if question == b"stop":
            return
        sock.sendto(words, caller)


def _stop(netns: str, port: int, address: str) -> None:
    with inside(netns):
        sock = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_DGRAM)
    with sock:
        sock.sendto(b"stop", ("::1" if address == "::" else address, port))


def heard(netns: str, address: str, port: int, kind: int = socket.SOCK_STREAM) -> bytes:
    with inside(netns):
        sock = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, kind)
    with sock:
        sock.settimeout(3)
        sock.connect((address, port))
        if kind == socket.SOCK_DGRAM:
            sock.send(b"who")
        return sock.recv(100)


@contextmanager
def everybody_there(pair: Pair) -> Iterator[None]:
    """The app, what it calls, a name server, and a proxy and an agent that say who they are."""
    with ExitStack() as stack:
        for where, port, words in (
            (pair.pod, 15001, b"proxy"), (pair.pod, 15006, b"proxy"), (pair.pod, APP, b"direct"),
            (pair.client, WORLD, b"direct"), (pair.client, 53, b"direct"), (pair.pod, 15053, b"proxy"),
        ):  # fmt: skip
            stack.enter_context(says(where, port, words))
        for where, port, words, address in (
            (pair.pod, 15053, b"proxy", "127.0.0.1"), (pair.pod, 15053, b"proxy", "::1"),
            (pair.client, 53, b"direct", CLIENT_V4), (pair.client, 53, b"direct", CLIENT_V6),
        ):  # fmt: skip
            stack.enter_context(says(where, port, words, socket.SOCK_DGRAM, address))
        yield


def assert_all(pair: Pair, families: str, dns: bool, expected: bytes) -> None:
    """In and out, and the questions for names."""
    for pod, client in FAMILIES[families]:
        assert heard(pair.client, pod, APP) == expected
        assert heard(pair.pod, client, WORLD) == expected
        if dns:
            assert heard(pair.pod, client, 53) == expected
            assert heard(pair.pod, client, 53, socket.SOCK_DGRAM) == expected


@EVERY
@MODES
@pytest.mark.parametrize("dns", [False, True], ids=["plain", "dns"])
@pytest.mark.parametrize("families", list(FAMILIES))
def test_captured_cleaned_and_captured_again(
    pair: Pair, backend: Backend, mode: Interception, dns: bool, families: str
) -> None:
    spec = odd_spec(
        mode=mode, redirect_dns=dns, ipv6=families != "v4", dual_stack=families == "dual", drop_invalid=False
    )
    before = picture(pair.pod)
    with everybody_there(pair):
        load(pair.pod, spec, backend)
        captured = inspect(pair.pod, spec).fingerprint
        assert_all(pair, families, dns, b"proxy")
        clean(pair.pod)
        assert picture(pair.pod) == before
        assert_all(pair, families, dns, b"direct")
        assert apply(pair.pod, spec, backend)
        assert inspect(pair.pod, spec).fingerprint == captured
        assert_all(pair, families, dns, b"proxy")
        assert apply(pair.pod, spec, backend) == ()
    clean(pair.pod)
    assert picture(pair.pod) == before


@EVERY
@MODES
def test_routing_that_is_lost_is_put_back_alone(netns: str, backend: Backend, mode: Interception) -> None:
    spec = odd_spec(mode=mode)
    apply(netns, spec, backend)
    do(netns, "ip -6 addr del ::6/128 dev lo")
    done = apply(netns, spec, backend)
    assert [command.argv[:4] for command in done] == [("ip", "-6", "addr", "add")]
    if mode is Interception.TPROXY:
        do(netns, "ip -4 rule del fwmark 1337")
        assert inspect(netns, spec).ip.state is State.PARTIAL
        assert [command.argv[:4] for command in apply(netns, spec, backend)] == [("ip", "-4", "rule", "add")]
    assert inspect(netns, spec).matches(spec) == []


@EVERY
def test_rules_of_others_are_kept_around(netns: str, backend: Backend) -> None:
    foreign(netns, backend, "first")
    before = picture(netns)
    apply(netns, odd_spec(), backend)
    assert inspect(netns, odd_spec()).matches(odd_spec(), backend) == []
    clean(netns)
    assert picture(netns) == before


@EVERY
@pytest.mark.parametrize("other", list(Backend), ids=str)
def test_other_rules_of_istios_are_refused(netns: str, backend: Backend, other: Backend) -> None:
    load(netns, odd_spec(outbound_exclude_ports=(99,)), other)
    before = picture(netns)
    with pytest.raises(ApplyRefused, match="there already and differ"):
        apply(netns, odd_spec(), backend)
    assert picture(netns) == before
    clean(netns)
    apply(netns, odd_spec(), backend)


def test_rule_that_ends_the_chain_before_istios_is_refused(netns: str) -> None:
    do(netns, "iptables-nft -t nat -A PREROUTING -j ACCEPT")
    with pytest.raises(ApplyRefused, match="would stand behind it"):
        apply(netns, odd_spec(), Backend.IPTABLES_NFT)
    apply(netns, odd_spec(), Backend.NFTABLES)


def test_half_of_an_apply_is_taken_out_again(netns: str) -> None:
    """IPv6 fails after IPv4 was written: a chain of the same name, which no rule of Istio's explains away."""
    do(netns, "nft add table ip6 nat")
    do(netns, "nft add chain ip6 nat OUTPUT { type filter hook output priority 5 ; }")
    before = picture(netns)
    with pytest.raises(ApplyFailed, match="taken out again"):
        apply(netns, odd_spec(), Backend.IPTABLES_NFT)
    assert picture(netns) == before


def test_proxy_without_capture_needs_nothing(netns: str) -> None:
    none = CaptureSpec(mode=Interception.NONE)
    assert apply(netns, none) == ()
    load(netns, odd_spec(), Backend.NFTABLES)
    with pytest.raises(ApplyRefused):
        apply(netns, none)


@EVERY
@MODES
def test_live_connections_end_before_the_rest_goes(pair: Pair, backend: Backend, mode: Interception) -> None:
    """New connections go straight while an old one passes the proxy on both its legs; its end lets the rest go."""
    before = picture(pair.pod)
    load(pair.pod, odd_spec(mode=mode), backend)
    with says(pair.pod, APP, b"direct"), ExitStack() as stack:
        legs = _connections_through_proxy(pair, stack, transparent=mode is Interception.TPROXY)
        outcome = []
        cleaning = threading.Thread(target=lambda: outcome.append(clean(pair.pod, drain_s=30)))
        cleaning.start()
        while _answer_or_none(pair) != b"direct":
            assert cleaning.is_alive()
        for _ in range(3):
            for caller, server in legs:
                caller.sendall(b"ask")
                assert server.recv(10) == b"ask"
                server.sendall(b"say")
                assert caller.recv(10) == b"say"
        assert cleaning.is_alive()
        stack.close()
        cleaning.join()
    assert outcome[0].cut == 0
    assert picture(pair.pod) == before


def _connections_through_proxy(
    pair: Pair, stack: ExitStack, *, transparent: bool
) -> list[tuple[socket.socket, socket.socket]]:
    """From the client to the proxy, and from the proxy to the app: from 127.0.0.6, or with the client's address."""
    proxy, app = stack.enter_context(pair.listen(15006)), stack.enter_context(pair.listen(8081))
    with inside(pair.client):
        caller = stack.enter_context(socket.socket())
    with inside(pair.pod):
        leg = stack.enter_context(socket.socket())
    for option in ((SOL_IPV6, IPV6_TRANSPARENT), (socket.SOL_IP, IP_TRANSPARENT)):
        proxy.setsockopt(*option, 1)
    if transparent:
        leg.setsockopt(socket.SOL_IP, IP_TRANSPARENT, 1)
        leg.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, 1337)
    leg.bind((CLIENT_V4 if transparent else "127.0.0.6", 0))
    legs = []
    for sock, listener, port in ((caller, proxy, APP), (leg, app, 8081)):
        sock.settimeout(5)
        listener.settimeout(5)
        sock.connect((POD_V4, port))
        server, _ = listener.accept()
        server.settimeout(5)
        legs.append((sock, stack.enter_context(server)))
    return legs


def _answer_or_none(pair: Pair) -> bytes | None:
    """Until the rules are gone, connections wait in the proxy's accept queue."""
    with inside(pair.client):
        sock = socket.socket()
    with sock:
        sock.settimeout(0.2)
        try:
            sock.connect((POD_V4, APP))
            return sock.recv(10)
        except OSError:
            return None


@EVERY
@MODES
@pytest.mark.parametrize("drain_s", [0.0, 0.5])
def test_drain_that_takes_too_long_ends_with_a_cut(
    pair: Pair, backend: Backend, mode: Interception, drain_s: float
) -> None:
    before = picture(pair.pod)
    load(pair.pod, odd_spec(mode=mode), backend)
    with pair.listen(15006) as proxy:
        for option in ((SOL_IPV6, IPV6_TRANSPARENT), (socket.SOL_IP, IP_TRANSPARENT)):
            proxy.setsockopt(*option, 1)
        with inside(pair.client):
            caller = socket.create_connection((POD_V4, APP), timeout=5)
        server, _ = proxy.accept()
        with caller, server:
            assert clean(pair.pod, drain_s=drain_s).cut == 1
            with pytest.raises(ConnectionResetError):  # at once, not at its next packet
                caller.recv(10)
    assert picture(pair.pod) == before


def test_killed_while_draining_it_is_cleaned_by_the_next(netns: str) -> None:
    before = picture(netns)
    load(netns, odd_spec(mode=Interception.TPROXY), Backend.IPTABLES_NFT)
    for command in plan_of_cleaning(read(netns), None, netns, staged=True).first:
        run(command, check=True)
    assert clean(netns).changed
    assert picture(netns) == before
