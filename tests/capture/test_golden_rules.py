"""The rules are exactly those that Istio's own tests expect (S4.3)."""

from __future__ import annotations

import pytest

from hotswitch.capture import iptables_save, nft_list
from hotswitch.capture.render import commands, render
from hotswitch.capture.spec import Backend, CaptureSpec, Interception
from tests.capture.golden import Case, cases

pytestmark = pytest.mark.unit
CASES = cases()


def test_no_golden_file_is_overlooked() -> None:
    assert sum(case.backend is Backend.IPTABLES_NFT for case in CASES) >= 18
    assert sum(case.backend is Backend.NFTABLES for case in CASES) >= 19


@pytest.mark.parametrize("case", CASES, ids=str)
def test_rules_are_istios_letter_for_letter(case: Case) -> None:
    assert "".join(render(case.spec(), case.backend)) == case.rules


def test_all_captured_dns_names_no_server() -> None:
    spec = CaptureSpec(redirect_dns=True, capture_all_dns=True, dns_servers_v4=("10.0.0.10",))
    (text,) = render(spec, Backend.IPTABLES_NFT)
    assert "-A ISTIO_OUTPUT_DNS -p tcp --dport 53 -j REDIRECT --to-ports 15053\n" in text
    assert "-A ISTIO_INBOUND -p udp --sport 53 -j CT --zone 1\n" in text
    assert "10.0.0.10" not in text
    (native,) = render(spec, Backend.NFTABLES)
    assert "istio-output-dns meta l4proto tcp tcp dport 53 counter redirect to :15053\n" in native
    assert "istio-output-dns udp dport 53 counter redirect to :15053\n" in native


def test_listed_ports_under_tproxy_are_diverted_one_by_one() -> None:
    spec = CaptureSpec(mode=Interception.TPROXY, inbound_ports=(80,), inbound_exclude_ports=(22,))
    (text,) = render(spec, Backend.IPTABLES_NFT)
    known = "-p tcp --dport 80 -m conntrack --ctstate RELATED,ESTABLISHED -j ISTIO_DIVERT"
    assert f"-A ISTIO_INBOUND {known}\n-A ISTIO_INBOUND -p tcp --dport 80 -j ISTIO_TPROXY\n" in text
    assert "--dport 22" not in text  # exclusions count only when everything is captured


def test_loopback_among_included_networks_lets_local_calls_be_captured() -> None:
    spec = CaptureSpec(outbound_cidrs=("127.0.0.0/8",))
    (text,) = render(spec, Backend.IPTABLES_NFT)
    assert "! --uid-owner" not in text and "! --gid-owner" not in text
    assert "skuid != 1337" not in render(spec, Backend.NFTABLES)[0]


def test_no_owner_group_included_lets_everything_out() -> None:
    assert "-A ISTIO_OUTPUT -j RETURN\n" in render(CaptureSpec(owner_groups=()), Backend.IPTABLES_NFT)[0]
    assert "istio-output counter return\n" in render(CaptureSpec(owner_groups=()), Backend.NFTABLES)[0]


def test_mode_none_has_no_rules_and_no_commands() -> None:
    spec = CaptureSpec(mode=Interception.NONE, ipv6=True, inbound_ports="*")
    assert render(spec, Backend.IPTABLES_NFT) == render(spec, Backend.NFTABLES) == ()
    assert commands(spec) == []


def test_each_family_is_loaded_by_its_own_tool() -> None:
    spec = CaptureSpec(inbound_ports="*", outbound_cidrs="*", ipv6=True)
    loaded = [command.argv for command in commands(spec, netns="/run/netns/x")]
    assert loaded == [
        ("iptables-nft-restore", "--noflush"),
        ("ip6tables-nft-restore", "--noflush"),
        ("ip", "-6", "addr", "replace", "::6/128", "dev", "lo"),
    ]
    assert {command.netns for command in commands(spec, netns="/run/netns/x")} == {"/run/netns/x"}


def test_tproxy_brings_its_policy_routing() -> None:
    spec = CaptureSpec(mode=Interception.TPROXY, inbound_ports="*", native_nftables=True)
    assert [command.argv for command in commands(spec)] == [
        ("nft", "-f", "-"),
        ("ip", "-4", "rule", "add", "fwmark", "1337", "lookup", "133"),
        ("ip", "-4", "route", "replace", "local", "0.0.0.0/0", "dev", "lo", "table", "133"),
    ]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_expected_ruleset_has_every_rendered_rule(case: Case) -> None:
    """What is compared with the kernel is what is written: no rule is lost on the way."""
    spec = case.spec()
    if case.backend is Backend.NFTABLES:
        chains = nft_list.expected(spec)
        rules = [line for line in case.rules.splitlines() if line.split()[1] == "rule"]
    else:
        chains = {**iptables_save.expected(spec, "ip"), **iptables_save.expected(spec, "ip6")}
        rules = [line for line in case.rules.splitlines() if line.startswith(("-A", "-I"))]
    assert sum(len(chain) for chain in chains.values()) == len(rules)
