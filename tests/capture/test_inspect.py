"""What the kernel really has: captured, open, partial, foreign, absent; and looking changes nothing (S4.3, I4)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from hotswitch.capture.gate import Gate
from hotswitch.capture.gate_table import GateScope
from hotswitch.capture.inspect import inspect
from hotswitch.capture.inspection import Inspection, State
from hotswitch.capture.render import commands
from hotswitch.capture.spec import Backend, CaptureSpec, Interception
from hotswitch.kernel.command import Command, run
from hotswitch.kernel.netns import inside
from hotswitch.model import Direction, Generation, Level, Opening
from tests.capture.golden import Case, cases
from tests.namespaces import POD_V4, POD_V6, Pair, namespace

pytestmark = pytest.mark.netns

USUAL = CaptureSpec(
    inbound_ports="*", outbound_cidrs="*", inbound_exclude_ports=(15090, 15021, 15020), ipv6=True, dual_stack=True
)
EVERY = pytest.mark.parametrize("backend", list(Backend))
BOTH = pytest.mark.parametrize("backend", [Backend.IPTABLES_NFT, Backend.NFTABLES])


def load(netns: str, spec: CaptureSpec, backend: Backend) -> None:
    for command in commands(spec, backend, netns):
        run(command, check=True)


def do(netns: str, line: str, stdin: str | None = None) -> str:
    return run(Command(tuple(line.split()), netns, stdin), check=True).stdout


LOOKED_AT = [f"{family} {what}" for family in ("-4", "-6") for what in ("rule", "route show table all", "addr")]


def everything(netns: str) -> tuple[str, ...]:
    """All that inspection could touch: rules, legacy tables, and the number that grows with every change of rules."""
    with inside(netns):
        legacy = [Path(f"/proc/thread-self/net/{name}_tables_names").read_text() for name in ("ip", "ip6")]
    shown = [do(netns, f"ip {words}") for words in LOOKED_AT]
    return (do(netns, "nft -j list ruleset"), *legacy, *shown, str(generation(netns)))


def generation(netns: str) -> int:
    gate = Gate(netns, GateScope())
    try:
        return gate.rules_generation()
    finally:
        gate.close()


def states(found: Inspection) -> tuple[State, State]:
    return found.ip.state, found.ip6.state


@EVERY
def test_rules_of_the_usual_pod_are_recognised(netns: str, backend: Backend) -> None:
    load(netns, USUAL, backend)
    found = inspect(netns, USUAL)
    assert found.matches(USUAL) == []
    assert states(found) == (State.CAPTURED, State.CAPTURED)
    assert found.backends == (backend,)
    assert found.foreign_nat == () and found.openings == ()


@pytest.mark.parametrize("case", cases(), ids=str)
def test_every_golden_configuration_is_as_rendered_after_loading(netns: str, case: Case) -> None:
    """The kernel's tools rewrite rules; none of Istio's own test cases is misread for that. Groups are numbers here,
    because names are looked up when rules are loaded."""
    groups = {name: text for name, text in case.env.items() if "GROUPS" in name}
    spec = case.spec(**{name: text.replace("java", "101").replace("ftp", "102") for name, text in groups.items()})
    load(netns, spec, case.backend)
    found = inspect(netns, spec)
    assert found.matches(spec) == []
    assert found.ip.state is State.CAPTURED
    assert (found.ip6.state is State.CAPTURED) == (spec.ipv6 or case.backend is Backend.NFTABLES)


@BOTH
def test_traffic_is_captured_by_the_rendered_rules(pair: Pair, backend: Backend) -> None:
    load(pair.pod, USUAL, backend)
    with pair.speaker(15006, b"proxy"), pair.speaker(8080, b"app"):
        assert pair.call(POD_V4, 8080) == pair.call(POD_V6, 8080) == b"proxy"


@BOTH
def test_ipv6_is_captured_natively_even_where_istio_found_none(pair: Pair, backend: Backend) -> None:
    load(pair.pod, CaptureSpec(inbound_ports="*", outbound_cidrs="*"), backend)
    with pair.speaker(15006, b"proxy"), pair.speaker(8080, b"app"):
        assert pair.call(POD_V4, 8080) == b"proxy"
        assert pair.call(POD_V6, 8080) == (b"proxy" if backend is Backend.NFTABLES else b"app")


@BOTH
def test_ipv4_pod_has_no_iptables_rules_for_ipv6(netns: str, backend: Backend) -> None:
    spec = CaptureSpec(inbound_ports="*", outbound_cidrs="*")
    load(netns, spec, backend)
    found = inspect(netns, spec)
    assert found.matches(spec) == []
    native = backend is Backend.NFTABLES  # its tables are of family inet
    assert states(found) == (State.CAPTURED, State.CAPTURED if native else State.ABSENT)


def test_empty_namespace_is_absent(netns: str) -> None:
    found = inspect(netns, USUAL)
    assert states(found) == (State.ABSENT, State.ABSENT)
    assert found.backends == () and found.fingerprint == ""
    assert "ip nat ISTIO_OUTPUT: the chain is missing" in found.matches(USUAL)


def test_proxy_without_capture_matches_only_emptiness(netns: str) -> None:
    none = CaptureSpec(mode=Interception.NONE)
    assert inspect(netns).matches(none) == []
    load(netns, USUAL, Backend.NFTABLES)
    assert inspect(netns).matches(none) != []


@pytest.mark.parametrize(
    ("broken", "named"),
    [
        ("iptables-nft -t nat -D OUTPUT -j ISTIO_OUTPUT", "nat OUTPUT does not lead to ISTIO_OUTPUT"),
        ("iptables-nft -t nat -D PREROUTING -p tcp -j ISTIO_INBOUND", "nat PREROUTING does not lead to ISTIO_INBOUND"),
        ("iptables-nft -t nat -F ISTIO_IN_REDIRECT", "nat ISTIO_IN_REDIRECT redirects nowhere"),
        ("iptables-nft -t nat -F ISTIO_OUTPUT", "nat ISTIO_OUTPUT is empty"),
        ("iptables-nft -t nat -I PREROUTING 1 -j ACCEPT", "nat PREROUTING: ahead of Istio's rules: -j ACCEPT"),
    ],
)
def test_half_deleted_rules_are_named(netns: str, broken: str, named: str) -> None:
    load(netns, USUAL, Backend.IPTABLES_NFT)
    do(netns, broken)
    found = inspect(netns)
    assert states(found) == (State.PARTIAL, State.CAPTURED)
    assert named in found.ip.problems


def test_one_deleted_rule_is_named_when_the_spec_is_known(netns: str) -> None:
    load(netns, USUAL, Backend.IPTABLES_NFT)
    do(netns, "iptables-nft -t nat -D ISTIO_OUTPUT -m owner --gid-owner 1337 -j RETURN")
    assert inspect(netns).ip.state is State.CAPTURED  # nobody can know without the spec
    found = inspect(netns, USUAL)
    missing = "ip nat ISTIO_OUTPUT: missing: --gid-owner 1337 -j RETURN"
    assert found.ip.problems == (missing,)
    assert found.matches(USUAL) == [missing]


def test_one_deleted_native_rule_is_named(netns: str) -> None:
    load(netns, USUAL, Backend.NFTABLES)
    do(netns, "nft flush chain inet istio-proxy-nat istio-redirect")
    found = inspect(netns, USUAL)
    assert states(found) == (State.PARTIAL, State.PARTIAL)
    assert "nat ISTIO_REDIRECT redirects nowhere" in found.ip6.problems
    assert found.matches(USUAL) == ["inet istio-proxy-nat istio-redirect: missing: meta l4proto tcp redirect to :15001"]


def test_left_over_chain_after_a_cleanup_is_partial(netns: str) -> None:
    """What istio-clean-iptables leaves when it is run with other arguments than the set-up."""
    do(netns, "iptables-nft -t nat -N ISTIO_INBOUND")
    found = inspect(netns)
    assert states(found) == (State.PARTIAL, State.ABSENT)
    assert "ISTIO_OUTPUT is missing" in found.ip.problems


def test_switched_off_native_table_is_partial(netns: str) -> None:
    load(netns, USUAL, Backend.NFTABLES)
    do(netns, "nft -f -", "add table inet istio-proxy-nat { flags dormant; }\n")
    found = inspect(netns, USUAL)
    assert states(found) == (State.PARTIAL, State.PARTIAL)
    assert found.ip.problems == ("istio-proxy-nat is dormant: its rules do nothing",)
    assert "dormant" in found.fingerprint


def test_rules_under_two_backends_are_partial(netns: str) -> None:
    load(netns, USUAL, Backend.IPTABLES_NFT)
    load(netns, USUAL, Backend.NFTABLES)
    found = inspect(netns, USUAL)
    assert set(found.backends) == {Backend.IPTABLES_NFT, Backend.NFTABLES}
    assert "more than once" in found.ip.problems[-1]
    assert "Istio's rules are there by nftables, not by iptables-nft" in found.matches(USUAL)


@pytest.mark.parametrize(
    ("rule", "where"),
    [
        ("iptables-nft -t nat -A POSTROUTING -o eth0 -j MASQUERADE", "ip nat POSTROUTING"),
        ("iptables-nft -t nat -A OUTPUT -d 127.0.0.11 -p tcp --dport 53 -j DNAT --to 127.0.0.11:3344", "ip nat OUTPUT"),
        ("iptables-nft -t nat -I PREROUTING -p tcp --dport 80 -j REDIRECT --to-ports 8080", "ip nat PREROUTING"),
        ("iptables-nft -t nat -A POSTROUTING -p udp -j SNAT --to-source 10.0.0.1", "ip nat POSTROUTING"),
        ("iptables-legacy -t nat -A POSTROUTING -o eth0 -j MASQUERADE", "ip nat POSTROUTING"),
        ("ip6tables-nft -t nat -A OUTPUT -p tcp --dport 53 -j REDIRECT --to-ports 5353", "ip6 nat OUTPUT"),
    ],
)
@BOTH
def test_translation_by_others_is_found(netns: str, backend: Backend, rule: str, where: str) -> None:
    load(netns, USUAL, backend)
    before = inspect(netns)
    do(netns, rule)
    found = inspect(netns)
    (sentence,) = found.foreign_nat
    assert sentence.startswith(where)
    assert before.foreign_nat == ()
    assert states(found) == (State.CAPTURED, State.CAPTURED)


NATIVE_NAT = [
    ("inet", "prerouting", "tcp dport 80 redirect to :8080"),
    ("ip", "postrouting", "oifname eth0 masquerade"),
    ("ip6", "prerouting", "tcp dport 80 dnat to [fd00::1]:80"),
    ("ip", "postrouting", "ip saddr 10.0.0.0/8 snat to 1.2.3.4"),
]


@pytest.mark.parametrize(("family", "hook", "rule"), NATIVE_NAT)
def test_native_translation_by_others_is_foreign(netns: str, family: str, hook: str, rule: str) -> None:
    table = f"table {family} other {{\nchain c {{\ntype nat hook {hook} priority 0;\n{rule}\n}}\n}}\n"
    do(netns, "nft -f -", table)
    found = inspect(netns)
    (sentence,) = found.foreign_nat
    assert sentence.startswith(f"{family} other c: ")
    touched = {"ip": (State.FOREIGN, State.ABSENT), "ip6": (State.ABSENT, State.FOREIGN)}
    assert states(found) == touched.get(family, (State.FOREIGN, State.FOREIGN))


def test_native_translation_hidden_in_a_table_of_iptables_is_found(netns: str) -> None:
    load(netns, USUAL, Backend.IPTABLES_NFT)
    do(netns, "nft insert rule ip nat PREROUTING tcp dport 80 redirect to :8080")
    assert any("ip nat PREROUTING: tcp dport 80 redirect to :8080" in text for text in inspect(netns).foreign_nat)


def test_tproxy_by_others_is_found(netns: str) -> None:
    do(netns, "iptables-nft -t mangle -A PREROUTING -p tcp --dport 80 -j TPROXY --on-port 9000")
    assert inspect(netns).foreign_nat[0].startswith("ip mangle PREROUTING: --dport 80 -p tcp -j TPROXY")


def test_filters_of_others_are_not_translation(netns: str) -> None:
    do(netns, "iptables-nft -A INPUT -p tcp --dport 22 -j DROP")
    chain = "chain c {\ntype filter hook input priority 0;\ntcp dport 1 drop\n}"
    do(netns, "nft -f -", f"table inet firewall {{\n{chain}\n}}\n")
    found = inspect(netns)
    assert found.foreign_nat == ()
    assert states(found) == (State.ABSENT, State.ABSENT)


def test_dns_rule_of_old_istio_is_not_foreign(netns: str) -> None:
    """Until 1.22 captured names were redirected in nat OUTPUT itself."""
    load(netns, USUAL, Backend.IPTABLES_NFT)
    do(netns, "iptables-nft -t nat -A OUTPUT -p udp --dport 53 -d 10.96.0.10 -j REDIRECT --to-ports 15053")
    assert inspect(netns).foreign_nat == ()


@pytest.fixture
def opened(netns: str) -> Iterator[str]:
    load(netns, USUAL, Backend.IPTABLES_NFT)
    gate = Gate(netns, GateScope(inbound_exclude_ports=USUAL.inbound_exclude_ports))
    try:
        gate.install()
        closed = inspect(netns, USUAL)
        assert states(closed) == (State.CAPTURED, State.CAPTURED) and closed.foreign_nat == ()
        gate.write({Direction.INBOUND: Opening(Level.DIRECT)}, expiry_s=60.0, generation=Generation(1), reason="test")
        yield netns
    finally:
        gate.close()


def test_open_gate_is_seen_and_istios_rules_stay_equal(opened: str) -> None:
    found = inspect(opened, USUAL)
    assert states(found) == (State.OPEN, State.OPEN)
    assert found.openings
    assert found.foreign_nat == ()
    assert found.matches(USUAL) == []


def test_fingerprint_ignores_counters_and_sees_every_change(pair: Pair) -> None:
    load(pair.pod, USUAL, Backend.IPTABLES_NFT)
    before = inspect(pair.pod)
    with pair.speaker(15006, b"proxy"):
        pair.call(POD_V4, 8080)
    assert "[0:0]" not in before.fingerprint
    assert inspect(pair.pod).fingerprint == before.fingerprint
    do(pair.pod, "ip6tables-nft -t nat -A ISTIO_INBOUND -p tcp --dport 9 -j RETURN")
    changed = inspect(pair.pod)
    assert changed.fingerprint != before.fingerprint
    assert changed.digest != before.digest


@BOTH
def test_native_fingerprint_ignores_counters(pair: Pair, backend: Backend) -> None:
    load(pair.pod, USUAL, backend)
    before = inspect(pair.pod).fingerprint
    with pair.speaker(15006, b"proxy"):
        pair.call(POD_V6, 8080)
    assert inspect(pair.pod).fingerprint == before != ""


@pytest.mark.parametrize("backend", [None, *Backend])
def test_looking_changes_nothing(netns: str, backend: Backend | None) -> None:
    if backend is not None:
        load(netns, USUAL, backend)
    before = everything(netns)
    for _ in range(3):
        inspect(netns, USUAL)
    assert everything(netns) == before


def test_a_change_is_noticed_by_the_test_above(netns: str) -> None:
    before = everything(netns)
    do(netns, "nft add table inet x")
    do(netns, "nft delete table inet x")
    assert everything(netns) != before


def test_empty_legacy_tables_left_by_a_probe_are_named(netns: str) -> None:
    """Istio's own choice of a binary makes them, and is misled by them at its next run."""
    load(netns, USUAL, Backend.IPTABLES_NFT)
    do(netns, "iptables-legacy -t nat -S")
    found = inspect(netns, USUAL)
    assert found.legacy_tables == ("ip nat",)
    assert found.backends == (Backend.IPTABLES_NFT,)
    assert found.matches(USUAL) == []


def test_namespace_that_is_gone(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        inspect(str(tmp_path / "gone"))


def test_inspection_leaves_the_caller_where_it_was() -> None:
    here = Path("/proc/thread-self/ns/net").stat().st_ino
    with namespace() as path:
        inspect(path)
        assert Path("/proc/thread-self/ns/net").stat().st_ino == here


TPROXY = CaptureSpec(mode=Interception.TPROXY, inbound_ports="*", outbound_cidrs="*", ipv6=True, dual_stack=True)


@BOTH
def test_routing_of_tproxy_is_told_and_counted(netns: str, backend: Backend) -> None:
    load(netns, TPROXY, backend)
    do(netns, "ip rule add fwmark 1337 lookup 133")  # what every further run of istio-iptables does
    do(netns, "ip rule add fwmark 0x200/0xf00 lookup 2004")  # somebody else's
    do(netns, "ip route add local 0.0.0.0/0 dev lo table 2004")
    found = inspect(netns, TPROXY)
    assert states(found) == (State.CAPTURED, State.CAPTURED)
    assert found.matches(TPROXY) == []
    assert found.routing.sentences == (
        "ip rule: fwmark 0x539 lookup 133 (2 times)",
        "ip -6 rule: fwmark 0x539 lookup 133",
        "ip route: local 0.0.0.0/0 dev lo table 133",
        "ip -6 route: local ::/0 dev lo table 133",
        "ip -6 addr: ::6/128 dev lo",
    )


@BOTH
def test_tproxy_without_its_routing_is_partial(netns: str, backend: Backend) -> None:
    load(netns, TPROXY, backend)
    do(netns, "ip -6 rule del fwmark 1337 lookup 133")
    found = inspect(netns)
    assert states(found) == (State.CAPTURED, State.PARTIAL)
    assert found.ip6.problems == ("ip6: packets marked 1337 are not delivered locally: no policy rule with a route",)
    assert found.matches(TPROXY) == list(found.ip6.problems)


def test_routing_left_alone_is_told_and_changes_no_state(netns: str) -> None:
    """Nothing marks packets any more, so it does nothing. Istio's own cleanup leaves it, always."""
    do(netns, "ip rule add fwmark 1337 lookup 133")
    do(netns, "ip -6 addr add ::6/128 dev lo")
    found = inspect(netns)
    assert states(found) == (State.ABSENT, State.ABSENT)
    assert found.routing.sentences == ("ip rule: fwmark 0x539 lookup 133", "ip -6 addr: ::6/128 dev lo")


@BOTH
def test_routing_by_another_mark_is_known_from_the_rules_or_the_spec(netns: str, backend: Backend) -> None:
    spec = replace(TPROXY, tproxy_mark=0x77, tproxy_route_table=1000)
    load(netns, spec, backend)
    found = inspect(netns)
    assert states(found) == (State.CAPTURED, State.CAPTURED)
    assert found.routing == inspect(netns, spec).routing
    assert found.routing.sentences[0] == "ip rule: fwmark 0x77 lookup 1000"
    assert [route.table for route in found.routing.routes] == [1000, 1000]
