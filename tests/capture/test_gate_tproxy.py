"""What is peculiar to TPROXY: a dead proxy is silent, a mark is lent for one packet, flows are decided once."""

from __future__ import annotations

import os
import select
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from hotswitch.capture.flows import cut_stuck, forget_commands
from hotswitch.capture.gate_text import write_script
from hotswitch.capture.spec import Backend
from hotswitch.kernel.command import Command, run
from hotswitch.kernel.netlink import NETLINK_SOCK_DIAG, NetlinkSocket
from hotswitch.kernel.netns import inside
from hotswitch.model import Direction, Generation, Level, Opening
from tests.capture.captured import IN_DIRECT, IN_RESCUE, OUT_RESCUE, Captured, captured, tproxy
from tests.namespaces import Pair

pytestmark = pytest.mark.netns

every_backend = pytest.mark.parametrize("backend", Backend)
every_family = pytest.mark.parametrize("family", ["v4", "v6"])
SILENCE_S = 0.4  # long enough for a local answer
REPEATED_S = 1.4  # a client repeats its first packet after 1 s, then after 2 more
SOURCE_PORT = 40001


def _marks(pod: Captured) -> set[str]:
    """Marks of the flows that conntrack knows."""
    found = run(Command(("conntrack", "-L", "-p", "tcp"), pod.pair.pod), check=True).stdout.split()
    return {word for word in found if word.startswith("mark=")}


@every_backend
@every_family
def test_the_proxy_is_dead(pair: Pair, backend: Backend, family: str) -> None:  # S4.2
    """iptables' TPROXY drops what finds no listener, so clients hang; nft's lets it fall through to the app: Istio's
    native rules open inbound traffic by themselves, to plain text under STRICT as well, and `rescue` mends that too."""
    with captured(pair, tproxy(), backend, proxy=False) as pod:
        if backend is Backend.NFTABLES:
            assert pod.call_in(family, timeout_s=SILENCE_S).who == "app"
        else:
            with pytest.raises(TimeoutError):
                pod.call_in(family, timeout_s=SILENCE_S)
        pod.open(IN_RESCUE)
        assert pod.call_in(family).who == "rescue"
        pod.open(IN_DIRECT)
        assert pod.call_in(family).who == "app"


@pytest.mark.parametrize("backend", [Backend.IPTABLES_NFT, Backend.IPTABLES_LEGACY])
def test_a_call_that_hung_before_the_opening_is_answered_after_it(pair: Pair, backend: Backend) -> None:
    """Its first packet was dropped before the flow was known to conntrack; the next, 1 s later, is a new one."""
    with captured(pair, tproxy(), backend, proxy=False) as pod:
        script = write_script(pod.gate.scope, IN_RESCUE, expiry_s=60, generation=Generation(1), reason="test")
        with _beside(pair.pod, f"sleep 0.2; nft -f - <<'EOF'\n{script}EOF"):
            assert pod.call_in("v4").who == "rescue"


@every_backend
@every_family
def test_marks_are_lent_for_the_first_packet_only(pair: Pair, backend: Backend, family: str) -> None:
    with captured(pair, tproxy(), backend) as pod:
        for openings in (IN_DIRECT, IN_RESCUE):
            pod.open(openings)
            assert pod.call_in(family).echoes()
            assert _marks(pod) == {"mark=0"}


MARKED_BEFORE = """
table inet cni {
  chain prerouting {
    type filter hook prerouting priority -250; policy accept;
    iifname "eth0" meta mark set 0xb0f00
  }
}
"""


@every_backend
@every_family
def test_packets_that_bring_a_mark_along(pair: Pair, backend: Backend, family: str) -> None:
    """A CNI's, for instance. Istio's TPROXY writes over it, and so do we."""
    with captured(pair, tproxy(), backend) as pod:
        run(Command(("nft", "-f", "-"), pair.pod, MARKED_BEFORE), check=True)
        pod.gate.trust()
        for openings, who in (({}, "proxy"), (IN_RESCUE, "rescue"), (IN_DIRECT, "app"), ({}, "proxy")):
            pod.open(openings)
            assert pod.call_in(family).who == who


@every_family
def test_the_gate_closes_by_itself(pair: Pair, family: str) -> None:  # I1
    with captured(pair, tproxy(), Backend.IPTABLES_NFT) as pod:
        pod.open(IN_RESCUE, expiry_s=0.3)
        answers, started = [], time.monotonic()
        while not answers or answers[-1] == "rescue":
            answers.append(pod.call_in(family).who)
            assert time.monotonic() - started < 5
        assert set(answers) == {"rescue", "proxy"}
        while pod.gate.read().is_open:  # its elements expire one by one, a tick of the kernel apart
            assert time.monotonic() - started < 5


def test_switched_under_traffic(pair: Pair) -> None:  # I2, I5
    """Hundreds of switches between capture and rescue: nobody ever reaches the app."""
    with captured(pair, tproxy(), Backend.IPTABLES_NFT) as pod:
        flips = "".join(
            write_script(pod.gate.scope, openings, expiry_s=60, generation=Generation(1), reason="test")
            for openings in (IN_RESCUE, {})
        )
        with _beside(pair.pod, f"while :; do nft -f - <<'EOF'\n{flips}EOF\ndone"):
            answers = {pod.call_in("v4" if number % 2 else "v6").who for number in range(200)}
        assert answers <= {"proxy", "rescue"}


def test_the_write_came_between_the_first_packets_hooks(pair: Pair) -> None:  # I2
    """The mark was lent and the inbound map is closed meanwhile: dropped, not let through to the app."""
    with captured(pair, tproxy(), Backend.IPTABLES_NFT) as pod:
        pod.open(IN_RESCUE)
        halves = "flush map inet hotswitch inbound_all\n"
        run(Command(("nft", "-f", "-"), pair.pod, halves), check=True)
        with pytest.raises(TimeoutError):
            pod.call_in("v4", timeout_s=SILENCE_S)
        pod.gate.trust()
        pod.open(IN_RESCUE)
        run(Command(("nft", "flush", "map", "inet", "hotswitch", "past_all"), pair.pod), check=True)
        assert pod.call_in("v4").who == "proxy"


@every_backend
def test_plan_says_what_the_message_does(pair: Pair, backend: Backend) -> None:  # I8
    spec = tproxy(redirect_dns=True, capture_all_dns=True)
    openings = {Direction.INBOUND: Opening(Level.RESCUE, {9000: Level.HOLD}), **OUT_RESCUE}
    with captured(pair, spec, backend) as pod:
        closed = pod.own_table()
        pod.open(openings, expiry_s=77)
        by_message = pod.own_table()
        assert pod.gate.read().openings == openings
        pod.open({})
        assert pod.own_table() == closed
        script = write_script(pod.gate.scope, openings, expiry_s=77, generation=Generation(1), reason="test")
        run(Command(("nft", "-f", "-"), pair.pod, script), check=True)
        assert pod.own_table() == by_message


@every_backend
@every_family
def test_a_flow_that_waits_at_a_hung_proxy(pair: Pair, backend: Backend, family: str) -> None:  # I2
    """Its accept queue is full, so the first packet was taken in and not answered. The flow is known, and stays with
    the proxy: at level `rescue` a repeated packet may not slip to the app. Forgotten, it is decided anew."""
    with captured(pair, tproxy(), backend, proxy=False) as pod:
        pod.serve(15006, "hung", transparent=True, backlog=0)
        first, stuck = pod.begin_call_in(family), pod.begin_call_in(family)
        assert _is_connected(first, 0.2)
        pod.open(IN_RESCUE)
        assert not _is_connected(stuck, REPEATED_S)
        assert pod.call_in(family).who == "rescue"
        for command in forget_commands(pair.pod, pod.gate.scope):
            run(command)
        assert _is_connected(stuck, 2 * REPEATED_S)
        stuck.settimeout(1)
        assert stuck.recv(100).startswith(b"rescue")


@every_family
def test_flows_that_are_stuck_in_a_hung_proxy_are_cut(pair: Pair, family: str) -> None:
    """With TPROXY they are not at port 15006: the proxy's sockets are known by being transparent."""
    with captured(pair, tproxy(), Backend.IPTABLES_NFT, proxy=False) as pod:
        pod.serve(15006, "hung", transparent=True, backlog=0)
        stuck = pod.begin_call_in(family)
        assert _is_connected(stuck, 1)
        pod.open(IN_DIRECT)
        healthy = pod.call_in(family)
        diag = NetlinkSocket(NETLINK_SOCK_DIAG, pair.pod)
        assert cut_stuck(diag, pod.gate.scope) == 1
        with pytest.raises(ConnectionResetError):
            select.select([stuck], [], [], 1)
            stuck.recv(1)
        assert healthy.echoes()
        diag.close()


@every_backend
@every_family
def test_a_four_tuple_used_again_after_a_reset(pair: Pair, backend: Backend, family: str) -> None:  # I2
    """The entry of a flow that the proxy's death has reset stays for 10 s, and a new one of the same ports counts as
    established. Istio's rules lead it to the app, with or without us; an opening forgets such entries."""
    with captured(pair, tproxy(), backend, proxy=False) as pod:
        server = pod.serve(15006, "proxy", transparent=True, backlog=0)
        before = pod.begin_call_in(family, SOURCE_PORT)
        assert _is_connected(before, 1)
        server.reset_next()
        before.close()
        pod.open(IN_RESCUE)
        for command in forget_commands(pair.pod, pod.gate.scope, ended=True):
            run(command)
        assert pod.call_in(family, source_port=SOURCE_PORT).who == "rescue"


def _is_connected(sock: socket.socket, within_s: float) -> bool:
    return bool(select.select([], [sock], [], within_s)[1])


@contextmanager
def _beside(netns: str, script: str) -> Iterator[None]:
    """A shell script that runs meanwhile."""
    with inside(netns):
        shell = subprocess.Popen(("sh", "-c", script), start_new_session=True)
    try:
        yield
    finally:
        os.killpg(shell.pid, signal.SIGKILL)
        shell.wait()
