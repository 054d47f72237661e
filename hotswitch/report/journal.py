"""The journal: one JSON line for every act, with who, why, evidence, rules before and after, durations (I8).

Lines are written after the gate has been written, never before: traffic first. What an agent that died in between could
not write is in the kernel (the comment of the gate's elements) and is journalled by its successor as `adopted`.
Nothing secret is ever given to the journal; values are cut at VALUE_BYTES all the same.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from hotswitch.model import PodRef

VALUE_BYTES = 2000
DEFAULT_SIZE_BYTES = 32 * 2**20


class Entry(msgspec.Struct, frozen=True, omit_defaults=True):
    """One line. Durations in milliseconds; `rules_*` say what was active of ours, `istio_*` what Istio had (digest)."""

    at: str
    event: str
    pod: str
    uid: str = ""
    who: str = "agent"
    generation: int = 0
    code: str = ""
    why: str = ""
    evidence: dict[str, str] = msgspec.field(default_factory=dict)
    rules_before: str = ""
    rules_after: str = ""
    istio_rules: str = ""
    durations_ms: dict[str, float] = msgspec.field(default_factory=dict)
    failed: str = ""


@dataclass
class Journal:
    """Appends to `path`; at `size_bytes` the file becomes `path`.1 and a new one begins. Raises OSError from open()."""

    path: Path
    size_bytes: int = DEFAULT_SIZE_BYTES
    heard: Callable[[Entry], None] = lambda entry: None
    """Told of each line after it was written; must not wait."""
    _fd: int = field(default=-1, init=False)
    _size: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._open()

    def _open(self) -> None:
        self._fd = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o640)
        self._size = os.fstat(self._fd).st_size
        if self._size and not self.path.read_bytes().endswith(b"\n"):
            self._size += os.write(self._fd, b"\n")  # a predecessor was killed in the middle of a line

    def write(self, entry: Entry) -> None:
        line = msgspec.json.encode(entry) + b"\n"
        os.write(self._fd, line)
        self._size += len(line)
        if self._size > self.size_bytes:
            self._turn()
        self.heard(entry)

    def _turn(self) -> None:
        os.close(self._fd)
        self.path.replace(self.path.with_name(self.path.name + ".1"))
        self._open()

    def close(self) -> None:
        with contextlib.suppress(OSError):
            os.close(self._fd)

    def read(self, pod: str | None = None, last: int | None = None) -> list[Entry]:
        """Entries in order of time, older file first; a line cut by a crash is skipped."""
        found = [entry for entry in self._entries() if pod in (None, entry.pod)]
        return found if last is None else found[-last:]

    def _entries(self) -> Iterator[Entry]:
        for path in (self.path.with_name(self.path.name + ".1"), self.path):
            if path.exists():
                for line in path.read_bytes().splitlines():
                    with contextlib.suppress(msgspec.DecodeError):
                        yield msgspec.json.decode(line, type=Entry)


def entry(event: str, pod: PodRef, *, evidence: Mapping[str, str] | None = None, **fields: object) -> Entry:
    """An entry of now; `fields` as in Entry."""
    cut = {key: value[:VALUE_BYTES] for key, value in (evidence or {}).items()}
    at = datetime.fromtimestamp(time.time(), UTC).isoformat(timespec="microseconds")
    return msgspec.convert(dict(fields, at=at, event=event, pod=str(pod), uid=pod.uid, evidence=cut), Entry)
