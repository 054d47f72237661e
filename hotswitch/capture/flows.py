"""Flows that an opened gate does not reach: translation is decided once per flow, so old ones stay on the proxy.

The order was found the hard way (sockets first, then conntrack): with the conntrack entry gone a reset is not
translated back, and the waiting client ignores it. Never the LISTEN sockets (it leaves half a proxy), never a flush of
the whole table (a direct flow would be picked up in its middle, redirected and reset). S4.3, I4.

TPROXY translates nothing: its flows are known by their sockets, which are transparent, and by no mark in conntrack.
Questions to a name server come from sockets that are used again and again, so their flows outlast any switch.
"""

from __future__ import annotations

from collections.abc import Collection
from contextlib import nullcontext
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path
from typing import TypeAlias

from hotswitch.capture.gate_table import GateScope
from hotswitch.capture.iptables import DNS_PORT as AGENT_DNS
from hotswitch.kernel import sockdiag
from hotswitch.kernel.command import Command
from hotswitch.kernel.netlink import NetlinkSocket
from hotswitch.kernel.netns import inside
from hotswitch.model import ENVOY_INBOUND, ENVOY_OUTBOUND, Port

PROXY_DOORS: tuple[Port, ...] = (ENVOY_INBOUND, ENVOY_OUTBOUND)
ISTIO_SOURCES = frozenset({ip_address("127.0.0.6"), ip_address("::6")})
"""Where the sidecar, and the rescue, come from when they call the app: it tells captured flows from direct ones."""


def cut_stuck(sock: NetlinkSocket, scope: GateScope, doors: tuple[Port, ...] = PROXY_DOORS) -> int:
    """End the established flows that wait at the proxy's doors; how many. Their clients get a reset and reconnect."""
    tproxy = scope.tproxy_mark is not None
    flows = sockdiag.established(sock)
    return sum(
        sockdiag.destroy(sock, flow) for flow in flows if flow.local_port in doors or (tproxy and flow.transparent)
    )


ENDED_FLOWS = 1 << 0 | 1 << 2
"""Groups of NETLINK_SOCK_DIAG that announce every TCP socket's end (SKNLGRP_INET_TCP_DESTROY, ..._INET6_...)."""


def through_proxy(sock: NetlinkSocket, doors: Collection[Port]) -> int:
    """How many sockets of the namespace belong to flows through the proxy, on either of its sides."""
    flows = sockdiag.established(sock)
    magic = (not ISTIO_SOURCES.isdisjoint((flow.local, flow.peer)) for flow in flows)
    return sum(flow.local_port in doors or flow.transparent or near for flow, near in zip(flows, magic, strict=True))


def direct(sock: NetlinkSocket, app_ports: frozenset[Port]) -> list[sockdiag.Flow]:
    """Inbound flows that stand and reached the app without proxy or rescue."""
    flows = sockdiag.established(sock)
    ends = {(flow.local, flow.local_port, flow.peer, flow.peer_port) for flow in flows}
    return [flow for flow in flows if flow.local_port in app_ports and _from_outside(flow, ends)]


_Ends: TypeAlias = tuple[IPv4Address | IPv6Address, Port, IPv4Address | IPv6Address, Port]


def _from_outside(flow: sockdiag.Flow, ends: set[_Ends]) -> bool:
    """With TPROXY the proxy calls the app from the client's address: then the other end is in this namespace too."""
    near = flow.peer in ISTIO_SOURCES or flow.peer == flow.local or flow.peer.is_loopback or flow.transparent
    return not near and (flow.peer, flow.peer_port, flow.local, flow.local_port) not in ends


def tracked(netns: str | None) -> int:
    """How many entries the namespace's conntrack has; 0 too where the kernel has none."""
    with nullcontext() if netns is None else inside(netns):
        count = Path("/proc/sys/net/netfilter/nf_conntrack_count")
        return int(count.read_text()) if count.exists() else 0


def forget_commands(
    netns: str | None, scope: GateScope, doors: tuple[Port, ...] = PROXY_DOORS, *, ended: bool = False
) -> list[Command]:
    """Delete the conntrack entries of flows that went to the proxy; `ended`: only of those that were reset.

    A flow reset by the proxy's death keeps its redirect for 10 s: the same four-tuple, used again, would be refused
    although the gate is open; with TPROXY it counts as established, and would reach the app past the rescue (both
    reproduced). The entry of a flow that lives must stay until its socket is destroyed: else the client never hears of
    it. With TPROXY also those go, if not only `ended`, whose first packet a full accept queue has dropped.
    conntrack exits with 1 when there was nothing to delete.
    """
    state = ("--state", "CLOSE") if ended else ()
    which = [("--reply-port-src", str(door), *state) for door in doors]
    if scope.dns_servers != ():
        which.append(("--reply-port-src", str(AGENT_DNS), "--state", "CLOSE"))
    if scope.tproxy_mark is not None:
        which += [("--state", name) for name in (("CLOSE",) if ended else ("CLOSE", "SYN_SENT"))]
    return [_delete(netns, family, "tcp", *each) for each in which for family in _FAMILIES]


def forget_names_commands(netns: str | None, scope: GateScope, *, opened: bool) -> list[Command]:
    """Delete the conntrack entries of captured questions to name servers (`opened`), or of direct ones: a resolver that
    asks from the same socket again would go on being led as before (reproduced). pilot-agent's own questions lose
    nothing: they are not translated."""
    if scope.dns_servers == ():
        return []
    which = ("--reply-port-src", str(AGENT_DNS)) if opened else ("--orig-port-dst", "53")
    return [_delete(netns, family, "udp", *which) for family in _FAMILIES]


_FAMILIES = ("ipv4", "ipv6")


def _delete(netns: str | None, family: str, protocol: str, *which: str) -> Command:
    return Command(("conntrack", "-D", "-f", family, "-p", protocol, *which), netns=netns)
