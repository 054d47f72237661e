"""What endpoints are put together from (endpoints.py; S0, S2)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from hotswitch.backends import ServiceId
from hotswitch.cluster.client import Cluster
from hotswitch.cluster.lease import clock_s
from hotswitch.endpoints import checks
from hotswitch.endpoints.probing import Ask
from hotswitch.endpoints.publisher import Publisher
from hotswitch.endpoints.registry import Registry
from hotswitch.endpoints.source import Source
from hotswitch.endpoints.worker import Tell


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """`namespace`: hotswitch's own, for Leases. `leads`: by the leader's own clock. `more`: further publishers.
    `tell` does not wait."""

    cluster: Cluster
    namespace: str
    sources: Sequence[Source]
    registry: Registry
    leads: Callable[[], bool]
    tell: Tell
    foreign: Callable[[ServiceId, tuple[str, ...]], None] = lambda service, names: None
    written: Callable[[str], None] = lambda verb: None
    more: tuple[Publisher, ...] = ()
    ask: Ask = checks.ask
    clock: Callable[[], float] = field(default=clock_s)
