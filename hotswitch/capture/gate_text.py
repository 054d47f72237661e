"""A write of the gate in nft's own words: what `plan` prints before, and the journal keeps after (I8)."""

from __future__ import annotations

from collections.abc import Mapping

from hotswitch.capture.gate_elements import elements
from hotswitch.capture.gate_table import TABLE, GateScope, maps
from hotswitch.model import Direction, Generation, Opening


def write_script(
    scope: GateScope,
    openings: Mapping[Direction, Opening],
    *,
    expiry_s: float,
    generation: Generation,
    reason: str,
) -> str:
    """The nft script that does what `Gate.write` does with the same arguments."""
    lines = [f"flush map inet {TABLE} {name}" for name in maps(scope)]
    tail = f'timeout {max(1, round(expiry_s * 1000))}ms comment "gen={generation} {reason}"'
    for name, key, chain in elements(scope, openings):
        verdict = f"goto {chain}" if chain else "return"
        lines.append(f"add element inet {TABLE} {name} {{ {key} {tail} : {verdict} }}")
    return "\n".join([*lines, ""])


def summary(openings: Mapping[Direction, Opening]) -> str:
    """One line for people: "inbound rescue (9000 hold), outbound direct", or "closed"."""
    return ", ".join(_part(way, opening) for way, opening in openings.items()) or "closed"


def _part(direction: Direction, opening: Opening) -> str:
    exceptions = ", ".join(f"{port} {level}" for port, level in sorted(opening.ports.items()))
    return f"{direction} {opening.level}" + (f" ({exceptions})" if exceptions else "")
