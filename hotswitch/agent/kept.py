"""What an agent remembers of its controller over its own end: a file beside the rescue's (I1).

With it the next process on the node is the same holder of the same places: it goes on without a controller. The lock is
held as long as the process lives, so that there are never two with the same memory; who does not get it begins anew, as
somebody else. Instants are of the boot clock, which nobody sets; after a reboot nothing in the file counts.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
import time
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


def boot_s() -> float:
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class Memory(msgspec.Struct, frozen=True):
    """`grants`: PodGrant messages by pod uid; `orders_end_boot_s`: when the person's order in each of them ends. `term`
    and `acts_on` as in decide.grants.Lease."""

    boot: str
    instance: str
    term: int = 0
    serial: int = 0
    acts_on: tuple[int, int] = (0, 0)
    beats: int = 0
    places: dict[str, int] = msgspec.field(default_factory=dict)
    ends_boot_s: float = 0.0
    grants: dict[str, bytes] = msgspec.field(default_factory=dict)
    orders_end_boot_s: dict[str, float] = msgspec.field(default_factory=dict)


def fresh() -> Memory:
    return Memory(boot=_boot_id(), instance=secrets.token_hex(8))


def _boot_id() -> str:
    with contextlib.suppress(OSError):
        return BOOT_ID.read_text().strip()
    return ""


@dataclass
class Kept:
    """`path` None: nothing is kept. A file that cannot be read counts as none."""

    path: Path | None
    _lock: int = field(default=-1, init=False)

    def read(self) -> Memory:
        if self.path is None or not self._locked(self.path):
            self.path = None
            return fresh()
        with contextlib.suppress(OSError, msgspec.MsgspecError):
            memory = msgspec.msgpack.decode(self.path.read_bytes(), type=Memory)
            if memory.boot == _boot_id():
                return memory
        return fresh()

    def _locked(self, path: Path) -> bool:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._lock = os.open(path.with_suffix(".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return False
        return True

    def write(self, memory: Memory) -> None:
        """Raises OSError."""
        if self.path is None:
            return
        new = self.path.with_suffix(".new")
        descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(msgspec.msgpack.encode(memory))
        os.replace(new, self.path)

    def close(self) -> None:
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1
