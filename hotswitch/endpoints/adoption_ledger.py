"""How far the taking over of a Service has come, written down before each step: a Lease in our own namespace (I6, I8).

It is not on the Service itself, because whoever fights for the Service may wipe it clean: what is remembered of a lost
fight must outlive that. Written by compare and swap; one of a lower term never writes over a higher one's.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from hotswitch.backends import ServiceId
from hotswitch.cluster.client import Cluster
from hotswitch.cluster.failure import ApiFailure
from hotswitch.cluster.kinds import LEASES
from hotswitch.cluster.lease_record import instant
from hotswitch.decide.endpoints.adopt import Phase
from hotswitch.endpoints.ledger import Stale
from hotswitch.endpoints.memory import LEASE_PREFIX, REMEMBERED, SHOWN_BYTES, MemoryUnreadable, Past

ANNOTATION = "endpoints.hotswitch.io/adoption"


class Adoption(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """`uid`: of the Service. `selector`: that was there when it began. `version`: of the Service from which the
    selector was about to be taken. `again`: the word to try again that stood there when somebody else won. `writers`:
    of its Endpoints object while it had its selector, by field manager."""

    v: int = 1
    uid: str = ""
    phase: Phase = Phase.IDLE
    selector: dict[str, str] = msgspec.field(default_factory=dict)
    version: str = ""
    again: str = ""
    writers: tuple[str, ...] = ()
    term: int = 0
    history: tuple[Past, ...] = ()


NOTHING = Adoption()


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """`version`, `lease_uid` of the Lease; "" for one that has yet to be made."""

    adoption: Adoption = NOTHING
    version: str = ""
    lease_uid: str = ""


def lease_name(service: ServiceId) -> str:
    """Four words, where an election's has three: no name of a namespace or a Service has a dot."""
    return f"{LEASE_PREFIX}adopt.{service.namespace}.{service.name}"


def read(lease: Mapping[str, Any]) -> Adoption:
    """Raises MemoryUnreadable."""
    text = ((lease.get("metadata") or {}).get("annotations") or {}).get(ANNOTATION, "")
    if len(text) > SHOWN_BYTES:
        raise MemoryUnreadable(f"{ANNOTATION}: {len(text)} bytes are more than hotswitch writes ({SHOWN_BYTES})")
    try:
        return msgspec.json.decode(text, type=Adoption)
    except (msgspec.ValidationError, msgspec.DecodeError) as failure:
        raise MemoryUnreadable(f"{ANNOTATION}: {failure}") from failure


class AdoptionLedger:
    """`namespace`: hotswitch's own. `term`: of this leadership."""

    def __init__(self, cluster: Cluster, namespace: str, term: int) -> None:
        self._cluster, self._namespace, self._term = cluster, namespace, term

    async def read(self, service: ServiceId) -> Entry:
        """Raises ApiFailure, MemoryUnreadable; Stale when a later leader wrote it."""
        try:
            found = await self._cluster.get(LEASES, self._namespace, lease_name(service))
        except ApiFailure as failure:
            if failure.is_missing:
                return Entry()
            raise
        entry = _entry(found)
        if entry.adoption.term > self._term:
            raise Stale(f"the record of {service} was written in term {entry.adoption.term}, and ours is {self._term}")
        return entry

    async def write(self, service: ServiceId, before: Entry, wanted: Adoption, code: str, sentence: str) -> Entry:
        """Raises Stale, ApiFailure; after either nothing is known until it was read again."""
        past = Past(at=instant(time.time()), what=code, sentence=sentence, term=self._term)
        history = (*before.adoption.history, past)[-REMEMBERED:]
        content = msgspec.structs.replace(wanted, term=self._term, history=history)
        body = _lease(service, before, content)
        try:
            return _entry(await self._put(service, before, body))
        except ApiFailure as failure:
            if failure.is_conflict or failure.is_taken or failure.is_missing:
                raise Stale(f"the record of {service}: {failure}") from failure
            raise

    async def _put(self, service: ServiceId, before: Entry, body: dict[str, Any]) -> dict[str, Any]:
        if not before.version:
            return await self._cluster.create(LEASES, self._namespace, body)
        return await self._cluster.replace(LEASES, self._namespace, lease_name(service), body)

    async def forget(self, service: ServiceId) -> None:
        """The Service is gone. Raises ApiFailure, MemoryUnreadable, Stale."""
        found = await self.read(service)
        if not found.version:
            return
        try:
            name = lease_name(service)
            await self._cluster.delete(LEASES, self._namespace, name, uid=found.lease_uid, version=found.version)
        except ApiFailure as failure:
            if not failure.is_missing:
                raise


def _entry(lease: Mapping[str, Any]) -> Entry:
    metadata = lease["metadata"]
    return Entry(adoption=read(lease), version=str(metadata["resourceVersion"]), lease_uid=str(metadata.get("uid", "")))


def _lease(service: ServiceId, before: Entry, content: Adoption) -> dict[str, Any]:
    metadata: dict[str, Any] = {
        "name": lease_name(service),
        "annotations": {ANNOTATION: msgspec.json.encode(content).decode()},
        "labels": {"app.kubernetes.io/managed-by": "hotswitch"},
    }
    metadata |= {"uid": before.lease_uid, "resourceVersion": before.version} if before.version else {}
    return {"metadata": metadata, "spec": {"holderIdentity": "" if content.phase is Phase.IDLE else "hotswitch"}}
