"""The gate on a real kernel: opens, closes, expires, refuses (S4.3, I1, I4, I5, I6)."""

import time
from collections.abc import Iterator

import pytest

from hotswitch.capture.gate import Gate, GateAbsent, GateFenced, GateState
from hotswitch.capture.gate_table import GateScope
from hotswitch.capture.gate_text import write_script
from hotswitch.kernel.command import Command, run
from hotswitch.kernel.netlink import NETLINK_NETFILTER, NetlinkSocket
from hotswitch.model import NEVER_OPENED, Direction, Generation, Level, Opening
from tests.namespaces import POD_V4, POD_V6, Pair

pytestmark = pytest.mark.netns

ISTIO_LIKE = """
table inet istio-proxy-nat {
  chain prerouting { type nat hook prerouting priority -100; policy accept;
    tcp dport { 15008, 15020, 15021, 15090 } return
    meta l4proto tcp redirect to :15006
  }
}
"""
BOTH = pytest.mark.parametrize("address", [POD_V4, POD_V6], ids=["v4", "v6"])
IN_RESCUE = {Direction.INBOUND: Opening(Level.RESCUE)}
IN_DIRECT = {Direction.INBOUND: Opening(Level.DIRECT)}


def nft(netns: str, script: str) -> None:
    run(Command(("nft", "-f", "-"), netns=netns, stdin=script), check=True)


def ruleset(netns: str) -> str:
    return run(Command(("nft", "-s", "list", "ruleset"), netns=netns), check=True).stdout


@pytest.fixture
def gate(pair: Pair) -> Iterator[Gate]:
    """A closed gate before a captured pod whose proxy, app and rescue all say who they are."""
    nft(pair.pod, ISTIO_LIKE)
    made = Gate(pair.pod, GateScope(inbound_exclude_ports=(9999,)))
    made.install()
    made.trust()
    with pair.speaker(15006, b"proxy"), pair.speaker(15106, b"rescue"), pair.speaker(8080, b"app"):
        yield made
    made.close()


def opened(gate: Gate, openings: dict[Direction, Opening], *, expiry_s: float = 60, generation: int = 1) -> None:
    gate.write(openings, expiry_s=expiry_s, generation=Generation(generation), reason="test")


@BOTH
def test_a_closed_gate_changes_nothing(gate: Gate, pair: Pair, address: str) -> None:
    assert pair.call(address, 8080) == b"proxy"
    assert gate.read() == GateState()


@BOTH
def test_open_leads_to_the_rescue_or_to_the_app_and_back(gate: Gate, pair: Pair, address: str) -> None:  # S4.3
    before = ruleset(pair.pod)
    opened(gate, IN_RESCUE)
    assert pair.call(address, 8080) == b"rescue"
    opened(gate, IN_DIRECT)
    assert pair.call(address, 8080) == b"app"
    opened(gate, {})
    assert pair.call(address, 8080) == b"proxy"
    assert ruleset(pair.pod) == before  # I4


def test_ports_are_exceptions_to_the_level(gate: Gate, pair: Pair) -> None:
    with pair.speaker(8081, b"strict"):
        opened(gate, {Direction.INBOUND: Opening(Level.DIRECT, {8081: Level.HOLD})})
        assert pair.call(POD_V4, 8080) == b"app"
        assert pair.call(POD_V4, 8081) == b"proxy"
        opened(gate, {Direction.INBOUND: Opening(Level.HOLD, {8081: Level.DIRECT})})
        assert pair.call(POD_V4, 8080) == b"proxy"
        assert pair.call(POD_V4, 8081) == b"strict"


@pytest.mark.parametrize("port", sorted(NEVER_OPENED | {9999}))
def test_some_ports_are_never_led_elsewhere(gate: Gate, pair: Pair, port: int) -> None:
    if port == 15106:  # the rescue's own door: Istio's rules decide, as if we were not there
        opened(gate, IN_RESCUE)
        assert pair.call(POD_V4, port) == b"proxy"
        return
    with pair.speaker(port, b"own"):
        captured = pair.call(POD_V4, port)
        opened(gate, IN_RESCUE)
        assert pair.call(POD_V4, port) == captured


def test_everything_of_hotswitch_dies_with_the_gate_open(gate: Gate, pair: Pair) -> None:  # I1
    opened(gate, IN_DIRECT, expiry_s=0.3)
    started = time.monotonic()
    assert pair.call(POD_V4, 8080) == b"app"
    while pair.call(POD_V4, 8080) == b"app":
        assert time.monotonic() - started < 5, "the kernel did not close the gate"
    assert time.monotonic() - started > 0.25
    assert not gate.read().is_open


def test_a_renewal_replaces_the_expiry(gate: Gate) -> None:
    opened(gate, IN_DIRECT, expiry_s=2)
    opened(gate, IN_DIRECT, expiry_s=100, generation=2)
    state = gate.read()
    assert state.expires_in_s is not None and state.expires_in_s > 90
    assert state.generation == 2


def test_the_successor_reads_what_a_dead_agent_left(gate: Gate, pair: Pair) -> None:  # I6
    openings = {
        Direction.INBOUND: Opening(Level.RESCUE, {9000: Level.HOLD, 9001: Level.DIRECT}),
        Direction.OUTBOUND: Opening(Level.DIRECT),
    }
    gate.write(openings, expiry_s=60, generation=Generation(7), reason='HSD010 "dead"; rm -rf')
    successor = Gate(pair.pod, gate.scope)
    assert not successor.install(), "the table is there and the same: it is left alone, open as it is"
    state = successor.read()
    assert (state.openings, state.generation) == (openings, 7)
    assert state.reason.startswith("HSD010")
    successor.close()


def test_somebody_changed_the_rules_meanwhile(gate: Gate, pair: Pair) -> None:  # I6: fenced by the kernel
    nft(pair.pod, "add table inet somebody")
    before = ruleset(pair.pod)
    with pytest.raises(GateFenced):
        opened(gate, IN_DIRECT)
    assert ruleset(pair.pod) == before
    gate.trust()
    opened(gate, IN_DIRECT)
    assert pair.call(POD_V4, 8080) == b"app"


def test_many_writes_need_no_new_trust(gate: Gate) -> None:
    for generation in range(1, 50):
        opened(gate, IN_DIRECT if generation % 2 else {}, generation=generation)
        opened(gate, IN_DIRECT if generation % 2 else {}, generation=generation)  # repeated: harmless (I6)
    assert gate.read().is_open


def test_the_ruleset_was_flushed(gate: Gate, pair: Pair) -> None:
    nft(pair.pod, "flush ruleset")
    gate.trust()
    with pytest.raises(GateAbsent):
        opened(gate, IN_DIRECT)
    assert gate.install()
    gate.trust()
    opened(gate, IN_DIRECT)
    assert gate.read().is_open


def test_a_refused_write_leaves_the_last_state(gate: Gate, pair: Pair) -> None:  # I5: one transaction
    opened(gate, IN_RESCUE)
    nft(pair.pod, f"delete table inet {'hotswitch'}")
    nft(pair.pod, "table inet hotswitch { map inbound { type inet_service : verdict; flags timeout; }; }")
    gate.trust()
    before = ruleset(pair.pod)
    with pytest.raises(GateAbsent):
        opened(gate, IN_DIRECT)
    assert ruleset(pair.pod) == before


def test_another_scope_replaces_the_table(gate: Gate, pair: Pair) -> None:
    opened(gate, IN_DIRECT)
    changed = Gate(pair.pod, GateScope(inbound_ports=(8080,)))
    assert changed.install()
    assert not changed.read().is_open
    changed.close()


def test_only_listed_ports_are_captured_so_only_they_are_opened(pair: Pair) -> None:
    gate = Gate(pair.pod, GateScope(inbound_ports=(8080,)))
    gate.install()
    gate.trust()
    with pair.speaker(8080, b"app"), pair.speaker(8081, b"other"), pair.speaker(15106, b"rescue"):
        opened(gate, IN_RESCUE)
        assert pair.call(POD_V4, 8080) == b"rescue"
        assert pair.call(POD_V4, 8081) == b"other"
    gate.close()


def test_plan_says_what_the_message_does(gate: Gate, pair: Pair) -> None:  # I8
    openings = {
        Direction.INBOUND: Opening(Level.RESCUE, {9000: Level.HOLD, 9001: Level.DIRECT}),
        Direction.OUTBOUND: Opening(Level.DIRECT),
    }
    gate.write(openings, expiry_s=77, generation=Generation(3), reason="test")
    by_message = ruleset(pair.pod)
    opened(gate, {})
    script = write_script(gate.scope, openings, expiry_s=77, generation=Generation(3), reason="test")
    nft(pair.pod, script)
    assert ruleset(pair.pod) == by_message


def test_removal_leaves_no_trace(gate: Gate, pair: Pair) -> None:  # S4.5, I4
    opened(gate, IN_DIRECT)
    gate.remove()
    gate.remove()
    assert "hotswitch" not in ruleset(pair.pod)
    assert pair.call(POD_V4, 8080) == b"proxy"


def test_the_socket_stays_in_the_pods_namespace(gate: Gate, pair: Pair) -> None:
    here = NetlinkSocket(NETLINK_NETFILTER)
    assert gate.cookie != here.cookie
    here.close()
