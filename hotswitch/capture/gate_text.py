"""A write of the gate in nft's own words: what `plan` prints before, and the journal keeps after (I8)."""

from __future__ import annotations

from collections.abc import Mapping

from hotswitch.capture.gate_table import CHAIN_DIRECT, CHAIN_RESCUE, TABLE, map_of, map_of_all
from hotswitch.model import OPEN_LEVELS, Direction, Generation, Level, Opening


def write_script(openings: Mapping[Direction, Opening], *, expiry_s: float, generation: Generation, reason: str) -> str:
    """The nft script that does what `Gate.write` does with the same arguments."""
    lines = [f"flush map inet {TABLE} {name(way)}" for way in Direction for name in (map_of, map_of_all)]
    tail = f'timeout {max(1, round(expiry_s * 1000))}ms comment "gen={generation} {reason}"'
    for way, opening in openings.items():
        if opening.level in OPEN_LEVELS:
            lines.append(
                f"add element inet {TABLE} {map_of_all(way)} {{ tcp {tail} : {_verdict(way, opening.level)} }}"
            )
        for port, level in sorted(opening.ports.items()):
            lines.append(f"add element inet {TABLE} {map_of(way)} {{ {port} {tail} : {_verdict(way, level)} }}")
    return "\n".join([*lines, ""])


def _verdict(direction: Direction, level: Level) -> str:
    if level is Level.DIRECT:
        return f"goto {CHAIN_DIRECT}"
    return f"goto {CHAIN_RESCUE[direction]}" if level is Level.RESCUE else "return"


def summary(openings: Mapping[Direction, Opening]) -> str:
    """One line for people: "inbound rescue (9000 hold), outbound direct", or "closed"."""
    return ", ".join(_part(way, opening) for way, opening in openings.items()) or "closed"


def _part(direction: Direction, opening: Opening) -> str:
    exceptions = ", ".join(f"{port} {level}" for port, level in sorted(opening.ports.items()))
    return f"{direction} {opening.level}" + (f" ({exceptions})" if exceptions else "")
