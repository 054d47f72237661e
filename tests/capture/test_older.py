"""Rules that a pod kept from an older Istio are known as such, under every backend, in both families (S4.3, S4.3b)."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hotswitch.capture import iptables_save, nft_list
from hotswitch.capture.gaps import gaps
from hotswitch.capture.inspect import inspect
from hotswitch.capture.inspection import State
from hotswitch.capture.iptables import Rule, restore_text
from hotswitch.capture.older import Shape, rules
from hotswitch.capture.render import commands
from hotswitch.capture.ruleset import of_istio
from hotswitch.capture.spec import Backend, CaptureSpec, Interception
from hotswitch.kernel.command import Command, run
from tests.capture.test_fuzz import SPECS as SETTINGS

TOOLS = {4: "iptables", 6: "ip6tables"}
KINDS = {Backend.IPTABLES_NFT: "nft", Backend.IPTABLES_LEGACY: "legacy"}
USUAL = CaptureSpec(inbound_ports="*", outbound_cidrs="*", inbound_exclude_ports=(15090, 15021, 15020), ipv6=True)
NAMES = CaptureSpec(
    inbound_ports="*", outbound_cidrs=("10.0.0.0/8", "fd00::/8"), outbound_exclude_ports=(25,), ipv6=True,
    redirect_dns=True, dns_servers_v4=("10.96.0.10",), dns_servers_v6=("fd00::10",), owner_groups_exclude=("202",),
    drop_invalid=True, proxy_uids=(1337, 4),
)  # fmt: skip
TPROXY = CaptureSpec(
    mode=Interception.TPROXY, inbound_ports="*", outbound_cidrs="*", ipv6=True, redirect_dns=True, capture_all_dns=True
)
SPECS = {"usual": USUAL, "names": NAMES, "tproxy": TPROXY}


def load_as(netns: str, spec: CaptureSpec, shape: Shape, backend: Backend, families: tuple[int, ...] = (4, 6)) -> None:
    """As that release would have: its rules, and the routing that all of them make."""
    for family in families:
        tool = f"{TOOLS[family]}-{KINDS[backend]}-restore"
        run(Command((tool, "--noflush"), netns, restore_text(rules(spec, family, shape))), check=True)
    for command in commands(spec, backend, netns):
        if command.argv[0] == "ip":
            run(command, check=True)


def words(of: list[Rule], table: str, chain: str) -> list[str]:
    return [rule.words for rule in of if (rule.table, rule.chain) == (table, chain)]


@pytest.mark.unit
def test_until_1_22_names_by_udp_are_redirected_in_the_built_in_chains() -> None:
    of = rules(NAMES, 4, Shape.UNTIL_1_22)
    assert words(of, "nat", "OUTPUT") == [
        "-p tcp -j ISTIO_OUTPUT",
        "-p udp --dport 53 -m owner --uid-owner 1337 -j RETURN",
        "-p udp --dport 53 -m owner --uid-owner 4 -j RETURN",
        "-p udp --dport 53 -m owner --gid-owner 1337 -j RETURN",
        "-p udp --dport 53 -m owner --gid-owner 4 -j RETURN",
        "-p udp --dport 53 -m owner --gid-owner 202 -j RETURN",
        "-p udp --dport 53 -d 10.96.0.10/32 -j REDIRECT --to-port 15053",
    ]
    assert words(of, "raw", "PREROUTING") == ["-p udp --sport 53 -s 10.96.0.10/32 -j CT --zone 1"]
    assert words(of, "mangle", "PREROUTING") == ["-m conntrack --ctstate INVALID -j DROP"]
    assert words(of, "nat", "ISTIO_OUTPUT")[0] == "-p tcp --dport 25 -j RETURN"
    assert words(of, "nat", "ISTIO_OUTPUT")[-5:] == [
        "-m owner --gid-owner 202 -j RETURN",
        "-p tcp --dport 53 -d 10.96.0.10/32 -j REDIRECT --to-ports 15053",
        "-d 127.0.0.1/32 -j RETURN",
        "-d 10.0.0.0/8 -j ISTIO_REDIRECT",
        "-j RETURN",
    ]
    assert not any("ISTIO_OUTPUT_DNS" in str(rule) or rule.chain == "ISTIO_DROP" for rule in of)


@pytest.mark.unit
def test_from_1_23_they_have_a_chain_and_the_jump_for_udp_is_there_only_with_dns() -> None:
    of = rules(NAMES, 6, Shape.OF_1_24)
    assert words(of, "nat", "OUTPUT") == ["-p tcp -j ISTIO_OUTPUT", "-p udp -j ISTIO_OUTPUT"]
    assert words(of, "raw", "OUTPUT") == ["-p udp -j ISTIO_OUTPUT"]
    assert words(of, "raw", "ISTIO_OUTPUT")[-1] == "-p udp --dport 53 -d fd00::10/128 -j CT --zone 2"
    assert words(of, "raw", "PREROUTING") == ["-p udp --sport 53 -s fd00::10/128 -j CT --zone 1"]
    assert words(of, "nat", "ISTIO_OUTPUT")[-1] == "-p udp --dport 53 -d fd00::10/128 -j REDIRECT --to-port 15053"
    assert words(of, "mangle", "ISTIO_DROP") == ["-j DROP"]
    assert words(rules(USUAL, 4, Shape.OF_1_24), "nat", "OUTPUT") == ["-p tcp -j ISTIO_OUTPUT"]
    assert words(rules(NAMES, 4, Shape.OF_1_23), "mangle", "PREROUTING") == ["-m conntrack --ctstate INVALID -j DROP"]


@pytest.mark.unit
def test_captured_dns_without_servers_still_made_rules() -> None:
    spec = CaptureSpec(redirect_dns=True)
    of = rules(spec, 4, Shape.UNTIL_1_22)
    assert "-o lo -p tcp ! --dport 53 -m owner ! --uid-owner 1337 -j RETURN" in words(of, "nat", "ISTIO_OUTPUT")
    assert len(words(of, "raw", "OUTPUT")) == 4 and not words(of, "raw", "PREROUTING")
    assert not any("192.0.2.1" in rule.words for rule in of)
    assert not any(rule.table == "raw" for rule in rules(spec, 4, Shape.FROM_1_25))


@pytest.mark.unit
@settings(max_examples=50, deadline=None)
@given(SETTINGS, st.sampled_from(Shape), st.booleans())
def test_whole_rules_of_any_setting_and_release_have_no_gaps(spec: CaptureSpec, shape: Shape, ipv6: bool) -> None:
    spec = replace(spec, ipv6=ipv6, dns_servers_v4=("10.0.0.10",))
    for family in ("ip", "ip6") if ipv6 else ("ip",):
        known = iptables_save.in_built_in_chains(spec)
        assert gaps(of_istio(iptables_save.expected(spec, family, shape), known), known) == []
    assert gaps(nft_list.expected(spec)) == []


@pytest.mark.netns
@pytest.mark.parametrize(("name", "shape", "backend"), [*product(SPECS, Shape, KINDS)])
def test_rules_of_every_release_are_captured(netns: str, name: str, shape: Shape, backend: Backend) -> None:
    load_as(netns, SPECS[name], shape, backend)
    found = inspect(netns, SPECS[name])
    assert (found.ip.state, found.ip6.state) == (State.CAPTURED, State.CAPTURED), found.ip.problems
    assert found.matches(SPECS[name]) == []
    assert found.foreign_nat == ()
    alone = inspect(netns)
    assert (alone.ip.state, alone.ip6.state) == (State.CAPTURED, State.CAPTURED), alone.ip.problems


@pytest.mark.netns
@pytest.mark.parametrize("shape", list(Shape))
def test_a_rule_that_is_missing_from_an_older_shape_is_named(netns: str, shape: Shape) -> None:
    load_as(netns, NAMES, shape, Backend.IPTABLES_NFT)
    gone = "-p tcp --dport 25 -j RETURN"
    run(Command(("iptables-nft", "-t", "nat", "-D", "ISTIO_OUTPUT", *gone.split()), netns), check=True)
    found = inspect(netns, NAMES)
    assert (found.ip.state, found.ip6.state) == (State.PARTIAL, State.CAPTURED)
    assert found.ip.problems == ("ip nat ISTIO_OUTPUT: missing: --dport 25 -p tcp -j RETURN",)
