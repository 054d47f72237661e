"""What a Lease says: who holds it, for how long, and how often it has changed hands. Pure.

Instants in it are written for people: no two machines' wall clocks are compared, each counts from when it saw the Lease
change.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import msgspec

MOST_TRANSITIONS = 2**31 - 1  # int32 in the API


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """`version`: its resourceVersion; `holder` "": it was released, or (term 0) nobody ever held it. `term`:
    leaseTransitions, the fencing token."""

    uid: str
    version: str
    holder: str
    duration_s: float
    term: int
    acquired: str = ""

    @property
    def was_released(self) -> bool:
        """Whoever held it said that it leads no longer."""
        return not self.holder and self.term > 0


class _Metadata(msgspec.Struct, rename="camel"):
    uid: str
    resource_version: str


class _Spec(msgspec.Struct, rename="camel"):
    holder_identity: str | None = None
    lease_duration_seconds: int | None = None
    lease_transitions: int | None = None
    acquire_time: str | None = None


class _Lease(msgspec.Struct):
    metadata: _Metadata
    spec: _Spec = msgspec.field(default_factory=_Spec)


def read(raw: bytes) -> Record:
    """Of what others wrote, too: what is missing is as nobody's. Raises ValueError when it is no Lease."""
    lease = msgspec.json.decode(raw, type=_Lease)
    spec = lease.spec
    return Record(
        uid=lease.metadata.uid,
        version=lease.metadata.resource_version,
        holder=spec.holder_identity or "",
        duration_s=float(spec.lease_duration_seconds or 0),
        term=spec.lease_transitions or 0,
        acquired=spec.acquire_time or "",
    )


def unheld(name: str) -> dict[str, Any]:
    """A new one, which nobody ever held."""
    return {"metadata": {"name": name}, "spec": {"holderIdentity": "", "leaseTransitions": 0}}


def held(name: str, over: Record, *, holder: str, duration_s: int, term: int, now_unix_s: float) -> dict[str, Any]:
    """To be written over exactly that version of exactly that Lease. A real API server (1.34) makes a deleted Lease
    anew when it is put with an old resourceVersion and no uid. `holder` "": given away."""
    now = instant(now_unix_s)
    goes_on = over.holder == holder and over.term == term and over.acquired
    spec = {
        "holderIdentity": holder,
        "leaseDurationSeconds": duration_s,
        "leaseTransitions": term,
        "acquireTime": over.acquired if goes_on else now,
        "renewTime": now,
    }
    return {"metadata": {"name": name, "uid": over.uid, "resourceVersion": over.version}, "spec": spec}


def instant(unix_s: float) -> str:
    """A MicroTime: RFC 3339 with microseconds, in UTC."""
    return datetime.fromtimestamp(unix_s, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
