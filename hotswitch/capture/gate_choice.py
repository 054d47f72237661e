"""Which gate a namespace gets: by nf_tables where the kernel has it, else by iptables-legacy."""

from __future__ import annotations

from pathlib import Path
from typing import TypeAlias

from hotswitch.capture.gate import Gate
from hotswitch.capture.gate_legacy import LegacyGate
from hotswitch.capture.gate_table import GateScope
from hotswitch.kernel import nf_tables

AnyGate: TypeAlias = Gate | LegacyGate


def open_gate(netns: str | Path, scope: GateScope) -> AnyGate:
    """Raises OSError when the namespace cannot be entered."""
    return LegacyGate(netns, scope) if nf_tables.absent(str(netns)) else Gate(netns, scope)
