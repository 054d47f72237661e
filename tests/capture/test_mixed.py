"""Rules that no set-up makes: twice, of two releases, under two tools, or half gone; each is named (S4.3, S4.3b)."""

from __future__ import annotations

from dataclasses import replace
from random import Random

import pytest

from hotswitch.capture.inspect import inspect
from hotswitch.capture.inspection import State
from hotswitch.capture.iptables import restore_text
from hotswitch.capture.older import Shape, rules
from hotswitch.capture.render import commands
from hotswitch.capture.spec import Backend, CaptureSpec, Interception
from hotswitch.kernel.command import Command, run
from tests.capture.test_inspect import everything
from tests.capture.test_older import NAMES, USUAL, load_as

pytestmark = pytest.mark.netns


def do(netns: str, line: str) -> None:
    run(Command(tuple(line.split()), netns), check=True)


@pytest.mark.parametrize(
    ("again", "sentence"),
    [
        ("OUTPUT -j ISTIO_OUTPUT", "nat OUTPUT: 2 times: -j ISTIO_OUTPUT"),
        ("PREROUTING -p tcp -j ISTIO_INBOUND", "nat PREROUTING: 2 times: -p tcp -j ISTIO_INBOUND"),
        ("ISTIO_OUTPUT -j ISTIO_REDIRECT", "nat ISTIO_OUTPUT: 2 times: -j ISTIO_REDIRECT"),
        (
            "ISTIO_REDIRECT -p tcp -j REDIRECT --to-ports 15001",
            "nat ISTIO_REDIRECT: 2 times: -p tcp -j REDIRECT --to-ports 15001",
        ),
    ],
)
def test_rules_that_were_added_twice(netns: str, again: str, sentence: str) -> None:
    load_as(netns, USUAL, Shape.FROM_1_25, Backend.IPTABLES_NFT)
    do(netns, f"iptables-nft -t nat -A {again}")
    found = inspect(netns)
    assert (found.ip.state, found.ip6.state) == (State.PARTIAL, State.CAPTURED)
    assert found.ip.problems == (sentence,)


def test_the_same_rules_under_both_iptables(netns: str) -> None:
    """What Istio's choice of a binary makes, when it changes its mind."""
    for backend in (Backend.IPTABLES_NFT, Backend.IPTABLES_LEGACY):
        load_as(netns, USUAL, Shape.FROM_1_25, backend)
    found = inspect(netns, USUAL)
    assert (found.ip.state, found.ip6.state) == (State.PARTIAL, State.PARTIAL)
    assert found.ip.problems == ("Istio's rules are there more than once: iptables-nft, iptables-legacy",)


def test_new_rules_over_those_of_an_older_release(netns: str) -> None:
    """A virtual machine's upgrade left the old release's DNS rules in the built-in chains (Istio's issue 54448)."""
    left = [rule for rule in rules(NAMES, 4, Shape.UNTIL_1_22) if rule.words.startswith("-p udp")]
    run(Command(("iptables-nft-restore", "--noflush"), netns, restore_text(left)), check=True)
    load_as(netns, NAMES, Shape.OF_1_24, Backend.IPTABLES_NFT)
    found = inspect(netns)
    assert (found.ip.state, found.ip6.state) == (State.PARTIAL, State.CAPTURED)
    assert any(sentence.startswith("rules of two releases") for sentence in found.ip.problems)


def test_both_jumps_are_of_two_releases(netns: str) -> None:
    load_as(netns, USUAL, Shape.OF_1_24, Backend.IPTABLES_NFT)
    do(netns, "ip6tables-nft -t nat -A OUTPUT -j ISTIO_OUTPUT")
    found = inspect(netns)
    assert (found.ip.state, found.ip6.state) == (State.CAPTURED, State.PARTIAL)
    assert found.ip6.problems[0].startswith("rules of two releases")


def test_rules_that_anybody_could_have_written_are_settled_by_the_spec(netns: str) -> None:
    do(netns, "iptables-nft -t nat -A PREROUTING -i eth9 -j RETURN")
    do(netns, "iptables-nft -t mangle -A PREROUTING -m conntrack --ctstate INVALID -j DROP")
    nobody = inspect(netns)
    assert nobody.ip.state is State.ABSENT
    assert len(nobody.doubtful) == 2
    found = inspect(netns, replace(USUAL, exclude_interfaces=("eth9",), drop_invalid=True))
    assert found.ip.state is State.PARTIAL
    assert {sentence for sentence in found.ip.problems if sentence.startswith("still there")} == {
        "still there: ip mangle PREROUTING: --ctstate INVALID -j DROP",
        "still there: ip nat PREROUTING: -i eth9 -j RETURN",
    }


def test_looking_at_half_cleaned_rules_changes_nothing(netns: str) -> None:
    load_as(netns, NAMES, Shape.UNTIL_1_22, Backend.IPTABLES_NFT)
    do(netns, "iptables-nft -t nat -F ISTIO_OUTPUT")
    before = everything(netns)
    assert inspect(netns, NAMES).ip.state is State.PARTIAL
    assert everything(netns) == before


def drawn(seed: int) -> CaptureSpec:
    """Any mixture of settings that the kernel of a test machine can load."""
    of = Random(seed)
    networks = ("10.0.0.0/8", "10.96.0.1/24", "fd00::/8", "127.0.0.1/24", "2001:db8::/33")

    def some(pool: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(of.sample(pool, of.randint(0, len(pool))))

    return CaptureSpec(
        mode=of.choice((Interception.REDIRECT, Interception.TPROXY)),
        proxy_port=of.choice((15001, 16001)),
        inbound_port=of.choice((15006, 16006)),
        tunnel_port=of.choice((15008, 16008)),
        proxy_uids=of.choice(((1337,), (3, 4), (1000629999,))),
        proxy_gids=of.choice(((), (1, 2))),
        inbound_ports=of.choice(("*", (), (80,), (32000, 31000))),
        inbound_exclude_ports=of.choice(((), (22,), (15090, 15021, 15020))),
        outbound_cidrs=of.choice(("*", some(networks))),
        outbound_exclude_cidrs=some(networks),
        outbound_ports=of.choice(((), (32000,))),
        outbound_exclude_ports=of.choice(((), (15020, 53))),
        exclude_interfaces=some(("not-istio", "a0")),
        kube_virt_interfaces=some(("net1", "net2")),
        owner_groups=of.choice(("*", ("202", "101"), ())),
        owner_groups_exclude=some(("888", "999")),
        loopback_cidr=of.choice(("127.0.0.1/32", "127.1.2.3/16")),
        redirect_dns=of.random() < 0.6,
        capture_all_dns=of.random() < 0.5,
        dns_servers_v4=("10.96.0.10", "127.0.0.53"),
        dns_servers_v6=("fd00::10",),
        drop_invalid=of.random() < 0.5,
        ipv6=of.random() < 0.7,
        tproxy_mark=of.choice((1337, 0x77)),
        tproxy_route_table=of.choice((133, 1000)),
    )


@pytest.mark.parametrize("backend", list(Backend))
@pytest.mark.parametrize("seed", range(8))
def test_any_mixture_of_settings_is_captured_as_rendered(netns: str, seed: int, backend: Backend) -> None:
    spec = drawn(seed)
    for command in commands(spec, backend, netns):
        run(command, check=True)
    found = inspect(netns, spec)
    assert found.matches(spec) == []
    assert found.ip.state is State.CAPTURED, found.ip.problems
    alone = inspect(netns)
    assert alone.ip.state is State.CAPTURED, alone.ip.problems
    assert alone.backends == (backend,)
