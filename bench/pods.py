"""What the other actors are told about a pod, and what they say they did: a file each way.

They are processes of their own, as hotswitch's agent is, so that all compete for the machine alike.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

from hotswitch.capture.options import parse
from hotswitch.capture.spec import CaptureSpec
from hotswitch.sandbox.pod import Pod

READY, OPEN, CLOSE = "ready", "open", "close"


@dataclass(frozen=True, slots=True)
class Ward:
    """One pod in an actor's care. `init`: the arguments istio-init had. `cgroups`: of the proxy's container."""

    name: str
    netns: str
    init: tuple[str, ...]
    cgroups: tuple[str, ...] = ()

    @classmethod
    def of(cls, pod: Pod) -> Ward:
        return cls(pod.name, pod.netns, pod.spec.init_args, tuple(map(str, pod.proxy_cgroups)))

    @property
    def capture(self) -> CaptureSpec:
        """Pods of the bench have IPv4 only: that halves the work of whoever runs iptables."""
        return parse(self.init)


@dataclass(frozen=True, slots=True)
class Deed:
    """`began_s`, `at_s`: monotonic, before and after it was done."""

    what: str
    pod: str
    began_s: float
    at_s: float


def save_wards(path: Path, wards: Iterable[Ward]) -> None:
    path.write_text(json.dumps([asdict(ward) for ward in wards]))


def load_wards(path: Path) -> list[Ward]:
    entries = json.loads(path.read_text())
    return [Ward(each["name"], each["netns"], tuple(each["init"]), tuple(each["cgroups"])) for each in entries]


class Diary:
    """Written by an actor: a line for each deed."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("a", buffering=1)

    def note(self, what: str, pod: str = "", began_s: float | None = None) -> None:
        now_s = time.monotonic()
        self._file.write(json.dumps(asdict(Deed(what, pod, now_s if began_s is None else began_s, now_s))) + "\n")


class DiaryReader:
    """Read on by the bench."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._at = 0
        self.deeds: list[Deed] = []
        self.open_pods: set[str] = set()

    def catch_up(self) -> None:
        if not self._path.exists() or self._path.stat().st_size <= self._at:
            return
        with self._path.open("rb") as diary:
            diary.seek(self._at)
            whole, _, _ = diary.read().rpartition(b"\n")
        self._at += len(whole) + 1 if whole else 0
        for line in whole.splitlines():
            self._read(Deed(**json.loads(line)))

    def _read(self, deed: Deed) -> None:
        self.deeds.append(deed)
        if deed.what == OPEN:
            self.open_pods.add(deed.pod)
        elif deed.what == CLOSE:
            self.open_pods.discard(deed.pod)
