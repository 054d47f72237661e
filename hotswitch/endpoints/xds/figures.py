"""What the server counts: streams, answers, bytes, refusals. Read by whoever makes metrics of it."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from hotswitch.endpoints.xds.kinds import Kind


@dataclass(slots=True)
class Figures:
    """`streams`: open now. `pushes`, `bytes_sent`, `nacks`, by type URL: since the start. `malformed`: streams
    that were ended since what came was no message, or asked for too much; `refused`: since all streams together, or
    those of one address, had come to their bound; `silent`: since no request came."""

    streams: int = 0
    pushes: Counter[str] = field(default_factory=Counter)
    bytes_sent: Counter[str] = field(default_factory=Counter)
    nacks: Counter[str] = field(default_factory=Counter)
    malformed: int = 0
    refused: int = 0
    silent: int = 0

    def sent(self, kind: Kind, size: int) -> None:
        self.pushes[kind] += 1
        self.bytes_sent[kind] += size
