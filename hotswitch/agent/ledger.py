"""The newest order that a helper has carried out, kept in a file: the fence for what comes late (I6).

The kernel shows a generation only while something is open; after a close, and after the helper was started again, this
file is what remembers.
"""

from __future__ import annotations

import contextlib
import os
import time
from dataclasses import dataclass
from pathlib import Path

import msgspec

from hotswitch.model import Direction, Level, Opening


def boot_s() -> float:
    """Seconds since the machine was started: nobody sets this clock, and the next process reads the same."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class Carried(msgspec.Struct, frozen=True):
    """The newest order that was carried out."""

    generation: int = 0
    openings: dict[Direction, tuple[Level, dict[int, Level]]] = msgspec.field(default_factory=dict)
    ends_boot_s: float = 0.0

    def gate(self) -> dict[Direction, Opening]:
        return {way: Opening(level, dict(ports)) for way, (level, ports) in self.openings.items()}


@dataclass
class Ledger:
    """Keeps `Carried` in a file. One that cannot be read counts as none: the kernel's word is left."""

    path: Path

    def read(self) -> Carried:
        with contextlib.suppress(OSError, msgspec.MsgspecError):
            return msgspec.json.decode(self.path.read_bytes(), type=Carried)
        return Carried()

    def write(self, carried: Carried) -> None:
        """Raises OSError."""
        fresh = self.path.with_suffix(".new")
        fresh.write_bytes(msgspec.json.encode(carried))
        os.replace(fresh, self.path)
