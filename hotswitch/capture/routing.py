"""What Istio puts into a namespace outside of netfilter, and never takes away again (S4.3b).

TPROXY needs marked packets delivered locally: a policy rule and a route, in both families where the pod has IPv6. With
IPv6, ::6 on `lo` is where Envoy's inbound connections come from. Every run of `istio-iptables`, also with
--cleanup-only, adds one more identical policy rule. Without TPROXY's netfilter rules nothing is marked, so all this
does nothing: it is told, and is no reason to call the rules partial. The other way round it is one.
Source: Istio's tools/common/tproxy/run_linux.go, tools/istio-iptables/pkg/capture/run.go configureIPv6Addresses.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from ipaddress import ip_address

from hotswitch.capture.ruleset import Ruleset
from hotswitch.capture.spec import CaptureSpec
from hotswitch.kernel import routing as kernel
from hotswitch.kernel.netlink import NETLINK_ROUTE, NetlinkSocket
from hotswitch.kernel.routing import ALL_BITS, LocalRoute, MarkRule

MARK, TABLE = 1337, 133  # Istio's defaults
MAGIC_V6 = (ip_address("::6"), 128)
EVERYWHERE = {"ip": "0.0.0.0/0", "ip6": "::/0"}
_MARK_SET = re.compile(r"--tproxy-mark (0x[0-9a-f]+)/|meta mark set (\d+)")


@dataclass(frozen=True, slots=True)
class Routing:
    """Istio's share of the namespace's routing. `rules`: each copy on its own. `magic_v6`: ::6/128 is on `lo`."""

    rules: tuple[MarkRule, ...] = ()
    routes: tuple[LocalRoute, ...] = ()
    magic_v6: bool = False

    def __bool__(self) -> bool:
        return bool(self.rules or self.routes or self.magic_v6)

    @property
    def sentences(self) -> tuple[str, ...]:
        """As the commands that show them, with the number of copies."""
        lines = (f"{_ip(rule.family)} rule: fwmark {rule.mark:#x} lookup {rule.table}" for rule in self.rules)
        found = [f"{line} ({count} times)" if count > 1 else line for line, count in Counter(lines).items()]
        found += [f"{_ip(route.family)} route: local {route.to} dev lo table {route.table}" for route in self.routes]
        return (*found, "ip -6 addr: ::6/128 dev lo") if self.magic_v6 else tuple(found)

    def delivers(self, family: str, mark: int) -> bool:
        """Whether packets of `family` (ip, ip6) with that mark are delivered locally."""
        tables = {rule.table for rule in self.rules if rule.family == family and rule.mark == mark}
        return any(route.family == family and route.table in tables for route in self.routes)


def _ip(family: str) -> str:
    return "ip" if family == "ip" else "ip -6"


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a namespace has of such things, whoever made them."""

    rules: tuple[MarkRule, ...] = ()
    lookups: frozenset[tuple[str, int]] = frozenset()  # (family, table) that rules without a mark look at
    routes: tuple[LocalRoute, ...] = ()  # those that make every address local
    magic_v6: bool = False

    @property
    def sure(self) -> bool:
        """Something of it is Istio's beyond doubt; an address alone is not."""
        return any(rule.alone and (rule.mark, rule.table) == (MARK, TABLE) for rule in self.rules)

    def of_istio(self, used: Collection[int], spec: CaptureSpec | None) -> Routing:
        """Istio's by its default mark and table, by those of `spec`, or by a mark of its own rules (`used`)."""
        named = {(MARK, TABLE)} | ({(spec.tproxy_mark, spec.tproxy_route_table)} if spec else set())
        mine = [rule for rule in self.rules if _is_istios(rule, named, used, self.routes)]
        tables = {rule.table for rule in mine} | {table for _, table in named}
        return Routing(tuple(mine), tuple(route for route in self.routes if route.table in tables), self.magic_v6)

    def needed_by_others(self, route: LocalRoute, mine: Routing) -> bool:
        """Whether a policy rule that is not in `mine` leads to this route."""
        others = {(rule.family, rule.table) for rule in self.rules if rule not in mine.rules}
        return (route.family, route.table) in others | self.lookups


def read(netns: str | None) -> Surroundings:
    """Raises OSError when the namespace cannot be entered."""
    sock = NetlinkSocket(NETLINK_ROUTE, netns)
    try:
        rules, routes = kernel.mark_rules(sock), kernel.local_routes(sock)
        lookups, magic_v6 = kernel.lookups_without_mark(sock), MAGIC_V6 in kernel.loopback_addresses(sock)
    finally:
        sock.close()
    return Surroundings(
        tuple(rules),
        frozenset(lookups),
        tuple(route for route in routes if route.to == EVERYWHERE[route.family]),
        magic_v6,
    )


def look(netns: str | None, rulesets: Iterable[Ruleset], spec: CaptureSpec | None) -> Routing:
    """Istio's share. Raises OSError when the namespace cannot be entered."""
    used = {mark for ruleset in rulesets for family in EVERYWHERE for mark in marks(ruleset, family)}
    return read(netns).of_istio(used, spec)


def _is_istios(
    rule: MarkRule, named: Collection[tuple[int, int]], used: Collection[int], routes: Iterable[LocalRoute]
) -> bool:
    if rule.mask != ALL_BITS or not rule.alone:
        return False
    local = any((route.family, route.table) == (rule.family, rule.table) for route in routes)
    return (rule.mark, rule.table) in named or (rule.mark in used and local)


def marks(ruleset: Ruleset, family: str) -> set[int]:
    """The marks that Istio's TPROXY rules give to packets of `family` (ip, ip6)."""
    rules = (rule for chain, rules in ruleset.items() if chain.family in (family, "inet") for rule in rules)
    texts = (rule.text for rule in rules if rule.goes == "TPROXY" or f"tproxy {family} to" in rule.text)
    return {int(match[1] or match[2], 0) for text in texts if (match := _MARK_SET.search(text))}
