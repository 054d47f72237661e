"""Nothing of Istio's is left, from whatever state; nothing of others is touched (S4.3b, I4, I5, I6)."""

from __future__ import annotations

import random
from concurrent.futures import ThreadPoolExecutor
from itertools import product

import pytest

from hotswitch.capture import older
from hotswitch.capture.clean import CleanError, clean, plan
from hotswitch.capture.inspect import inspect
from hotswitch.capture.iptables import BUILT_IN, rules
from hotswitch.capture.older import Shape
from hotswitch.capture.reading import read
from hotswitch.capture.spec import Backend, CaptureSpec, Interception
from hotswitch.kernel.command import Command, run
from tests.capture.golden import Case, cases
from tests.capture.leavings import KINDS, TOOLS, do, foreign, load, load_rules, odd_spec, picture
from tests.namespaces import namespace

pytestmark = pytest.mark.netns

EVERY = pytest.mark.parametrize("backend", list(Backend), ids=str)
BY_IPTABLES = pytest.mark.parametrize("backend", list(KINDS), ids=str)
MODES = pytest.mark.parametrize("mode", [Interception.REDIRECT, Interception.TPROXY], ids=str)


@EVERY
@MODES
@pytest.mark.parametrize("dns", [False, True], ids=["plain", "dns"])
@pytest.mark.parametrize("ipv6", [False, True], ids=["v4", "dual"])
def test_nothing_of_istios_is_left_and_nothing_of_others_is_touched(
    netns: str, backend: Backend, mode: Interception, dns: bool, ipv6: bool
) -> None:
    """All settings that leave something in built-in chains, and rules of others before and behind."""
    spec = odd_spec(mode=mode, redirect_dns=dns, ipv6=ipv6)
    with namespace() as other:
        foreign(other, backend, "first")
        foreign(other, backend, "second")
        foreign(netns, backend, "first")
        load(netns, spec, backend)
        foreign(netns, backend, "second")
        done = clean(netns)
        assert done.changed
        assert picture(netns) == picture(other)
    assert inspect(netns).backends == ()
    assert plan(read(netns)).commands == ()
    assert not clean(netns).changed


@pytest.mark.parametrize("case", cases(), ids=str)
def test_every_golden_configuration_is_cleaned_without_being_told(netns: str, case: Case) -> None:
    spec = case.spec(**{name: "1,2" for name in case.env if "GROUPS" in name})
    before = picture(netns)
    load(netns, spec, case.backend)
    stays = [sentence for sentence in clean(netns).stays if sentence.endswith("--spec tells")]
    unmarked = spec.kube_virt_interfaces if spec.outbound_cidrs == () and case.backend in KINDS else ()
    assert len(stays) == len(unmarked) * (2 if spec.ipv6 else 1)
    clean(netns, spec)
    assert picture(netns) == before


@BY_IPTABLES
@MODES
@pytest.mark.parametrize("shape", list(Shape), ids=str)
def test_shapes_of_older_istios(netns: str, backend: Backend, mode: Interception, shape: Shape) -> None:
    spec = odd_spec(mode=mode, owner_groups_exclude=("5",))
    foreign(netns, backend, "first")
    before = picture(netns)
    for family, number in (("ip", 4), ("ip6", 6)):
        load_rules(netns, backend, family, older.rules(spec, number, shape))
    clean(netns)
    assert picture(netns) == before


@EVERY
def test_doubled_rules_and_policy_rules_go_to_the_last_copy(netns: str, backend: Backend) -> None:
    spec = odd_spec(mode=Interception.TPROXY)
    before = picture(netns)
    load(netns, spec, backend)
    for _ in range(2):
        for command in ("-4", "-6"):
            do(netns, f"ip {command} rule add fwmark 1337 lookup 133")
        for family, number in (("ip", 4), ("ip6", 6)):
            for rule in rules(spec, number) if backend in KINDS else ():
                tool = f"{TOOLS[family]}-{KINDS[backend]} -t {rule.table}"
                do(netns, f"{tool} {rule}")
    clean(netns)
    assert picture(netns) == before


@MODES
def test_all_backends_at_once(netns: str, mode: Interception) -> None:
    before = picture(netns)
    for backend in Backend:
        load(netns, odd_spec(mode=mode), backend)
    done = clean(netns)
    assert picture(netns) == before
    tools = [command.argv[0] for command in done.done]
    assert len([tool for tool in tools if tool.endswith("-restore")]) == 4 and tools.count("nft") == 1  # I5


@pytest.mark.parametrize("seed", range(16))
def test_half_cleaned_states(netns: str, seed: int) -> None:
    """Any part of Istio's rules is gone already. With the spec nothing is left; without it, only what is named."""
    chance = random.Random(seed)
    backend = chance.choice(list(KINDS))
    mode = chance.choice([Interception.REDIRECT, Interception.TPROXY])
    spec = odd_spec(mode=mode, redirect_dns=chance.random() < 0.5)
    foreign(netns, backend, "first")
    before = picture(netns)
    load(netns, spec, backend)
    _take_away(netns, backend, spec, chance)
    told = clean(netns).stays
    for table, lines in picture(netns).items():
        for line in set(lines) - set(before.get(table, ())):
            assert any(line.split(" ", 2)[-1] in sentence for sentence in told) or "::6" in line, line
    clean(netns, spec)
    assert picture(netns) == before


def _take_away(netns: str, backend: Backend, spec: CaptureSpec, chance: random.Random) -> None:
    """Single rules, whole chains, and parts of the routing."""
    for family, number in (("ip", 4), ("ip6", 6)):
        tool, of = f"{TOOLS[family]}-{KINDS[backend]}", rules(spec, number)
        for rule in chance.sample(of, chance.randrange(len(of) + 1)):
            run(Command((*f"{tool} -t {rule.table} -D {rule.chain} {rule.words}".split(),), netns))
        for table, chain in sorted({(rule.table, rule.chain) for rule in of if rule.chain not in BUILT_IN}):
            if chance.random() < 0.3:
                run(Command((tool, "-t", table, "-X", chain), netns))
    for line in ("-4 rule del fwmark 1337", "-6 rule del fwmark 1337", "-4 route flush table 133"):
        if chance.random() < 0.3:
            run(Command(("ip", *line.split()), netns))


@pytest.mark.parametrize("keep", range(6))
def test_one_table_is_all_that_is_left(netns: str, keep: int) -> None:
    """The marks of TPROXY, the zones of DNS, chains without jumps: each is known without the rest."""
    which, mode = list(product(["nat", "mangle", "raw"], [Interception.REDIRECT, Interception.TPROXY]))[keep]
    spec = odd_spec(mode=mode, exclude_interfaces=(), kube_virt_interfaces=(), drop_invalid=False)
    before = picture(netns)
    for family, number in (("ip", 4), ("ip6", 6)):
        of = [rule for rule in rules(spec, number) if rule.table == which]
        load_rules(netns, Backend.IPTABLES_NFT, family, [rule for rule in of if not rule.words.endswith(rule.chain)])
    clean(netns)
    assert picture(netns) == before


def test_interfaces_of_others_are_named_and_stay(netns: str) -> None:
    """The shape is Istio's, and nothing else of Istio's is there: nobody can know without the spec."""
    do(netns, "iptables-nft -t nat -A PREROUTING -i eth1 -j RETURN")
    do(netns, "iptables-nft -t nat -A OUTPUT -o eth1 -j RETURN")
    done = clean(netns)
    assert not done.changed
    assert len(done.stays) == 2 and all("may be Istio's" in sentence for sentence in done.stays)
    assert clean(netns, odd_spec(exclude_interfaces=("eth1",), ipv6=False)).changed
    assert plan(read(netns)).stays == ()


def test_other_marks_and_tables_stay(netns: str) -> None:
    """Only the exact mark and table are Istio's; a route that others look at stays, too."""
    strange = ("fwmark 1337 lookup 99", "fwmark 1337/0xfff lookup 133", "from 10.9.0.0/16 fwmark 1337 lookup 133")
    for line in strange:
        do(netns, f"ip -4 rule add {line}")
    do(netns, "ip route add default dev lo table 99")
    before = picture(netns)
    load(netns, odd_spec(mode=Interception.TPROXY), Backend.NFTABLES)
    done = clean(netns)
    assert any("table 133: its local route stays" in sentence for sentence in done.stays)
    after = picture(netns)
    assert after.pop("ip -4 route show table all") != before.pop("ip -4 route show table all")
    assert after == before


@BY_IPTABLES
def test_other_mark_and_table_of_istios_own(netns: str, backend: Backend) -> None:
    before = picture(netns)
    load(netns, odd_spec(mode=Interception.TPROXY, tproxy_mark=4711, tproxy_route_table=77), backend)
    clean(netns)
    assert picture(netns) == before


def test_magic_address_alone_is_named(netns: str) -> None:
    do(netns, "ip -6 addr add ::6/128 dev lo")
    assert "::6/128" in clean(netns).stays[0]
    assert clean(netns, odd_spec()).changed
    assert not inspect(netns).routing.magic_v6


@EVERY
def test_two_cleanings_at_once(netns: str, backend: Backend) -> None:
    """The later one finds its rules gone, reads again, and is done."""
    before = picture(netns)
    load(netns, odd_spec(mode=Interception.TPROXY), backend)
    with ThreadPoolExecutor() as both:
        done = list(both.map(lambda drain_s: clean(netns, drain_s=drain_s), (0.0, 5.0)))
    assert any(one.changed for one in done)
    assert picture(netns) == before


@pytest.mark.parametrize("staged", [False, True], ids=["at once", "staged"])
def test_killed_after_any_command_it_is_cleaned_by_the_next(netns: str, staged: bool) -> None:
    spec = odd_spec(mode=Interception.TPROXY)
    before = picture(netns)
    for killed_after in range(8):
        for backend in (Backend.IPTABLES_LEGACY, Backend.NFTABLES):
            load(netns, spec, backend)
        for command in plan(read(netns), None, netns, staged=staged).commands[:killed_after]:
            run(command, check=True)
        clean(netns, spec)
        assert picture(netns) == before


def test_legacy_tables_are_not_made_by_looking(netns: str) -> None:
    load(netns, odd_spec(), Backend.IPTABLES_NFT)
    clean(netns)
    assert inspect(netns).legacy_tables == ()


def test_ambient_pods_are_refused(netns: str) -> None:
    do(netns, "iptables-nft -t mangle -N ISTIO_PRERT")
    with pytest.raises(CleanError, match="ambient"):
        clean(netns)


def test_rules_that_iptables_cannot_show_are_said(netns: str) -> None:
    """Its tools refuse the whole table then, so nothing is done by halves."""
    load(netns, odd_spec(), Backend.IPTABLES_NFT)
    do(netns, "nft add rule ip nat PREROUTING fib daddr type local accept")
    before = picture(netns)
    with pytest.raises(CleanError, match="iptables cannot change ip nat"):
        clean(netns)
    assert picture(netns) == before
