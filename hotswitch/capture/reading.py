"""All that the cleaning of a namespace depends on, read in one go and without changing anything (S4.3b).

The legacy tools run only where legacy tables are: merely asking for a table would make it, and change which iptables
Istio chooses next.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from hotswitch.capture import flows, leftovers, nft_list, routing
from hotswitch.capture.inspect import legacy_tables, nft_families
from hotswitch.capture.leftovers import Saved
from hotswitch.capture.nft_list import Listing
from hotswitch.capture.ruleset import NATIVE_TABLE_PREFIX, target_name
from hotswitch.capture.spec import Backend
from hotswitch.kernel.command import Command, run
from hotswitch.kernel.netlink import NETLINK_SOCK_DIAG, NetlinkSocket
from hotswitch.model import ENVOY_INBOUND, ENVOY_OUTBOUND, Port

HOLD = ("inet", "hotswitch-drain")
_TOOLS = {"ip": "iptables", "ip6": "ip6tables"}
_KINDS = {Backend.IPTABLES_NFT: "nft", Backend.IPTABLES_LEGACY: "legacy"}


class Place(NamedTuple):
    backend: Backend
    family: str  # ip, ip6

    def tool(self, what: str) -> str:
        """`what`: save or restore."""
        return f"{_TOOLS[self.family]}-{_KINDS[self.backend]}-{what}"


@dataclass(frozen=True, slots=True)
class Reading:
    """Everything of a namespace that the plan depends on. `native`: (family, name) of tables called istio-proxy-*,
    with their chains; `unreadable`: tables with chains of Istio's that iptables cannot show, for rules made by nft."""

    saved: Mapping[Place, Saved]
    native: Mapping[tuple[str, str], tuple[str, ...]]
    routing: routing.Surroundings
    proxy_ports: tuple[Port, ...] = (ENVOY_INBOUND, ENVOY_OUTBOUND)
    unreadable: tuple[str, ...] = ()
    live: int = 0  # sockets of flows through the proxy
    held: bool = False  # a cleaning was killed while connections drained: its table is still there

    @property
    def dns(self) -> bool:
        """Questions for names go to pilot-agent."""
        lines = (line for saved in self.saved.values() for line in saved.lines)
        return self._has_chain("istio-output-dns") or any(line.words.endswith("--to-ports 15053") for line in lines)

    @property
    def tproxy(self) -> bool:
        return self._has_chain("istio-tproxy")

    def _has_chain(self, name: str) -> bool:
        chains = {at.chain for saved in self.saved.values() for at in saved.chains}
        chains |= {chain for chains in self.native.values() for chain in chains}
        return target_name(name) in {target_name(chain) for chain in chains}


def read(netns: str | None = None) -> Reading:
    """About 30 ms. Raises CommandFailed, FileNotFoundError."""
    legacy = legacy_tables(netns)
    listing = nft_list.parse(run(Command(("nft", "-j", "list", "ruleset"), netns), check=True).stdout)
    texts = {Place(Backend.IPTABLES_NFT, family): "" for family in nft_families(listing)}
    texts |= {Place(Backend.IPTABLES_LEGACY, family): "" for family in legacy}
    for place in texts:
        texts[place] = run(Command((place.tool("save"),), netns), check=True).stdout
    ports = _proxy_ports([*texts.values(), *(rule.text for of in listing.chains.values() for rule in of)])
    native = sorted(table for table in listing.tables if table[1].startswith(NATIVE_TABLE_PREFIX))
    return Reading(
        saved={place: leftovers.parse(text, place.family) for place, text in texts.items()},
        native={table: tuple(at.chain for at in listing.chains if at[:2] == table) for table in native},
        routing=routing.read(netns),
        proxy_ports=ports,
        live=_live(netns, ports),
        unreadable=tuple(sorted(_unreadable(texts, listing))),
        held=HOLD in listing.tables,
    )


def _live(netns: str | None, ports: tuple[Port, ...]) -> int:
    asks = NetlinkSocket(NETLINK_SOCK_DIAG, netns)
    try:
        return flows.through_proxy(asks, ports)
    finally:
        asks.close()


def _unreadable(texts: Mapping[Place, str], listing: Listing) -> Iterator[str]:
    for place, text in texts.items():
        for table in re.findall(r"^# Table `([^`']+)' is incompatible", text, re.MULTILINE):
            if any(at[:2] == (place.family, table) and leftovers.is_istio(at) for at in listing.chains):
                yield f"{place.family} {table}"


def _proxy_ports(texts: Iterable[str]) -> tuple[Port, ...]:
    found = {ENVOY_INBOUND, ENVOY_OUTBOUND}
    for text in texts:
        found |= {int(port) for port in re.findall(r"(?:ISTIO_\w*REDIRECT .*--to-ports|redirect to) :?(\d+)", text)}
    return tuple(sorted(found))
