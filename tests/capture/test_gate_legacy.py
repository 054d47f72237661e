"""The gate by iptables-legacy on a real kernel: {in, out} x {direct, rescue} x {v4, v6}, expiry, fence, removal.

The kernel of these tests has nf_tables as well; that it has not is simulated only where the choice is made.
"""

from __future__ import annotations

import errno
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import pytest

from hotswitch.agent.scene import look
from hotswitch.capture.gate import Gate, GateAbsent, GateFenced, GateState
from hotswitch.capture.gate_choice import open_gate
from hotswitch.capture.gate_legacy import LegacyGate
from hotswitch.capture.gate_table import GateScope, scope_of
from hotswitch.capture.inspect import inspect
from hotswitch.capture.inspection import State
from hotswitch.capture.render import commands
from hotswitch.capture.spec import Backend, CaptureSpec
from hotswitch.kernel import nf_tables
from hotswitch.kernel.command import Command, run
from hotswitch.model import STAND_IN, Direction, Generation, Level, Opening
from tests.capture.captured import APP, ELSEWHERE, IN_DIRECT, IN_RESCUE, Captured, usual
from tests.namespaces import CLIENT_V4, CLIENT_V6, Pair

pytestmark = pytest.mark.netns

CLIENT = {"v4": CLIENT_V4, "v6": CLIENT_V6}
REACHED = {Level.RESCUE: {"in": "rescue", "out": "rescue"}, Level.DIRECT: {"in": "app", "out": "outside"}}
every_family = pytest.mark.parametrize("family", CLIENT)
every_level = pytest.mark.parametrize("level", REACHED)


def saved(netns: str) -> str:
    """All legacy rules, without what changes by itself."""
    texts = (run(Command((f"{tool}-legacy-save",), netns), check=True).stdout for tool in ("iptables", "ip6tables"))
    lines = (line.partition(" [")[0] for text in texts for line in text.splitlines() if not line.startswith("#"))
    return "\n".join(lines)


def legacy(netns: str, words: str, tool: str = "iptables-legacy") -> None:
    run(Command((tool, *words.split()), netns), check=True)


@contextmanager
def captured(pair: Pair, **settings: Any) -> Iterator[Captured]:
    """A pod as `tests.capture.captured` makes it, with Istio's rules and the gate by iptables-legacy."""
    spec: CaptureSpec = usual(**settings)
    for command in commands(spec, Backend.IPTABLES_LEGACY, pair.pod):
        run(command, check=True)
    rules = inspect(pair.pod, spec).fingerprint
    gate = LegacyGate(pair.pod, scope_of(spec))
    assert gate.install()
    gate.trust()
    with ExitStack() as stack:
        made = Captured(pair, spec, gate, rules, stack)  # type: ignore[arg-type]
        for port, name in ((APP, "app"), (15106, "rescue"), (15101, "rescue"), (15006, "proxy"), (15001, "proxy")):
            made.serve(port, name)
        made.serve(ELSEWHERE, "outside", netns=pair.client)
        yield made


@every_family
@every_level
def test_switched_and_back(pair: Pair, family: str, level: Level) -> None:  # S4.3
    with captured(pair) as pod:
        closed = saved(pair.pod)
        kept = [pod.call_in(family), pod.call_out(family)]
        assert [talk.who for talk in kept] == ["proxy", "proxy"]
        pod.open({way: Opening(level) for way in Direction})
        assert inspect(pair.pod, pod.spec).ip.state is State.OPEN
        new = [pod.call_in(family), pod.call_out(family)]
        assert [talk.who for talk in new] == [REACHED[level]["in"], REACHED[level]["out"]]
        assert new[0].saw == CLIENT[family], "the client's own address"
        assert pod.call_out(family, uid=1337).who == "outside", "the proxy is not led to the rescue"
        assert pod.call_out(family, uid=15107).who == "outside", "nor is the rescue itself"
        pod.open({})
        assert [pod.call_in(family).who, pod.call_out(family).who] == ["proxy", "proxy"]
        assert all(talk.echoes() for talk in (*kept, *new)), "open flows stay where they are"
        assert (saved(pair.pod), pod.istio_rules()) == (closed, pod.rules)  # I4
        assert inspect(pair.pod, pod.spec).ip.state is State.CAPTURED


@every_family
def test_one_direction_leaves_the_other(pair: Pair, family: str) -> None:
    with captured(pair) as pod:
        pod.open(IN_RESCUE)
        assert (pod.call_in(family).who, pod.call_out(family).who) == ("rescue", "proxy")
        pod.open({Direction.OUTBOUND: Opening(Level.DIRECT)})
        assert (pod.call_in(family).who, pod.call_out(family).who) == ("proxy", "outside")


@every_family
def test_ports_are_exceptions_and_some_are_never_opened(pair: Pair, family: str) -> None:  # S4.3a
    with captured(pair, inbound_exclude_ports=(15021, 9000), outbound_exclude_ports=(9101,)) as pod:
        for port, name in ((APP + 1, "strict"), (9000, "excluded"), (15020, "status")):
            pod.serve(port, name)
        pod.serve(9101, "free", netns=pair.client)
        closed = pod.call_in(family, 15020).who
        for opening, reached in (
            (Opening(Level.DIRECT, {APP + 1: Level.HOLD}), ("app", "proxy")),
            (Opening(Level.HOLD, {APP + 1: Level.DIRECT}), ("proxy", "strict")),
            (Opening(Level.RESCUE, {APP + 1: Level.DIRECT}), ("rescue", "strict")),
        ):
            pod.open({Direction.INBOUND: opening, Direction.OUTBOUND: Opening(Level.RESCUE)})
            assert (pod.call_in(family).who, pod.call_in(family, APP + 1).who) == reached
            assert (pod.call_in(family, 9000).who, pod.call_in(family, 15020).who) == ("excluded", closed)
            assert pod.call_out(family, 9101).who == "free"


def test_only_what_is_listed_is_opened(pair: Pair) -> None:
    with captured(pair, inbound_ports=(APP,), outbound_cidrs=("10.1.0.0/16",), outbound_ports=(ELSEWHERE,)) as pod:
        pod.serve(APP + 1, "other")
        pod.serve(9101, "free", netns=pair.client)
        pod.open({way: Opening(Level.RESCUE) for way in Direction})
        assert (pod.call_in("v4").who, pod.call_in("v4", APP + 1).who) == ("rescue", "other")
        assert (pod.call_out("v4").who, pod.call_out("v4", 9101).who) == ("rescue", "free")


def test_without_ipv6_no_table_is_made_for_it(pair: Pair) -> None:
    with captured(pair, ipv6=False) as pod:
        tables = inspect(pair.pod).legacy_tables
        pod.open(IN_RESCUE)
        assert (pod.call_in("v4").who, pod.call_in("v6").who) == ("rescue", "app")
        assert inspect(pair.pod).legacy_tables == tables
        assert "HOTSWITCH" not in run(Command(("ip6tables-legacy-save",), pair.pod)).stdout


@every_family
def test_everything_of_hotswitch_dies_with_the_gate_open(pair: Pair, family: str) -> None:  # I1
    with captured(pair) as pod:
        before = time.time()
        pod.open(IN_DIRECT, expiry_s=1.2)
        written = began = last = time.time()
        while pod.call_in(family).who == "app":
            last, began = began, time.time()
            assert last - written < 1.2 + 1.05, "the kernel (its seconds come with a tick) did not close the gate"
        assert time.time() - before >= 1.2, "not early"
        assert not pod.gate.read().is_open
        assert inspect(pair.pod, pod.spec).ip.state is State.CAPTURED


def test_the_clock_is_read_in_utc(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the time zone of the machine: the kernel's own is never asked."""
    monkeypatch.setenv("TZ", "Pacific/Kiritimati")
    time.tzset()
    try:
        with captured(pair) as pod:
            before = time.time()
            pod.open(IN_DIRECT, expiry_s=20)
            ends = time.time() + (pod.gate.read().expires_in_s or 0)
            assert pod.call_in("v4").who == "app"
            assert before + 20 < ends < time.time() + 21
    finally:
        monkeypatch.undo()
        time.tzset()


def test_the_successor_reads_what_a_dead_agent_left(pair: Pair) -> None:  # I6
    with captured(pair) as pod:
        openings = {
            Direction.INBOUND: Opening(Level.RESCUE, {9000: Level.HOLD, 9001: Level.DIRECT}),
            Direction.OUTBOUND: Opening(Level.RESCUE),
        }
        reason = "HSD010 \"dead\"; rm -rf $(x) `y` 'z'\nCOMMIT\n" + "long " * 99
        pod.gate.write(openings, expiry_s=60, generation=Generation(7), reason=reason)
        written = saved(pair.pod)
        successor = LegacyGate(pair.pod, pod.gate.scope)
        assert not successor.install(), "left alone, open as it is"
        state = successor.read()
        assert (state.openings, state.generation) == (openings, 7)
        assert state.reason.startswith("HSD010") and len(state.reason) < 120
        for again in range(2):  # I5
            pod.gate.write(openings, expiry_s=60, generation=Generation(7), reason=reason)
            assert saved(pair.pod).count("\n") == written.count("\n"), again


def test_somebody_changed_the_rules_meanwhile(pair: Pair) -> None:  # I6
    with captured(pair) as pod:
        legacy(pair.pod, "-t nat -A OUTPUT -d 192.0.2.1 -j RETURN")
        before = saved(pair.pod)
        with pytest.raises(GateFenced):
            pod.open(IN_DIRECT)
        assert saved(pair.pod) == before
        pod.gate.trust()
        pod.open(IN_DIRECT)
        assert pod.call_in("v4").who == "app"


@pytest.mark.parametrize(
    "harm",
    [
        "-t nat -D PREROUTING -j HOTSWITCH_IN",
        "-t nat -A OUTPUT -j HOTSWITCH_OUT",
        "-t nat -I PREROUTING -d 192.0.2.1 -j RETURN",
        "-t nat -F HOTSWITCH_OUT",
        "-t nat -F",
    ],
)
@pytest.mark.parametrize("tool", ["iptables-legacy", "ip6tables-legacy"])
def test_our_own_chains_are_not_as_they_were(pair: Pair, harm: str, tool: str) -> None:
    with captured(pair) as pod:
        whole = saved(pair.pod)
        legacy(pair.pod, harm.replace("192.0.2.1", "2001:db8::1") if tool.startswith("ip6") else harm, tool)
        pod.gate.trust()
        harmed = saved(pair.pod)
        with pytest.raises(GateAbsent):
            pod.open(IN_DIRECT)
        assert saved(pair.pod) == harmed
        assert pod.gate.install() and not pod.gate.install()
        if "-I" not in harm and not harm.endswith("-F"):
            assert saved(pair.pod) == whole
        pod.gate.trust()
        pod.open(IN_DIRECT)
        assert pod.gate.read().is_open


def test_the_second_family_fails(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:  # I5
    with captured(pair) as pod:
        pod.open(IN_RESCUE)
        before = saved(pair.pod)
        restore = LegacyGate._restore

        def broken(gate: LegacyGate, family: str, script: str) -> Command:
            return restore(gate, family, f"{script}nonsense\n" if family == "ip6" else script)

        monkeypatch.setattr(LegacyGate, "_restore", broken)
        with pytest.raises(OSError, match="ip6tables"):
            pod.open(IN_DIRECT)
        assert first(saved(pair.pod)) == first(before)


def first(text: str) -> str:
    """The family that is written first."""
    return text.partition("COMMIT")[0]


def test_probes_are_led_to_the_stand_in(pair: Pair) -> None:
    with captured(pair) as pod:
        pod.serve(15020, "agent")
        pod.serve(STAND_IN, "stand-in")
        pod.open(IN_RESCUE)
        pod.gate.divert(15020, 60)
        assert [pod.call_in(family, 15020).who for family in CLIENT] == ["stand-in", "stand-in"]
        assert pod.call_in("v4").who == "rescue"
        pod.gate.undivert()
        assert [pod.call_in(family, 15020).who for family in CLIENT] == ["agent", "agent"]


def test_removal_leaves_no_trace(pair: Pair) -> None:  # I4
    with captured(pair) as pod:
        pod.open(IN_DIRECT)
        LegacyGate(pair.pod, GateScope()).remove()
        LegacyGate(pair.pod, GateScope()).remove()
        assert "HOTSWITCH" not in saved(pair.pod)
        assert pod.call_in("v4").who == "proxy"
        assert pod.istio_rules() == pod.rules
        assert pod.gate.read() == GateState()


@pytest.mark.parametrize(
    "scope",
    [GateScope(tproxy_mark=1337), GateScope(dns_servers=None), GateScope(owner_groups=(7,))],
    ids=["tproxy", "dns", "groups"],
)
def test_what_it_cannot_do_is_said(scope: GateScope, netns: str) -> None:
    assert "the kernel has no nf_tables" in LegacyGate(netns, scope).refusal


def test_the_kernel_says_that_it_has_no_nf_tables(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only that answer is simulated; the rest is the kernel's."""
    usually = open_gate(pair.pod, GateScope())
    usually.close()
    assert isinstance(usually, Gate)
    with captured(pair) as pod:
        monkeypatch.setattr(nf_tables, "answer", lambda _netns=None: errno.EINVAL)
        gate = open_gate(pair.pod, pod.gate.scope)
        assert isinstance(gate, LegacyGate)
        assert look(pair.pod, pod.spec, gate.rules_generation(), gate).refusal == ""


def test_istios_rules_are_by_another_backend(pair: Pair) -> None:
    spec = usual()
    for command in commands(spec, Backend.IPTABLES_NFT, pair.pod):
        run(command, check=True)
    gate = LegacyGate(pair.pod, scope_of(spec))
    assert "not ahead of rules by iptables-nft" in look(pair.pod, spec, gate.rules_generation(), gate).refusal
