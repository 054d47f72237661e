"""The gate's own table, as nft reads it: always loaded, closed unless its maps have elements (S4.3, I1, I4).

Istio's rules stay as they are. The table's nat chains stand at priority -110, ahead of Istio's at -100: the first chain
that binds an address translation to a flow wins, so a no-op DNAT (`direct`) or a redirect to the rescue Envoy keeps
Istio's redirect from ever seeing it. nat chains see only the first packet of a flow: established ones stay where they
are, and a closed gate costs nothing per packet. What Istio does not capture, the gate does not touch: the chains repeat
the pod's own exclusions. The maps' elements carry a kernel timeout, so an opening ends by itself (I1).

TPROXY takes inbound flows earlier, in mangle at -150, where no translation helps; what is done there is the story of
`gate_tproxy`. Captured DNS is opened with the outbound gate whatever its level, towards the resolver that was asked.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from hotswitch.capture import gate_tproxy
from hotswitch.capture.spec import CaptureSpec
from hotswitch.model import (
    DRILL_MARK,
    MESH_ONLY_NETWORKS,
    NEVER_OPENED,
    RESCUE_INBOUND,
    RESCUE_OUTBOUND,
    RESCUE_UID,
    STAND_IN,
    TRIAL_MARK,
    Direction,
    Port,
)

TABLE = "hotswitch"
SCOPE_CHAIN = "scope_"  # an empty chain whose name says which scope the table was made for
PRIORITY = -110  # Istio: iptables nat and nft istio-proxy-nat both at -100 (dstnat)
DNS_MAP = "dns"  # by protocol: questions to the captured name servers
CHAIN_DIRECT = "direct"
STATUS_MAP = "status"  # pilot-agent's port, while a stand-in answers the app's probes in its place
CHAIN_STAND_IN = "stand_in"
CHAIN_DRILL = "drill"
CHAIN_RESCUE = {Direction.INBOUND: "rescue_in", Direction.OUTBOUND: "rescue_out"}


@dataclass(frozen=True, slots=True)
class GateScope:
    """What Istio captures in this pod, hence what the gate may ever open. None means all, an empty tuple nothing."""

    proxy_uids: tuple[int, ...] = (1337,)
    proxy_gids: tuple[int, ...] = (1337,)
    inbound_ports: tuple[Port, ...] | None = None
    inbound_exclude_ports: tuple[Port, ...] = ()
    outbound_networks: tuple[str, ...] | None = None
    outbound_exclude_networks: tuple[str, ...] = ()
    outbound_ports: tuple[Port, ...] = ()  # captured whatever their network
    outbound_exclude_ports: tuple[Port, ...] = ()
    exclude_interfaces: tuple[str, ...] = ()
    kube_virt_interfaces: tuple[str, ...] = ()  # what comes in here is a guest's, on its way out
    owner_groups: tuple[int, ...] | None = None  # captured outbound are only these
    owner_groups_exclude: tuple[int, ...] = ()
    loopback_network: str = ""  # what stays free on `lo` where Istio captures there too; empty: it does not
    dns_servers: tuple[str, ...] | None = ()
    inbound_ipv6: bool = True
    outbound_ipv6: bool = True
    tproxy_mark: int | None = None  # None: inbound capture is a redirect

    @property
    def digest(self) -> str:
        """Changes whenever the table's text would: a table with another digest is replaced."""
        return hashlib.sha256("\n".join(_chains(self)).encode()).hexdigest()[:12]


def scope_of(spec: CaptureSpec) -> GateScope:
    """The scope of a pod whose capture is `spec`. What the gate cannot handle is said by `spec.unsupported()`."""
    servers = (*spec.dns_servers_v4, *spec.dns_servers_v6)
    return GateScope(
        proxy_uids=spec.proxy_uids,
        proxy_gids=spec.proxy_gids,
        inbound_ports=None if spec.inbound_ports == "*" else tuple(spec.inbound_ports),
        inbound_exclude_ports=spec.inbound_exclude_ports,
        outbound_networks=None if "*" in spec.outbound_cidrs else _known(spec, spec.outbound_cidrs),
        outbound_exclude_networks=_known(spec, spec.outbound_exclude_cidrs),
        outbound_ports=spec.outbound_ports,
        outbound_exclude_ports=spec.outbound_exclude_ports,
        exclude_interfaces=spec.exclude_interfaces,
        kube_virt_interfaces=spec.kube_virt_interfaces if spec.outbound_cidrs else (),
        owner_groups=None if spec.owner_groups == "*" else spec.group_numbers(spec.owner_groups),
        owner_groups_exclude=spec.group_numbers(spec.owner_groups_exclude),
        loopback_network=spec.loopback_cidr if spec.loopback_included else "",
        dns_servers=() if not spec.dns_captured else None if spec.capture_all_dns else _known(spec, servers),
        inbound_ipv6=spec.ipv6 or (spec.native_nftables and not spec.tproxy),
        outbound_ipv6=spec.ipv6 or spec.native_nftables,  # its rules without addresses hold for both families
        tproxy_mark=spec.tproxy_mark if spec.tproxy and spec.inbound_ports else None,
    )


def _known(spec: CaptureSpec, addresses: Iterable[str]) -> tuple[str, ...]:
    """Istio leaves out IPv6 addresses where it has found no IPv6, also from rules that hold for both families."""
    return tuple(address for address in addresses if spec.ipv6 or ":" not in address)


def map_of(direction: Direction) -> str:
    """Openings of single ports."""
    return str(direction)


def map_of_all(direction: Direction) -> str:
    """The opening of every port; single ports come first."""
    return f"{direction}_all"


def maps(scope: GateScope) -> tuple[str, ...]:
    """Every map that a write of the gate fills; flushed before it (I5)."""
    found = [name(direction) for direction in Direction for name in (map_of, map_of_all)]
    if scope.tproxy_mark is not None:
        found += gate_tproxy.MAPS
    return (*found, DNS_MAP) if scope.dns_servers != () else tuple(found)


def script(scope: GateScope) -> str:
    """One transaction that puts a closed table in place of whatever table of ours there was (I5)."""
    lines = [f"add table inet {TABLE}", f"delete table inet {TABLE}", f"table inet {TABLE} {{"]
    lines.append('  comment "closed unless its maps have elements; safe to delete"')
    lines.append(f"  chain {SCOPE_CHAIN}{scope.digest} {{ }}")
    lines += [f"  {line}" for line in _chains(scope)]
    return "\n".join([*lines, "}", ""])


def _chains(scope: GateScope) -> list[str]:
    lines = []
    for direction in Direction:
        lines += _block(f"map {map_of(direction)}", ["type inet_service : verdict", "flags timeout"])
        lines += _block(f"map {map_of_all(direction)}", ["type inet_proto : verdict", "flags timeout"])
    if scope.dns_servers != ():
        lines += _block(f"map {DNS_MAP}", ["type inet_proto : verdict", "flags timeout"])
    unmark = gate_tproxy.UNMARK if scope.tproxy_mark is not None else ()
    lines += _block(f"chain {CHAIN_DIRECT}", [*unmark, "dnat ip to ip daddr", "dnat ip6 to ip6 daddr"])
    to_rescue = [*unmark, f"meta l4proto tcp redirect to :{RESCUE_INBOUND}"]
    lines += _block(f"chain {CHAIN_RESCUE[Direction.INBOUND]}", to_rescue)
    lines += _block(
        f"chain {CHAIN_RESCUE[Direction.OUTBOUND]}",
        [f"meta skuid {RESCUE_UID} goto {CHAIN_DIRECT}", f"meta l4proto tcp redirect to :{RESCUE_OUTBOUND}"],
    )
    for direction in Direction:
        look = [f"tcp dport vmap @{map_of(direction)}", f"meta l4proto vmap @{map_of_all(direction)}"]
        lines += _block(f"chain open_{direction}", look)
    lines += _stand_in()
    if scope.kube_virt_interfaces:
        lines += _block(f"chain {_GUESTS}", _to_networks(scope))
    if scope.tproxy_mark is None:
        inbound = [*_guests(scope), *_inbound(scope, f"goto open_{Direction.INBOUND}")]
    else:
        inbound = list(gate_tproxy.nat(f"open_{Direction.INBOUND}"))
        lines += gate_tproxy.chains(scope.tproxy_mark, _inbound(scope, f"goto {gate_tproxy.OPEN}"))
    lines += _block(f"chain {CHAIN_DRILL}", _drill(scope))
    lines += _block("chain prerouting", [_hook("prerouting"), *inbound])
    to_drill = f"meta mark {_set((DRILL_MARK, TRIAL_MARK))} goto {CHAIN_DRILL}"
    lines += _block("chain output", [_hook("output"), to_drill, *_outbound(scope)])
    return lines


def _drill(scope: GateScope) -> Iterator[str]:
    """A drill's own requests to the pod's address, which no prerouting chain sees: as though they came from outside."""
    inbound = [line for line in _inbound(scope, "") if line and not line.startswith("iifname")]
    if inbound:
        yield from inbound
        yield f"meta mark {TRIAL_MARK} goto {CHAIN_RESCUE[Direction.INBOUND]}"
        yield f"goto open_{Direction.INBOUND}"


def _stand_in() -> list[str]:
    """Whatever Istio captures, its probes come in at the status port: a chain of its own, ahead of the gate's."""
    hook = f"type nat hook prerouting priority {PRIORITY - 1}; policy accept;"
    look = ["meta l4proto != tcp return", "fib daddr type != local return", f"tcp dport vmap @{STATUS_MAP}"]
    return [
        *_block(f"map {STATUS_MAP}", ["type inet_service : verdict", "flags timeout"]),
        *_block(f"chain {CHAIN_STAND_IN}", [f"meta l4proto tcp redirect to :{STAND_IN}"]),
        *_block("chain probes", [hook, *look]),
    ]


def _block(head: str, body: Iterable[str]) -> list[str]:
    return [f"{head} {{", *(f"  {line}" for line in body), "}"]


def _hook(hook: str) -> str:
    return f"type nat hook {hook} priority {PRIORITY}; policy accept;"


_GUESTS = "guests"


def _guests(scope: GateScope) -> Iterator[str]:
    """Istio leads what comes from these interfaces to 15001, and knows no exclusions there."""
    if scope.kube_virt_interfaces:
        yield f"iifname {_set(scope.kube_virt_interfaces)} goto {_GUESTS}"


def _family(ipv6: bool) -> Iterator[str]:
    """A pod may have IPv6 that Istio's iptables rules do not know: its first address was IPv4, and no dual stack."""
    if not ipv6:
        yield "meta nfproto != ipv4 return"


def _to_networks(scope: GateScope) -> Iterator[str]:
    yield "meta l4proto != tcp return"
    yield from _family(scope.outbound_ipv6)
    yield from _networks(MESH_ONLY_NETWORKS, "return")
    if scope.outbound_networks is None:
        yield f"goto open_{Direction.OUTBOUND}"
    else:
        yield from _networks(scope.outbound_networks, f"goto open_{Direction.OUTBOUND}")


def _inbound(scope: GateScope, then: str) -> Iterator[str]:
    if scope.inbound_ports == ():
        return
    yield "meta l4proto != tcp return"
    yield from _family(scope.inbound_ipv6)
    if scope.exclude_interfaces:
        yield f"iifname {_set(scope.exclude_interfaces)} return"
    yield "fib daddr type != local return"  # forwarded traffic (a VM behind the pod) is not the app's
    yield f"tcp dport {_set(sorted(NEVER_OPENED))} return"
    if scope.inbound_ports is None and scope.inbound_exclude_ports:
        yield f"tcp dport {_set(sorted(set(scope.inbound_exclude_ports)))} return"
    if scope.inbound_ports is not None:
        yield f"tcp dport != {_set(sorted(set(scope.inbound_ports)))} return"
    yield then


def _outbound(scope: GateScope) -> Iterator[str]:
    if scope.outbound_networks == () and not scope.outbound_ports and scope.dns_servers == ():
        return
    yield f"meta l4proto != {'tcp' if scope.dns_servers == () else '{ tcp, udp }'} return"
    yield from _family(scope.outbound_ipv6)
    if scope.exclude_interfaces:
        yield f"oifname {_set(scope.exclude_interfaces)} return"
    if scope.outbound_exclude_ports:
        yield f"th dport {_set(sorted(set(scope.outbound_exclude_ports)))} return"
    yield f"meta skuid {_set(scope.proxy_uids)} return"
    yield f"meta skgid {_set(scope.proxy_gids)} return"
    yield from _owner_groups(scope)
    if scope.dns_servers != ():
        yield from _dns(scope.dns_servers)
        yield "meta l4proto != tcp return"
    yield from _loopback(scope)
    yield from _networks((*MESH_ONLY_NETWORKS, *scope.outbound_exclude_networks), "return")
    if scope.outbound_networks is None:
        yield f"goto open_{Direction.OUTBOUND}"
        return
    if scope.outbound_ports:
        yield f"tcp dport {_set(sorted(set(scope.outbound_ports)))} goto open_{Direction.OUTBOUND}"
    yield from _networks(scope.outbound_networks, f"goto open_{Direction.OUTBOUND}")


def _owner_groups(scope: GateScope) -> Iterator[str]:
    if scope.owner_groups_exclude:
        yield f"meta skgid {_set(scope.owner_groups_exclude)} return"
    if scope.owner_groups is not None:
        yield f"meta skgid != {_set(scope.owner_groups)} return" if scope.owner_groups else "return"


def _dns(servers: tuple[str, ...] | None) -> Iterator[str]:
    """Ahead of `lo`: a resolver may be there, and Istio captures its questions too."""
    look = f"th dport 53 meta l4proto vmap @{DNS_MAP}"
    yield from (look,) if servers is None else _networks(servers, look)


def _loopback(scope: GateScope) -> Iterator[str]:
    """What Istio leaves alone on `lo`: the proxy's own way to the app, and usually everything."""
    if not scope.loopback_network:
        yield 'oifname "lo" return'
        return
    yield 'oifname "lo" ip saddr 127.0.0.6 return'
    yield 'oifname "lo" ip6 saddr ::6 return'
    yield from _networks((scope.loopback_network, "::1"), "return")


def _networks(networks: tuple[str, ...], verdict: str) -> Iterator[str]:
    v4 = [network for network in networks if ":" not in network]
    v6 = [network for network in networks if ":" in network]
    yield from (f"ip daddr {network} {verdict}" for network in v4)
    yield from (f"ip6 daddr {network} {verdict}" for network in v6)


def _set(values: Iterable[int | str]) -> str:
    return "{ " + ", ".join(f'"{value}"' if isinstance(value, str) else str(value) for value in values) + " }"
