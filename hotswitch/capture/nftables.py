"""Istio's rules in nft's words: the one transaction of its native nftables mode, all in family inet.

A rule is a list of phrases, so that what is written and what the kernel lists can be compared phrase by phrase. The
order of rules is that of the iptables form; IPv6 phrases stand next to the IPv4 ones. What names no address holds for
both families, so IPv6 is captured even where Istio found none. A table or chain without rules is not made. Each run
adds, flushes and fills its tables, so it may be repeated.
Source: Istio's tools/istio-nftables/pkg/capture/run.go and the golden files under tests/data/istio-golden (S4.3).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from hotswitch.capture.iptables import DNS_PORT, OUTBOUND_MARK
from hotswitch.capture.spec import CaptureSpec, Interception

NAT, MANGLE, RAW = "istio-proxy-nat", "istio-proxy-mangle", "istio-proxy-raw"
_TCP = "meta l4proto tcp"
_LO = "oifname lo"


def _chains(prerouting: str, output: str, priority: int, *others: str) -> dict[str, str]:
    """A table's chains in the order Istio writes them; a base chain has a type, a hook and a priority."""
    base = {"prerouting": prerouting, "output": output}
    hooks = {hook: f" {{ type {kind} hook {hook} priority {priority} ; }}" for hook, kind in base.items()}
    return hooks | dict.fromkeys(others, "")


TABLES = {
    NAT: _chains(
        "nat", "nat", -100, "istio-inbound", "istio-redirect", "istio-in-redirect", "istio-output", "istio-output-dns"
    ),
    MANGLE: _chains("filter", "route", -150, "istio-divert", "istio-tproxy", "istio-inbound", "istio-drop"),
    RAW: _chains("filter", "filter", -300, "istio-inbound", "istio-output-dns"),
}


class Rule(NamedTuple):
    """`phrases` in order, e.g. ("tcp dport 80", "counter", "return"); `at`: index before which it is inserted."""

    table: str
    chain: str
    phrases: tuple[str, ...]
    at: int | None = None

    def __str__(self) -> str:
        return " ".join(self.phrases)


def render(spec: CaptureSpec) -> tuple[str, ...]:
    """The text for `nft -f -`, one transaction; nothing for mode NONE."""
    return () if spec.mode is Interception.NONE else (transaction(rules(spec)),)


def transaction(of: Iterable[Rule]) -> str:
    by_table: dict[str, list[Rule]] = {table: [] for table in TABLES}
    for rule in of:
        by_table[rule.table].append(rule)
    return "".join(f"{line}\n" for table, some in by_table.items() if some for line in _table(table, some))


def _table(table: str, of: list[Rule]) -> Iterator[str]:
    yield f"add table inet {table}"
    yield f"flush table inet {table}"
    used = {rule.chain for rule in of}
    for chain, base in TABLES[table].items():
        if chain in used:
            yield f"add chain inet {table} {chain}{base}"
    length = dict.fromkeys(used, 0)
    for rule in of:
        if rule.at is None or rule.at >= length[rule.chain]:  # nft cannot insert at or behind the end
            yield f"add rule inet {table} {rule.chain} {rule}"
        else:
            yield f"insert rule inet {table} {rule.chain} index {rule.at} {rule}"
        length[rule.chain] += 1


def rules(spec: CaptureSpec) -> list[Rule]:
    """All rules in Istio's order."""
    return [
        *_interfaces(spec),
        *_invalid(spec),
        *_ports(spec),
        *_inbound(spec),
        *_outbound_head(spec),
        *_owners(spec),
        *_owner_groups(spec),
        *_dns(spec),
        *_outbound_tail(spec),
        *_tproxy_marks(spec),
    ]


def _rule(table: str, chain: str, *phrases: str, verdict: str = "return", at: int | None = None) -> Rule:
    return Rule(table, chain, (*(phrase for phrase in phrases if phrase), "counter", verdict), at)


def _versions(spec: CaptureSpec, v4: str, v6: str) -> tuple[str, ...]:
    """The phrase of each family that the pod has."""
    return (f"ip {v4}", f"ip6 {v6}") if spec.ipv6 else (f"ip {v4}",)


def _not_loopback(spec: CaptureSpec) -> tuple[str, ...]:
    return _versions(spec, f"daddr != {spec.loopback_cidr}", "daddr != ::1/128")


def _interfaces(spec: CaptureSpec) -> Iterator[Rule]:
    for table in (NAT, MANGLE) if spec.tproxy else (NAT,):
        for name in spec.exclude_interfaces:
            yield _rule(table, "prerouting", f"iifname {name}")
            yield _rule(table, "output", f"oifname {name}")
    for name in spec.kube_virt_interfaces:
        yield _rule(NAT, "prerouting", f"iifname {name}", at=0)


def _invalid(spec: CaptureSpec) -> Iterator[Rule]:
    if spec.drop_invalid:
        yield _rule(MANGLE, "prerouting", _TCP, "ct state invalid", verdict="jump istio-drop")
        yield _rule(MANGLE, "istio-drop", verdict="drop")


def _ports(spec: CaptureSpec) -> Iterator[Rule]:
    yield _rule(NAT, "istio-inbound", _TCP, f"tcp dport {spec.tunnel_port}")
    yield _rule(NAT, "istio-redirect", _TCP, verdict=f"redirect to :{spec.proxy_port}")
    yield _rule(NAT, "istio-in-redirect", _TCP, verdict=f"redirect to :{spec.inbound_port}")


def _inbound(spec: CaptureSpec) -> Iterator[Rule]:
    if not spec.inbound_ports:
        return
    if spec.tproxy:
        yield from _tproxy_chains(spec)
    table = MANGLE if spec.tproxy else NAT
    yield _rule(table, "prerouting", _TCP, verdict="jump istio-inbound")
    everything = spec.inbound_ports == "*"
    for port in spec.inbound_exclude_ports if everything else ():
        yield _rule(table, "istio-inbound", _TCP, f"tcp dport {port}")
    for match in ("",) if everything else (f"tcp dport {port}" for port in spec.inbound_ports):
        if spec.tproxy:
            known = "ct state related,established"
            yield _rule(MANGLE, "istio-inbound", _TCP, known, match, verdict="jump istio-divert")
        target = "istio-tproxy" if spec.tproxy else "istio-in-redirect"
        yield _rule(table, "istio-inbound", _TCP, match, verdict=f"jump {target}")


def _tproxy_chains(spec: CaptureSpec) -> Iterator[Rule]:
    yield _rule(MANGLE, "istio-divert", verdict=f"meta mark set {spec.tproxy_mark}")
    yield _rule(MANGLE, "istio-divert", verdict="accept")
    for family, match in zip(("ip", "ip6"), _not_loopback(spec), strict=False):
        target = (f"tproxy {family} to :{spec.inbound_port}", f"meta mark set {spec.tproxy_mark}")
        yield _rule(MANGLE, "istio-tproxy", _TCP, match, *target, verdict="accept")


def _outbound_head(spec: CaptureSpec) -> Iterator[Rule]:
    yield _rule(NAT, "output", verdict="jump istio-output")
    for port in spec.outbound_exclude_ports:
        yield _rule(NAT, "istio-output", f"tcp dport {port}")
        yield _rule(NAT, "istio-output", f"udp dport {port}")
    for match in _versions(spec, "saddr 127.0.0.6/32", "saddr ::6/128"):
        yield _rule(NAT, "istio-output", _LO, match)


def _owners(spec: CaptureSpec) -> Iterator[Rule]:
    for key, number in _owner_keys(spec):
        ports = f"tcp dport != {spec.tunnel_port}"
        if spec.dns_captured and key == "skuid":
            ports = f"tcp dport != {{ 53, {spec.tunnel_port} }}"
        for match in _not_loopback(spec):
            owned = (ports, f"{key} {number}")
            yield _rule(NAT, "istio-output", _LO, _TCP, match, *owned, verdict="jump istio-in-redirect")
        if not spec.loopback_included:
            local = (_TCP, "tcp dport != 53") if spec.dns_captured else ()
            yield _rule(NAT, "istio-output", _LO, *local, f"{key} != {number}")
        yield _rule(NAT, "istio-output", f"{key} {number}")


def _owner_keys(spec: CaptureSpec) -> Iterator[tuple[str, int]]:
    yield from (("skuid", uid) for uid in spec.proxy_uids)
    yield from (("skgid", gid) for gid in spec.proxy_gids)


def _owner_groups(spec: CaptureSpec) -> Iterator[Rule]:
    if spec.owner_groups == "*":
        for group in spec.owner_groups_exclude:
            yield _rule(NAT, "istio-output", f"skgid {group}")
    else:
        yield _rule(NAT, "istio-output", *(f"skgid != {group}" for group in spec.owner_groups))


def _dns(spec: CaptureSpec) -> Iterator[Rule]:
    if not spec.dns_captured:
        return
    yield _rule(RAW, "output", verdict="jump istio-output-dns")
    yield _rule(NAT, "istio-output", verdict="jump istio-output-dns")
    servers = _dns_servers(spec)
    for protocol in ("tcp", "udp"):
        for family, server in servers:
            match = f"{family} daddr {server}" if server else _TCP if protocol == "tcp" else ""
            verdict = f"redirect to :{DNS_PORT}"
            yield _rule(NAT, "istio-output-dns", match, f"{protocol} dport 53", verdict=verdict)
    for key, number in _owner_keys(spec):
        owner = f"meta {key} {number}"
        yield _rule(RAW, "istio-output-dns", "udp dport 53", owner, verdict="ct zone set 1")
        yield _rule(RAW, "istio-output-dns", f"udp sport {DNS_PORT}", owner, verdict="ct zone set 2")
    yield _rule(RAW, "prerouting", verdict="jump istio-inbound")
    for family, server in servers:
        to, back = (f"{family} daddr {server}", f"{family} saddr {server}") if server else ("", "")
        yield _rule(RAW, "istio-output-dns", "udp dport 53", to, verdict="ct zone set 2")
        yield _rule(RAW, "istio-inbound", "udp sport 53", back, verdict="ct zone set 1")


def _dns_servers(spec: CaptureSpec) -> list[tuple[str, str]]:
    """(family, CIDR) of each; ("", "") stands for every server."""
    if spec.capture_all_dns:
        return [("", "")]
    v6 = spec.dns_servers_v6 if spec.ipv6 else ()
    return [*(("ip", f"{server}/32") for server in spec.dns_servers_v4), *(("ip6", f"{server}/128") for server in v6)]


def _outbound_tail(spec: CaptureSpec) -> Iterator[Rule]:
    for match in _versions(spec, f"daddr {spec.loopback_cidr}", "daddr ::1/128"):
        yield _rule(NAT, "istio-output", match)
    for match in _daddr(spec, spec.outbound_exclude_cidrs):
        yield _rule(NAT, "istio-output", match)
    for port in spec.outbound_ports:
        yield _rule(NAT, "istio-output", f"tcp dport {port}", verdict="jump istio-redirect")
    if spec.outbound_cidrs == "*":
        yield _rule(NAT, "istio-output", verdict="jump istio-redirect")
        for name in spec.kube_virt_interfaces:
            yield _rule(NAT, "prerouting", f"iifname {name}", verdict="jump istio-redirect", at=0)
    for match in _daddr(spec, spec.outbound_cidrs):
        for name in spec.kube_virt_interfaces:
            yield _rule(NAT, "prerouting", f"iifname {name}", match, verdict="jump istio-redirect", at=0)
        yield _rule(NAT, "istio-output", match, verdict="jump istio-redirect")


def _daddr(spec: CaptureSpec, which: tuple[str, ...] | str) -> Iterator[str]:
    cidrs = () if isinstance(which, str) else which
    yield from (f"ip daddr {cidr}" for cidr in spec.networks(4, cidrs))
    if spec.ipv6:
        yield from (f"ip6 daddr {cidr}" for cidr in spec.networks(6, cidrs))


def _tproxy_marks(spec: CaptureSpec) -> Iterator[Rule]:
    if not spec.tproxy:
        return
    mark = f"mark {spec.tproxy_mark}"
    yield _rule(MANGLE, "prerouting", _TCP, mark, verdict="ct mark set mark")
    yield _rule(MANGLE, "output", _LO, _TCP, mark)
    for key, number in _owner_keys(spec):
        for match in _not_loopback(spec):
            verdict = f"meta mark set {OUTBOUND_MARK}"
            yield _rule(MANGLE, "output", _LO, _TCP, match, f"{key} {number}", verdict=verdict)
    yield _rule(MANGLE, "output", _TCP, f"ct {mark}", verdict="meta mark set ct mark")
    yield _rule(MANGLE, "istio-inbound", _TCP, mark, at=0)
    for match in _versions(spec, "saddr 127.0.0.6/32", "saddr ::6/128"):
        yield _rule(MANGLE, "istio-inbound", "iifname lo", _TCP, match, at=1)
    yield _rule(MANGLE, "istio-inbound", "iifname lo", _TCP, f"mark != {OUTBOUND_MARK}", at=2)
