"""Flows that an opened gate does not reach: translation is decided once per flow, so old ones stay on the proxy.

The order was found the hard way (sockets first, then conntrack): with the conntrack entry gone a reset is not
translated back, and the waiting client ignores it. Never the LISTEN sockets (it leaves half a proxy), never a flush of
the whole table (a direct flow would be picked up in its middle, redirected and reset). S4.3, I4.
"""

from __future__ import annotations

from ipaddress import ip_address

from hotswitch.kernel import sockdiag
from hotswitch.kernel.command import Command
from hotswitch.kernel.netlink import NetlinkSocket
from hotswitch.model import ENVOY_INBOUND, ENVOY_OUTBOUND, Port

PROXY_DOORS: tuple[Port, ...] = (ENVOY_INBOUND, ENVOY_OUTBOUND)
ISTIO_SOURCES = frozenset({ip_address("127.0.0.6"), ip_address("::6")})
"""Where the sidecar, and the rescue, come from when they call the app: it tells captured flows from direct ones."""


def cut_stuck(sock: NetlinkSocket, doors: tuple[Port, ...] = PROXY_DOORS) -> int:
    """End the established flows that wait at the proxy's doors; how many. Their clients get a reset and reconnect."""
    return sum(sockdiag.destroy(sock, flow) for flow in sockdiag.established(sock) if flow.local_port in doors)


def cut_direct(sock: NetlinkSocket, app_ports: frozenset[Port]) -> int:
    """End inbound flows that reached the app without proxy or rescue, after capture is back; how many."""
    flows = sockdiag.established(sock)
    direct = [flow for flow in flows if flow.local_port in app_ports and _from_outside(flow)]
    return sum(sockdiag.destroy(sock, flow) for flow in direct)


def _from_outside(flow: sockdiag.Flow) -> bool:
    return flow.peer not in ISTIO_SOURCES and flow.peer != flow.local and not flow.peer.is_loopback


def forget_commands(netns: str, doors: tuple[Port, ...] = PROXY_DOORS, *, ended: bool = False) -> list[Command]:
    """Delete the conntrack entries of flows redirected to the proxy's doors; `ended`: only of those that were reset.

    A flow reset by the proxy's death keeps its redirect for 10 s: the same four-tuple, used again, would be refused
    although the gate is open (reproduced). The entry of a flow that lives must stay until its socket is destroyed: else
    the client never hears of it. conntrack exits with 1 when there was nothing to delete.
    """
    state = ("--state", "CLOSE") if ended else ()
    return [
        Command(("conntrack", "-D", "-f", family, "-p", "tcp", "--reply-port-src", str(door), *state), netns=netns)
        for door in doors
        for family in ("ipv4", "ipv6")
    ]
