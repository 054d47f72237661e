"""The network between pods and clients: one bridge in a namespace of its own; the host's network is not touched.

The bridge's namespace plays the node: kubelet probes come from there. Every pod and client is one more namespace with
one veth, IPv4 and IPv6, so that several sandboxes may use the same addresses side by side.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from hotswitch.kernel.command import Command, run
from hotswitch.kernel.netns import inside
from hotswitch.sandbox.estate import NETNS_DIR, Estate
from hotswitch.sandbox.together import to_its_end

IPV4_NET, IPV6_NET = "10.98", "fd98:"
FAMILIES = ("v4", "v6")
RESOLVERS = {"v4": f"{IPV4_NET}.0.1", "v6": f"{IPV6_NET}:1"}  # the node's own addresses

SYSCTLS: Mapping[str, str] = {
    "ipv4/ip_local_port_range": "1024 65000",  # 1,000 new connections/s leave 60,000 in TIME_WAIT
    "ipv4/ip_local_reserved_ports": "8080-8099,9000-9099,15000-15130",  # else who connects may meet himself there
    "ipv4/tcp_tw_reuse": "1",
    "core/somaxconn": "8192",
    "ipv6/conf/all/accept_dad": "0",
    "ipv6/conf/default/accept_dad": "0",
}


@dataclass(frozen=True, slots=True)
class Attachment:
    """A namespace on the bridge: its name, its path under /var/run/netns, and its addresses without prefix length."""

    name: str
    netns: str
    ipv4: str
    ipv6: str

    def addresses(self, families: tuple[str, ...] = FAMILIES) -> tuple[str, ...]:
        return tuple({"v4": self.ipv4, "v6": self.ipv6}[family] for family in families)


class Network:
    """The bridge and what hangs on it. Removal is the estate's: deleting the namespaces deletes links and addresses."""

    def __init__(self, estate: Estate) -> None:
        self._estate = estate
        self._count = 1  # .1 is the node
        self.node = self._place("net", 1)

    def _place(self, name: str, number: int) -> Attachment:
        full = f"{self._estate.prefix}{name}"
        ipv4, ipv6 = f"{IPV4_NET}.{number >> 8}.{number & 255}", f"{IPV6_NET}:{number:x}"
        return Attachment(full, str(NETNS_DIR / full), ipv4, ipv6)

    async def start(self) -> None:
        await to_its_end(self._make_bridge)

    def _make_bridge(self) -> None:
        _ip(f"netns add {self.node.name}")
        _write_sysctls(self.node.netns)
        _ip_in(
            self.node.name,
            "link set lo up",
            "link add br0 type bridge forward_delay 0 mcast_snooping 0",
            f"addr add {self.node.ipv4}/16 dev br0",
            f"addr add {self.node.ipv6}/64 dev br0 nodad",
            "link set br0 up",
        )

    async def attach(self, name: str, *, ipv6: bool = True) -> Attachment:
        """A new namespace <prefix>name with eth0 on the bridge. Raises CommandFailed when the name is taken."""
        self._count += 1
        place = self._place(name, self._count)
        await to_its_end(self._wire, place, f"v{self._count}", ipv6)
        return place

    def _wire(self, place: Attachment, link: str, ipv6: bool) -> None:
        _ip(f"netns add {place.name}")
        _write_sysctls(place.netns)
        _ip_in(
            self.node.name,
            f"link add {link} type veth peer name eth0 netns {place.name}",
            f"link set {link} master br0 up",
        )
        _ip_in(
            place.name,
            "link set lo up",
            f"addr add {place.ipv4}/16 dev eth0",
            *((f"addr add {place.ipv6}/64 dev eth0 nodad",) if ipv6 else ()),
            "link set eth0 up",
        )

    async def detach(self, place: Attachment) -> None:
        """As a network plug-in does it: first the link, so that whoever still holds the namespace can know."""
        await asyncio.to_thread(_ip_in, place.name, "link del eth0")
        await asyncio.to_thread(_ip, f"netns del {place.name}")


def _ip(*lines: str) -> None:
    run(Command(("ip", "-batch", "-"), stdin="".join(f"{line}\n" for line in lines)), check=True)


def _ip_in(name: str, *lines: str) -> None:
    run(Command(("ip", "-n", name, "-batch", "-"), stdin="".join(f"{line}\n" for line in lines)), check=True)


def _write_sysctls(netns: str) -> None:
    """/proc/sys/net shows the namespace of the thread that opens it."""
    with inside(netns):
        for name, value in SYSCTLS.items():
            Path("/proc/sys/net", name).write_text(value)
