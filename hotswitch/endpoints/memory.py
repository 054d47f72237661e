"""The Lease that is the memory of an active/standby Service: who serves, in which generation, and what was before (I6).

One for each Service, in hotswitch's own namespace, so that no right over others' Leases is needed. `spec` says it the
way Kubernetes does (holderIdentity, leaseTransitions is the generation); what has no place there stands in one
annotation. Instants in it are for people: no clock is compared with them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from hotswitch.backends import BackendId, ServiceId
from hotswitch.decide.endpoints.active_standby import Election
from hotswitch.model import Generation, PodUid

ANNOTATION = "endpoints.hotswitch.io/election"
REMEMBERED = 20
SHOWN_BYTES = 32_768
LEASE_PREFIX = "endpoints."


class MemoryUnreadable(ValueError):
    """The annotation cannot be read: nobody may be promoted until a person has looked."""


class Place(msgspec.Struct, frozen=True, omit_defaults=True):
    cluster: str
    uid: str
    name: str = ""  # for people

    @property
    def id(self) -> BackendId:
        return BackendId(self.cluster, PodUid(self.uid))


class Past(msgspec.Struct, frozen=True, omit_defaults=True):
    """`what`: a code (docs/reference/endpoints.md)."""

    at: str
    what: str
    sentence: str
    generation: int = 0
    term: int = 0


class Memory(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """`term`: the leader's who wrote it; one of a lower term must not write over it."""

    v: int = 1
    generation: int = 0
    active: Place | None = None
    fencing: Place | None = None
    ttl_s: float | None = None
    target: str = ""
    handled_unix_s: float = 0.0
    why: str = ""
    term: int = 0
    history: tuple[Past, ...] = ()

    @property
    def election(self) -> Election:
        """Raises MemoryUnreadable."""
        try:
            return Election(
                generation=Generation(self.generation),
                active=self.active.id if self.active else None,
                fencing=self.fencing.id if self.fencing else None,
                ttl_s=self.ttl_s,
                target=self.target,
                handled_unix_s=self.handled_unix_s,
                why=self.why,
            )
        except ValueError as nonsense:
            raise MemoryUnreadable(f"{ANNOTATION}: {nonsense}") from nonsense


def lease_name(service: ServiceId) -> str:
    """Names of Services have no dot, those of namespaces neither: no two Services share a Lease."""
    return f"{LEASE_PREFIX}{service.namespace}.{service.name}"


def memory(of: Election, before: Memory, names: Mapping[BackendId, str], past: Past, term: int) -> Memory:
    return Memory(
        generation=of.generation,
        active=_place(of.active, before, names),
        fencing=_place(of.fencing, before, names),
        ttl_s=of.ttl_s,
        target=of.target,
        handled_unix_s=of.handled_unix_s,
        why=of.why,
        term=term,
        history=(*before.history, past)[-REMEMBERED:],
    )


def _place(backend: BackendId | None, before: Memory, names: Mapping[BackendId, str]) -> Place | None:
    if backend is None:
        return None
    known = [each.name for each in (before.active, before.fencing) if each is not None and each.id == backend]
    return Place(backend.cluster, backend.uid, names.get(backend) or next(iter(known), ""))


def encode(content: Memory) -> str:
    return msgspec.json.encode(content).decode()


def decode(text: str) -> Memory:
    """Raises MemoryUnreadable."""
    if len(text) > SHOWN_BYTES:
        raise MemoryUnreadable(f"{ANNOTATION}: {len(text)} bytes are more than hotswitch writes ({SHOWN_BYTES})")
    try:
        return msgspec.json.decode(text, type=Memory)
    except (msgspec.ValidationError, msgspec.DecodeError) as failure:
        raise MemoryUnreadable(f"{ANNOTATION}: {failure}") from failure


def read(lease: Mapping[str, Any]) -> Memory:
    """Of the object as the API has it. Raises MemoryUnreadable, also when it is a Lease without our annotation."""
    text = ((lease.get("metadata") or {}).get("annotations") or {}).get(ANNOTATION)
    if text is None:
        raise MemoryUnreadable(f"{ANNOTATION}: is missing")
    return decode(text)
