"""Elections, written down before anything follows from them: one Lease for each Service, compare and swap (I6).

A controller that was killed between any two steps left a record from which the next one goes on. A deposed leader's
late write fails: on the resourceVersion, or because the record has a higher term than its own.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from hotswitch.backends import BackendId, ServiceId
from hotswitch.cluster.client import Cluster
from hotswitch.cluster.failure import ApiFailure
from hotswitch.cluster.kinds import LEASES
from hotswitch.cluster.lease_record import instant
from hotswitch.decide.endpoints.active_standby import Election, Verdict
from hotswitch.endpoints import memory
from hotswitch.endpoints.memory import Memory, Past


class Stale(RuntimeError):
    """Somebody else wrote it meanwhile, or leads by now: look again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """`version` and `uid` of the Lease; "" for one that has yet to be made."""

    memory: Memory
    election: Election
    version: str = ""
    uid: str = ""


class Ledger:
    """`namespace`: hotswitch's own."""

    def __init__(self, cluster: Cluster, namespace: str) -> None:
        self._cluster, self._namespace = cluster, namespace

    async def read(self, service: ServiceId, term: int) -> Record | None:
        """None: there is no such Lease. Raises ApiFailure, MemoryUnreadable; Stale when a later leader wrote it."""
        try:
            found = await self._cluster.get(LEASES, self._namespace, memory.lease_name(service))
        except ApiFailure as failure:
            if failure.is_missing:
                return None
            raise
        record = _record(found)
        if record.memory.term > term:
            raise Stale(f"the election of {service} was written in term {record.memory.term}, and ours is {term}")
        return record

    async def write(
        self, service: ServiceId, before: Record, verdict: Verdict, names: Mapping[BackendId, str], term: int
    ) -> Record:
        """Raises Stale, ApiFailure; after either nothing is known until it was read again."""
        past = Past(
            at=instant(time.time()), what=str(verdict.word), sentence=verdict.sentence,
            generation=verdict.election.generation, term=term,
        )  # fmt: skip
        body = _lease(service, before, memory.memory(verdict.election, before.memory, names, past, term))
        try:
            return _record(await self._put(service, before, body))
        except ApiFailure as failure:
            if failure.is_conflict or failure.is_taken or failure.is_missing:
                raise Stale(f"the election of {service}: {failure}") from failure
            raise

    async def _put(self, service: ServiceId, before: Record, body: dict[str, Any]) -> dict[str, Any]:
        if not before.version:
            return await self._cluster.create(LEASES, self._namespace, body)
        return await self._cluster.replace(LEASES, self._namespace, memory.lease_name(service), body)

    async def forget(self, service: ServiceId, term: int) -> None:
        """The Service is gone, or knows no roles any more. What somebody has written since it was looked at stays, or a
        generation would be made twice (I7). Raises ApiFailure, MemoryUnreadable; Stale when a later leader wrote it."""
        found = await self.read(service, term)
        if found is None:
            return
        try:
            name = memory.lease_name(service)
            await self._cluster.delete(LEASES, self._namespace, name, uid=found.uid, version=found.version)
        except ApiFailure as failure:
            if not failure.is_missing:
                raise


def unwritten(election: Election) -> Record:
    """Of a Service that has no Lease yet."""
    fencing = election.fencing
    place = memory.Place(fencing.cluster, fencing.uid) if fencing else None
    content = Memory(generation=election.generation, fencing=place, why=election.why)
    return Record(memory=content, election=election)


def _record(lease: Mapping[str, Any]) -> Record:
    content = memory.read(lease)
    metadata = lease["metadata"]
    return Record(
        memory=content,
        election=content.election,
        version=str(metadata["resourceVersion"]),
        uid=str(metadata.get("uid", "")),
    )


def _lease(service: ServiceId, before: Record, content: Memory) -> dict[str, Any]:
    holder = content.active
    now = instant(time.time())
    metadata: dict[str, Any] = {
        "name": memory.lease_name(service),
        "annotations": {memory.ANNOTATION: memory.encode(content)},
        "labels": {"app.kubernetes.io/managed-by": "hotswitch"},
    }
    metadata |= {"uid": before.uid, "resourceVersion": before.version} if before.version else {}
    spec = {
        "holderIdentity": f"{service.namespace}/{holder.name}/{holder.uid}" if holder else "",
        "leaseTransitions": content.generation,
        "acquireTime": now,
        **({"leaseDurationSeconds": max(1, round(content.ttl_s))} if content.ttl_s else {}),
    }
    return {"metadata": metadata, "spec": spec}
