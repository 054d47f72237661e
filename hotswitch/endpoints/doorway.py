"""The doorway to a Service's ports inside a pod's namespace: shut, unless a permit that runs out by itself stands (I7).

One nft table. Packets to a guarded port from outside are refused, new and old flows alike, and answers from it are
dropped, unless a permit stands. A permit has two ends, and the first of them counts: an instant of the wall clock, so
that one that was told in time and written late (its writer was stopped in between) is void from the start; and the
kernel timeout of its element, so that a wall clock that is set back prolongs nothing. It ends whoever is dead, stopped
or cut off. The chains stand ahead of every address translation on the way in and
behind it on the way out: they see the ports that clients see, with and without a sidecar. What a pod says to itself,
and what comes from `allowed` (the kubelet's probes, our own checks), passes.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_network

from hotswitch.endpoints import doorway_message
from hotswitch.endpoints.doorway_message import IN_TIME, PERMITTED, TABLE
from hotswitch.kernel import sockdiag
from hotswitch.kernel.command import Command, CommandFailed, run
from hotswitch.kernel.netlink import NETLINK_NETFILTER, NETLINK_SOCK_DIAG, NetlinkSocket
from hotswitch.kernel.netns import Where, cookie_of
from hotswitch.model import ENVOY_INBOUND, RESCUE_INBOUND, NetnsCookie, Port

LEAST_MS = 1


@dataclass(frozen=True, slots=True)
class Doorway:
    """`netns`: the pod's namespace; None: ours. `allowed`: networks that always pass. Methods raise CommandFailed, and
    OSError: FileNotFoundError when namespace or table are gone."""

    netns: str | None
    ports: tuple[Port, ...]
    allowed: tuple[str, ...] = ()

    def build(self) -> None:
        """Shut. Once more over a table that stands: its permits are gone."""
        self._run(table_text(self.ports, self.allowed))

    def permit(self, until_unix_s: float, at_most_s: float, generation: int = 0) -> None:
        """From now on, in place of any permit that stands: one transaction. `generation`: for whoever reads it back."""
        for_ms = max(LEAST_MS, int(at_most_s * 1000))
        self._write(doorway_message.permit(self.ports, int(until_unix_s * 1e9), for_ms, generation))

    def shut(self) -> int:
        """And end the flows that stand; how many."""
        self._write(doorway_message.shut())
        return self._cut()

    def _write(self, batch: bytes) -> None:
        sock = NetlinkSocket(NETLINK_NETFILTER, self.netns)
        try:
            sock.transact(batch)
        finally:
            sock.close()

    def _cut(self) -> int:
        """Who waits for an answer hears at once that none will come. A proxy's doors are among them: which of its flows
        are for our ports cannot be told there."""
        doors = {*self.ports, ENVOY_INBOUND, RESCUE_INBOUND}
        sock = NetlinkSocket(NETLINK_SOCK_DIAG, self.netns)
        try:
            flows = sockdiag.unfinished(sock)
            outside = [each for each in flows if each.local_port in doors and not each.peer.is_loopback]
            return sum(sockdiag.destroy(sock, each) for each in outside if not self._is_allowed(each.peer))
        finally:
            sock.close()

    def _is_allowed(self, peer: IPv4Address | IPv6Address) -> bool:
        return any(peer in network for network in map(_network, self.allowed) if network.version == peer.version)

    def is_permitted(self) -> bool:
        """Read from the kernel."""
        done = run(Command(("nft", "-j", "list", "set", "inet", TABLE, PERMITTED), netns=self.netns), check=True)
        return any(each.get("set", {}).get("elem") for each in json.loads(done.stdout)["nftables"])

    @property
    def generation(self) -> int:
        """Of the newest permit since it was built or shut, whether or not it has run out; 0: there was none."""
        done = run(Command(("nft", "-j", "list", "chain", "inet", TABLE, IN_TIME), netns=self.netns), check=True)
        rules = (each["rule"] for each in json.loads(done.stdout)["nftables"] if "rule" in each)
        return next((int(each.get("comment") or 0) for each in rules), 0)

    @property
    def exists(self) -> bool:
        try:
            run(Command(("nft", "list", "table", "inet", TABLE), netns=self.netns), check=True)
        except CommandFailed:
            return False
        return True

    def remove(self) -> None:
        """The pod is a Service's no longer."""
        self._run(f"table inet {TABLE}\ndelete table inet {TABLE}\n")

    @property
    def cookie(self) -> NetnsCookie:
        where: Where = "/proc/self/ns/net" if self.netns is None else self.netns
        return cookie_of(where)

    def _run(self, text: str) -> None:
        run(Command(("nft", "-f", "-"), netns=self.netns, stdin=text), check=True)


def table_text(ports: Sequence[Port], allowed: Iterable[str]) -> str:
    """Replaces the whole table in one transaction (I5)."""
    guarded = ", ".join(map(str, ports))
    free = list(_free("saddr", allowed))
    free_out = list(_free("daddr", allowed))
    lines = [
        f"table inet {TABLE}",
        f"delete table inet {TABLE}",
        f"table inet {TABLE} {{",
        f"  set {PERMITTED} {{ type inet_service; flags timeout; }}",
        f"  chain {IN_TIME} {{ }}",
        "  chain in {",
        "    type filter hook prerouting priority raw; policy accept;",
        '    iifname "lo" return',
        "    meta l4proto != { tcp, udp } return",
        f"    th dport != {{ {guarded} }} return",
        *free,
        f"    th dport @{PERMITTED} jump {IN_TIME}",
        "    meta l4proto tcp reject with tcp reset",
        "    reject",
        "  }",
        "  chain out {",
        "    type filter hook postrouting priority 300; policy accept;",
        '    oifname "lo" return',
        "    meta l4proto != { tcp, udp } return",
        f"    th sport != {{ {guarded} }} return",
        *free_out,
        f"    th sport @{PERMITTED} jump {IN_TIME}",
        "    tcp flags & rst == rst return",
        "    drop",
        "  }",
        "}",
    ]
    return "\n".join(lines) + "\n"


def _free(side: str, allowed: Iterable[str]) -> Iterable[str]:
    networks = [_network(each) for each in allowed]
    for family, version in (("ip", 4), ("ip6", 6)):
        known = [str(each) for each in networks if each.version == version]
        if known:
            yield f"    {family} {side} {{ {', '.join(known)} }} return"


def _network(text: str) -> IPv4Network | IPv6Network:
    return ip_network(text, strict=False)
