"""Istio's rules in iptables' words: the text that its init container feeds to `iptables-restore --noflush`.

One block per table, tables in alphabetical order, IPv4 and IPv6 each on their own. The order inside a table is the
order in which Istio adds: the functions below follow it from top to bottom. Chains are made in the order of their
first rule. Rule shapes are those of Istio 1.25 and later, where built-in chains hold jumps and little else; `older` has
those before.
Source: Istio's tools/istio-iptables/pkg/capture/run.go and the golden files under tests/data/istio-golden (S4.3).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from hotswitch.capture.spec import CaptureSpec, Interception

NAT, MANGLE, RAW = "nat", "mangle", "raw"
BUILT_IN = frozenset({"PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING"})
DNS_PORT = 15053  # pilot-agent's name server
OUTBOUND_MARK = 1338  # from Envoy to the app by pod address, not to be captured again
_MAGIC = {4: "127.0.0.6/32", 6: "::6/128"}  # where Envoy's inbound connections to the app come from


class Rule(NamedTuple):
    """`words` follow `-A chain`, or `-I chain at` where the rule is inserted."""

    table: str
    chain: str
    words: str
    at: int | None = None

    def __str__(self) -> str:
        return f"-A {self.chain} {self.words}" if self.at is None else f"-I {self.chain} {self.at} {self.words}"


def render(spec: CaptureSpec) -> tuple[str, ...]:
    """The restore text of each family: IPv4 always, IPv6 if the pod has it; nothing for mode NONE."""
    if spec.mode is Interception.NONE:
        return ()
    return tuple(restore_text(rules(spec, family)) for family in ((4, 6) if spec.ipv6 else (4,)))


def restore_text(of: Iterable[Rule]) -> str:
    """Blocks for `iptables-restore --noflush`. The chains must not exist yet."""
    by_table: dict[str, list[Rule]] = {}
    for rule in of:
        by_table.setdefault(rule.table, []).append(rule)
    return "".join(_block(table, by_table[table]) for table in sorted(by_table))


def _block(table: str, of: list[Rule]) -> str:
    chains = dict.fromkeys(rule.chain for rule in of if rule.chain not in BUILT_IN)
    lines = [f"* {table}", *(f"-N {chain}" for chain in chains), *map(str, of), "COMMIT", ""]
    return "\n".join(lines)


def rules(spec: CaptureSpec, family: int) -> list[Rule]:
    """All rules of one family (4 or 6), in Istio's order."""
    loopback = spec.loopback_cidr if family == 4 else "::1/128"
    return [
        *_interfaces(spec),
        *_invalid(spec),
        *_ports(spec),
        *_inbound(spec, loopback),
        *_outbound_head(spec, family),
        *_owners(spec, loopback),
        *_owner_groups(spec),
        *_dns(spec, family),
        *_outbound_tail(spec, family, loopback),
        *_tproxy_marks(spec, family, loopback),
    ]


def _interfaces(spec: CaptureSpec) -> Iterator[Rule]:
    for table in (NAT, MANGLE) if spec.tproxy else (NAT,):
        for name in spec.exclude_interfaces:
            yield Rule(table, "PREROUTING", f"-i {name} -j RETURN")
            yield Rule(table, "OUTPUT", f"-o {name} -j RETURN")
    for name in spec.kube_virt_interfaces:
        yield Rule(NAT, "PREROUTING", f"-i {name} -j RETURN", at=1)


def _invalid(spec: CaptureSpec) -> Iterator[Rule]:
    if spec.drop_invalid:
        yield Rule(MANGLE, "PREROUTING", "-m conntrack --ctstate INVALID -j ISTIO_DROP")
        yield Rule(MANGLE, "ISTIO_DROP", "-j DROP")


def _ports(spec: CaptureSpec) -> Iterator[Rule]:
    """Always there, even where nothing jumps to them."""
    yield Rule(NAT, "ISTIO_INBOUND", f"-p tcp --dport {spec.tunnel_port} -j RETURN")
    yield Rule(NAT, "ISTIO_REDIRECT", f"-p tcp -j REDIRECT --to-ports {spec.proxy_port}")
    yield Rule(NAT, "ISTIO_IN_REDIRECT", f"-p tcp -j REDIRECT --to-ports {spec.inbound_port}")


def _inbound(spec: CaptureSpec, loopback: str) -> Iterator[Rule]:
    if not spec.inbound_ports:
        return
    table = MANGLE if spec.tproxy else NAT
    if spec.tproxy:
        yield Rule(MANGLE, "ISTIO_DIVERT", f"-j MARK --set-mark {spec.tproxy_mark}")
        yield Rule(MANGLE, "ISTIO_DIVERT", "-j ACCEPT")
        target = f"-j TPROXY --tproxy-mark {spec.tproxy_mark}/0xffffffff --on-port {spec.inbound_port}"
        yield Rule(MANGLE, "ISTIO_TPROXY", f"! -d {loopback} -p tcp {target}")
    yield Rule(table, "PREROUTING", "-p tcp -j ISTIO_INBOUND")
    everything = spec.inbound_ports == "*"
    for port in spec.inbound_exclude_ports if everything else ():
        yield Rule(table, "ISTIO_INBOUND", f"-p tcp --dport {port} -j RETURN")
    for match in ("-p tcp",) if everything else (f"-p tcp --dport {port}" for port in spec.inbound_ports):
        if spec.tproxy:
            known = "-m conntrack --ctstate RELATED,ESTABLISHED"
            yield Rule(MANGLE, "ISTIO_INBOUND", f"{match} {known} -j ISTIO_DIVERT")
        yield Rule(table, "ISTIO_INBOUND", f"{match} -j {'ISTIO_TPROXY' if spec.tproxy else 'ISTIO_IN_REDIRECT'}")


def _outbound_head(spec: CaptureSpec, family: int) -> Iterator[Rule]:
    yield Rule(NAT, "OUTPUT", "-j ISTIO_OUTPUT")
    for port in spec.outbound_exclude_ports:
        yield Rule(NAT, "ISTIO_OUTPUT", f"-p tcp --dport {port} -j RETURN")
        yield Rule(NAT, "ISTIO_OUTPUT", f"-p udp --dport {port} -j RETURN")
    yield Rule(NAT, "ISTIO_OUTPUT", f"-o lo -s {_MAGIC[family]} -j RETURN")


def _owners(spec: CaptureSpec, loopback: str) -> Iterator[Rule]:
    """The proxy's own traffic: to itself by service address comes back in; all else goes straight out."""
    for option, number in owner_options(spec):
        ports = f"! --dport {spec.tunnel_port}"
        if spec.dns_captured and option == "--uid-owner":
            ports = f"-m multiport ! --dports 53,{spec.tunnel_port}"
        match = f"-o lo ! -d {loopback} -p tcp {ports} -m owner {option} {number}"
        yield Rule(NAT, "ISTIO_OUTPUT", f"{match} -j ISTIO_IN_REDIRECT")
        if not spec.loopback_included:
            local = "-o lo -p tcp ! --dport 53" if spec.dns_captured else "-o lo"
            yield Rule(NAT, "ISTIO_OUTPUT", f"{local} -m owner ! {option} {number} -j RETURN")
        yield Rule(NAT, "ISTIO_OUTPUT", f"-m owner {option} {number} -j RETURN")


def owner_options(spec: CaptureSpec) -> Iterator[tuple[str, int]]:
    """The proxy's ids as iptables asks for them: users, then groups."""
    yield from (("--uid-owner", uid) for uid in spec.proxy_uids)
    yield from (("--gid-owner", gid) for gid in spec.proxy_gids)


def _owner_groups(spec: CaptureSpec) -> Iterator[Rule]:
    if spec.owner_groups == "*":
        for group in spec.owner_groups_exclude:
            yield Rule(NAT, "ISTIO_OUTPUT", f"-m owner --gid-owner {group} -j RETURN")
    else:
        none_of = "".join(f"-m owner ! --gid-owner {group} " for group in spec.owner_groups)
        yield Rule(NAT, "ISTIO_OUTPUT", f"{none_of}-j RETURN")


def _dns(spec: CaptureSpec, family: int) -> Iterator[Rule]:
    """Names go to pilot-agent; its own questions and the app's are kept apart in conntrack zones 1 and 2."""
    if not spec.dns_captured:
        return
    servers = dns_servers(spec, family)
    yield Rule(RAW, "OUTPUT", "-j ISTIO_OUTPUT_DNS")
    if servers:
        yield Rule(NAT, "ISTIO_OUTPUT", "-j ISTIO_OUTPUT_DNS")
    for protocol, to_port in (("tcp", "--to-ports"), ("udp", "--to-port")):
        for server in servers:
            match = f"-p {protocol} --dport 53 {'-d ' + server if server else ''}".strip()
            yield Rule(NAT, "ISTIO_OUTPUT_DNS", f"{match} -j REDIRECT {to_port} {DNS_PORT}")
    for option, number in owner_options(spec):
        yield Rule(RAW, "ISTIO_OUTPUT_DNS", f"-p udp --dport 53 -m owner {option} {number} -j CT --zone 1")
        yield Rule(RAW, "ISTIO_OUTPUT_DNS", f"-p udp --sport {DNS_PORT} -m owner {option} {number} -j CT --zone 2")
    if servers:
        yield Rule(RAW, "PREROUTING", "-j ISTIO_INBOUND")
    for server in servers:
        to, back = (f"-d {server} ", f"-s {server} ") if server else ("", "")
        yield Rule(RAW, "ISTIO_OUTPUT_DNS", f"-p udp --dport 53 {to}-j CT --zone 2")
        yield Rule(RAW, "ISTIO_INBOUND", f"-p udp --sport 53 {back}-j CT --zone 1")


def dns_servers(spec: CaptureSpec, family: int) -> tuple[str, ...]:
    """The servers as CIDRs; one empty text stands for every server."""
    if spec.capture_all_dns:
        return ("",)
    if family == 4:
        return tuple(f"{server}/32" for server in spec.dns_servers_v4)
    return tuple(f"{server}/128" for server in spec.dns_servers_v6)


def _outbound_tail(spec: CaptureSpec, family: int, loopback: str) -> Iterator[Rule]:
    yield Rule(NAT, "ISTIO_OUTPUT", f"-d {loopback} -j RETURN")
    for cidr in spec.networks(family, spec.outbound_exclude_cidrs):
        yield Rule(NAT, "ISTIO_OUTPUT", f"-d {cidr} -j RETURN")
    for port in spec.outbound_ports:
        yield Rule(NAT, "ISTIO_OUTPUT", f"-p tcp --dport {port} -j ISTIO_REDIRECT")
    if spec.outbound_cidrs == "*":
        yield Rule(NAT, "ISTIO_OUTPUT", "-j ISTIO_REDIRECT")
        for name in spec.kube_virt_interfaces:
            yield Rule(NAT, "PREROUTING", f"-i {name} -j ISTIO_REDIRECT", at=1)
    for cidr in spec.networks(family, spec.outbound_cidrs):
        for name in spec.kube_virt_interfaces:
            yield Rule(NAT, "PREROUTING", f"-i {name} -d {cidr} -j ISTIO_REDIRECT", at=1)
        yield Rule(NAT, "ISTIO_OUTPUT", f"-d {cidr} -j ISTIO_REDIRECT")


def _tproxy_marks(spec: CaptureSpec, family: int, loopback: str) -> Iterator[Rule]:
    """Written in TPROXY mode even when no inbound port is captured."""
    if not spec.tproxy:
        return
    mark = spec.tproxy_mark
    yield Rule(MANGLE, "PREROUTING", f"-p tcp -m mark --mark {mark} -j CONNMARK --save-mark")
    yield Rule(MANGLE, "OUTPUT", f"-p tcp -o lo -m mark --mark {mark} -j RETURN")
    for option, number in owner_options(spec):
        match = f"! -d {loopback} -p tcp -o lo -m owner {option} {number}"
        yield Rule(MANGLE, "OUTPUT", f"{match} -j MARK --set-mark {OUTBOUND_MARK}")
    yield Rule(MANGLE, "OUTPUT", f"-p tcp -m connmark --mark {mark} -j CONNMARK --restore-mark")
    yield Rule(MANGLE, "ISTIO_INBOUND", f"-p tcp -m mark --mark {mark} -j RETURN", at=1)
    yield Rule(MANGLE, "ISTIO_INBOUND", f"-p tcp -s {_MAGIC[family]} -i lo -j RETURN", at=2)
    yield Rule(MANGLE, "ISTIO_INBOUND", f"-p tcp -i lo -m mark ! --mark {OUTBOUND_MARK} -j RETURN", at=3)
