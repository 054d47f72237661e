"""What a load program is to do; passed to it as a file."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class LoadConfig:
    """`targets`: (address, port) pairs, taken in turn for new connections; `endpoints`: a file that replaces them as it
    changes (one "address port" a line), as kube-proxy's rules follow a Service. `connections`: 0 opens one for each
    request; otherwise that many are kept alive."""

    output: str
    targets: tuple[tuple[str, int], ...] = ()
    endpoints: str | None = None
    rate: float = 1000.0
    seconds: float = 5.0
    timeout_s: float = 1.0
    connections: int = 0
    path: str = "/"
    host: str = "web"
    report_s: float = 0.1
    uid: int = 1000
    gid: int = 1000

    def save(self, path: Path) -> None:
        path.write_text(json.dumps(asdict(self)))

    @classmethod
    def load(cls, path: Path) -> LoadConfig:
        fields = json.loads(path.read_text())
        return cls(**{**fields, "targets": tuple((host, port) for host, port in fields["targets"])})
