"""Where evidence is kept: one directory for each fault below a root that only the agent's user may enter (S4.7).

Bounded in number, per pod too, and in bytes; the oldest goes first. A directory is named by instant, pod and fault, so
that names in order are faults in order.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from hotswitch.model import PodRef

PER_POD_AT_MOST = 8
FILE_BYTES = 4 * 2**20
_NAME = re.compile(r"\d{8}T\d{6}\.\d{6}Z_[-a-z0-9.]+_[-a-z0-9.]+_[a-z-]+")


@dataclass(frozen=True, slots=True)
class Kept:
    """`files`: name -> bytes."""

    name: str
    pod: str
    fault: str
    files: dict[str, int]


@dataclass(frozen=True, slots=True)
class Store:
    """`at_most`: faults; `bytes_at_most`: of all of them together. Raises OSError where `root` cannot be made."""

    root: Path
    at_most: int = 32
    bytes_at_most: int = 128 * 2**20

    def begin(self, pod: PodRef, fault: str, at_unix_s: float) -> Path:
        """A new, empty directory; what is too much goes before it."""
        self.root.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.root.chmod(0o700)
        self._make_room(str(pod))
        stamp = datetime.fromtimestamp(at_unix_s, UTC).strftime("%Y%m%dT%H%M%S.%fZ")
        directory = self.root / f"{stamp}_{pod.namespace}_{pod.name}_{fault}"
        directory.mkdir(mode=0o700)
        return directory

    def _make_room(self, pod: str) -> None:
        """For one more: of this pod, of all, and in bytes."""
        kept = list(self._kept())
        of_pod = [each for each in kept if each.pod == pod]
        doomed = of_pod[: max(0, len(of_pod) - PER_POD_AT_MOST + 1)]
        left = [each for each in kept if each not in doomed]
        total = sum(sum(each.files.values()) for each in left)
        while left and (len(left) >= self.at_most or total > self.bytes_at_most):
            total -= sum(left[0].files.values())
            doomed.append(left.pop(0))
        for each in doomed:
            shutil.rmtree(self.root / each.name, ignore_errors=True)

    def kept(self, pod: str | None = None) -> list[Kept]:
        """What there is, oldest first; `pod` as "namespace/name"."""
        return [each for each in self._kept() if pod in (None, each.pod)]

    def read(self, name: str, file: str) -> str:
        """One file of one fault. Raises KeyError with a sentence; `name` and `file` are only looked up."""
        for each in self._kept():
            if each.name == name and file in each.files:
                with contextlib.suppress(OSError):
                    return (self.root / name / file).read_text("utf-8", "replace")
        raise KeyError(f"evidence: there is no {file!r} of {name!r}")

    def _kept(self) -> Iterator[Kept]:
        with contextlib.suppress(FileNotFoundError):
            for name in sorted(os.listdir(self.root)):
                if _NAME.fullmatch(name):
                    _, namespace, pod, fault = name.split("_")
                    yield Kept(name, f"{namespace}/{pod}", fault, self._sizes(self.root / name))

    @staticmethod
    def _sizes(directory: Path) -> dict[str, int]:
        with contextlib.suppress(OSError):
            return {each.name: each.stat().st_size for each in sorted(directory.iterdir())}
        return {}


def write(directory: Path, name: str, content: bytes) -> None:
    """One file, for its owner alone. Raises OSError."""
    fd = os.open(directory / name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    with os.fdopen(fd, "wb") as file:
        file.write(content[:FILE_BYTES])
