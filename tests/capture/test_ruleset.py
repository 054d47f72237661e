"""Rules as written and rules as listed are the same rules; different rules stay different (I4)."""

from __future__ import annotations

import json
from typing import Any

import pytest

from hotswitch.capture import iptables_save, nft_list
from hotswitch.capture.gaps import gaps
from hotswitch.capture.ruleset import ChainId, Rule, differences
from hotswitch.capture.spec import CaptureSpec

pytestmark = pytest.mark.unit

SAME_IN_IPTABLES = [
    ("-p tcp --dport 15008 -j RETURN", "-p tcp -m tcp --dport 15008 -j RETURN"),
    ("-o lo ! -d 127.0.0.1/32 -p tcp -j X", "! -d 127.0.0.1/32 -o lo -p tcp -j X"),
    ("-d 10.96.0.1/24 -j X", "-d 10.96.0.0/24 -j X"),
    ("-d 127.0.0.1 -j X", "-d 127.0.0.1/32 -j X"),
    ("-d ::127.0.0.53/128 -j X", "-d ::7f00:35/128 -j X"),
    ("-p udp -j REDIRECT --to-port 15053", "-p udp -j REDIRECT --to-ports 15053"),
    ("-j MARK --set-mark 1337", "-j MARK --set-xmark 0x539/0xffffffff"),
    ("-m mark --mark 1337 -j RETURN", "-m mark --mark 0x539 -j RETURN"),
    ("-j CONNMARK --save-mark", "-j CONNMARK --save-mark --nfmask 0xffffffff --ctmask 0xffffffff"),
    (
        "-p tcp -j TPROXY --tproxy-mark 1337/0xffffffff --on-port 15006",
        "-p tcp -j TPROXY --on-port 15006 --on-ip 0.0.0.0 --tproxy-mark 0x539/0xffffffff",
    ),
    ("-m conntrack --ctstate RELATED,ESTABLISHED -j X", "-m conntrack --ctstate ESTABLISHED,RELATED -j X"),
    ("-m owner --uid-owner root -j RETURN", "-m owner --uid-owner 0 -j RETURN"),
    ('-m comment --comment "it\'s a test" -j X', "-j X"),
]
DIFFERENT_IN_IPTABLES = [
    ("-p tcp --dport 80 -j X", "-p tcp ! --dport 80 -j X"),
    ("-p tcp --dport 80 -j X", "-p udp --dport 80 -j X"),
    ("-p tcp --dport 80 -j X", "-p tcp --sport 80 -j X"),
    ("-m mark --mark 1 -j X", "-m connmark --mark 1 -j X"),
    ("-m mark --mark 1 -j X", "-m mark --mark 1/0xff -j X"),
    ("-m owner --uid-owner 1 -j X", "-m owner --gid-owner 1 -j X"),
    ("-d 10.0.0.0/8 -j X", "-s 10.0.0.0/8 -j X"),
    ("-j CONNMARK --save-mark", "-j CONNMARK --save-mark --nfmask 0xff --ctmask 0xff"),
    ("-j REDIRECT --to-ports 1", "-j REDIRECT --to-ports 2"),
    ("-j X", "-j Y"),
]


@pytest.mark.parametrize(("written", "listed"), SAME_IN_IPTABLES)
def test_iptables_rule_survives_the_tools_rewriting(written: str, listed: str) -> None:
    assert iptables_save.canonical(written) == iptables_save.canonical(listed)


@pytest.mark.parametrize(("one", "other"), DIFFERENT_IN_IPTABLES)
def test_different_iptables_rules_stay_different(one: str, other: str) -> None:
    assert iptables_save.canonical(one).text != iptables_save.canonical(other).text


def test_unknown_options_and_broken_quotes_are_kept_and_compared() -> None:
    rule = iptables_save.canonical("-m helper --helper 'ftp -j ACCEPT")
    assert "ftp" in rule.text
    assert rule != iptables_save.canonical("-m helper --helper 'irc -j ACCEPT")


def test_only_a_rule_without_conditions_is_bare() -> None:
    assert iptables_save.canonical("-j ACCEPT").bare
    assert iptables_save.canonical("-p tcp -j ACCEPT").bare
    assert not iptables_save.canonical("-p tcp -m tcp --dport 80 -j ACCEPT").bare


def test_counters_and_policies_do_not_count() -> None:
    before = "*nat\n:OUTPUT ACCEPT [0:0]\n:ISTIO_OUTPUT - [0:0]\n-A OUTPUT -j ISTIO_OUTPUT\nCOMMIT\n"
    after = before.replace("[0:0]", "[12:720]")
    assert iptables_save.parse(before, "ip").ruleset == iptables_save.parse(after, "ip").ruleset


def test_table_that_iptables_cannot_show_is_reported() -> None:
    assert iptables_save.parse("# Table `nat' is incompatible, use 'nft' tool.\n", "ip").incompatible == ["ip nat"]


def listed(*expressions: dict[str, Any]) -> Rule:
    rule = {"family": "inet", "table": "istio-proxy-nat", "chain": "c", "handle": 1, "expr": expressions}
    return next(iter(nft_list.parse(json.dumps({"nftables": [{"rule": rule}]})).chains.values()))[0]


def match(left: dict[str, Any], right: Any, op: str = "==") -> dict[str, Any]:
    return {"match": {"op": op, "left": left, "right": right}}


L4 = {"meta": {"key": "l4proto"}}
DPORT = {"payload": {"protocol": "tcp", "field": "dport"}}
DADDR = {"payload": {"protocol": "ip", "field": "daddr"}}
COUNTER = {"counter": {"packets": 7, "bytes": 8}}


@pytest.mark.parametrize(
    ("written", "kernel"),
    [
        (("meta l4proto tcp", "tcp dport 80", "counter", "return"), [match(DPORT, 80), COUNTER, {"return": None}]),
        (
            ("meta l4proto tcp", "tcp dport 80", "counter", "return"),
            [match(L4, "tcp"), match(DPORT, 80), {"return": None}],
        ),
        (
            ("ip daddr 10.96.0.1/24", "return"),
            [match(DADDR, {"prefix": {"addr": "10.96.0.0", "len": 24}}), {"return": None}],
        ),
        (("ip daddr != 127.0.0.1/32", "jump x"), [match(DADDR, "127.0.0.1", "!="), {"jump": {"target": "x"}}]),
        (
            ("tcp dport != { 53, 15008 }", "return"),
            [match(DPORT, {"set": [15008, 53]}, "!="), {"return": None}],
        ),
        (("meta skuid 3", "return"), [match({"meta": {"key": "skuid"}}, 3), {"return": None}]),
        (("skgid 0", "return"), [match({"meta": {"key": "skgid"}}, 0), {"return": None}]),
        (
            ("ct state related,established", "jump x"),
            [match({"ct": {"key": "state"}}, ["established", "related"], "in"), {"jump": {"target": "x"}}],
        ),
        (
            ("mark 1337", "counter", "ct mark set mark"),
            [
                match({"meta": {"key": "mark"}}, 1337),
                COUNTER,
                {"mangle": {"key": {"ct": {"key": "mark"}}, "value": {"meta": {"key": "mark"}}}},
            ],
        ),
        (("redirect to :15001",), [{"redirect": {"port": 15001}}]),
    ],
)
def test_nft_rule_survives_the_listing(written: tuple[str, ...], kernel: list[dict[str, Any]]) -> None:
    assert nft_list.canonical(written) == listed(*kernel)


def test_different_nft_rules_stay_different() -> None:
    rules = [
        listed(match(DPORT, 80), {"return": None}),
        listed(match(DPORT, 80, "!="), {"return": None}),
        listed(match(DPORT, {"set": [80]}), {"return": None}),
        listed(match(DPORT, 80), {"accept": None}),
        listed({"return": None}),
        listed(match({"&": [{"meta": {"key": "mark"}}, 255]}, 1), {"return": None}),
        listed({"redirect": None}),
    ]
    assert len({rule.text for rule in rules}) == len(rules)


def test_dormant_table_is_seen_in_both_ways_that_nft_prints_it() -> None:
    """nft 1.0.6 prints the table's name instead of its flags."""
    for flags in ("istio-proxy-nat", "dormant", ["dormant"]):
        table = {"family": "inet", "name": "istio-proxy-nat", "flags": flags}
        assert nft_list.parse(json.dumps({"nftables": [{"table": table}]})).dormant == {("inet", "istio-proxy-nat")}
    table = {"family": "inet", "name": "istio-proxy-nat", "flags": "owner"}
    assert not nft_list.parse(json.dumps({"nftables": [{"table": table}]})).dormant


EXPECTED = iptables_save.expected(CaptureSpec(inbound_ports="*", outbound_cidrs="*"), "ip")
OUTPUT, INBOUND = ChainId("ip", "nat", "OUTPUT"), ChainId("ip", "nat", "ISTIO_INBOUND")
STRANGER = iptables_save.canonical("-p icmp -j ACCEPT")


def test_other_peoples_rules_in_built_in_chains_are_no_difference() -> None:
    actual = {**EXPECTED, OUTPUT: (STRANGER, *EXPECTED[OUTPUT], STRANGER)}
    assert differences(EXPECTED, actual) == []


def test_other_peoples_rules_in_istios_chains_are_a_difference() -> None:
    actual = {**EXPECTED, INBOUND: (*EXPECTED[INBOUND], STRANGER)}
    assert differences(EXPECTED, actual) == [f"{INBOUND}: not Istio's: {STRANGER.text}"]


def test_order_in_istios_chains_counts() -> None:
    actual = {**EXPECTED, INBOUND: tuple(reversed(EXPECTED[INBOUND]))}
    assert differences(EXPECTED, actual) == [f"{INBOUND}: the rules are in another order"]


def test_left_over_jump_and_chain_are_named() -> None:
    old = ChainId("ip", "raw", "ISTIO_INBOUND")
    jump = iptables_save.canonical("-p udp -j ISTIO_OUTPUT")
    actual = {**EXPECTED, old: (), OUTPUT: (*EXPECTED[OUTPUT], jump)}
    assert differences(EXPECTED, actual) == [
        f"{OUTPUT}: left over: {jump.text}",
        f"{old}: the chain is left over",
    ]


def test_complete_rules_have_no_gaps() -> None:
    assert gaps(EXPECTED) == []
    assert gaps(nft_list.expected(CaptureSpec(inbound_ports=(80,)))) == []


def test_rule_that_takes_everything_before_istio_is_a_gap() -> None:
    accept = iptables_save.canonical("-p tcp -j ACCEPT")
    assert gaps({**EXPECTED, OUTPUT: (accept, *EXPECTED[OUTPUT])}) == [
        f"nat OUTPUT: ahead of Istio's rules: {accept.text}"
    ]
    assert gaps({**EXPECTED, OUTPUT: (*EXPECTED[OUTPUT], accept)}) == []
