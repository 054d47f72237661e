"""What a write of the gate puts into its maps: the same list for the message and for the text of it (I8).

TPROXY's elements stand first, so that none of them outlives its fellow in the inbound maps.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

from hotswitch.capture import gate_tproxy
from hotswitch.capture.gate_table import CHAIN_DIRECT, CHAIN_RESCUE, DNS_MAP, GateScope, map_of, map_of_all
from hotswitch.model import OPEN_LEVELS, Direction, Level, Opening, Port

DNS_PORT: Port = 53


class Element(NamedTuple):
    """`key`: a port, or a protocol's name. `chain`: where it leads; empty: nowhere, Istio's rules decide."""

    map: str
    key: Port | str
    chain: str


def elements(scope: GateScope, openings: Mapping[Direction, Opening]) -> Iterator[Element]:
    for direction, opening in openings.items():
        if direction is Direction.INBOUND and scope.tproxy_mark is not None:
            for _, key, chain in _of(direction, opening):
                name = gate_tproxy.OPEN if isinstance(key, int) else gate_tproxy.OPEN_ALL
                yield Element(name, key, chain and gate_tproxy.CHAIN_PASS)
        yield from _of(direction, opening)
        if direction is Direction.OUTBOUND and scope.dns_servers != () and opens_names(opening):
            yield Element(DNS_MAP, "udp", CHAIN_DIRECT)
            yield Element(DNS_MAP, "tcp", CHAIN_DIRECT)


def _of(direction: Direction, opening: Opening) -> Iterator[Element]:
    if opening.level in OPEN_LEVELS:
        yield Element(map_of_all(direction), "tcp", _chain(direction, opening.level))
    for port, level in sorted(opening.ports.items()):
        yield Element(map_of(direction), port, _chain(direction, level))


def _chain(direction: Direction, level: Level) -> str:
    if level not in OPEN_LEVELS:
        return ""
    return CHAIN_DIRECT if level is Level.DIRECT else CHAIN_RESCUE[direction]


def opens_names(opening: Opening) -> bool:
    """With anything open, unless port 53 is to stay as it is: who cannot resolve names cannot use the rest."""
    if DNS_PORT in opening.ports:
        return opening.ports[DNS_PORT] in OPEN_LEVELS
    return not OPEN_LEVELS.isdisjoint((opening.level, *opening.ports.values()))
