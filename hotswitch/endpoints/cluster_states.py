"""How further clusters are heard of, told to people: a Lease that the CLI reads, and an alarm (S2.4, S2.7).

One Lease for all of them, in hotswitch's own namespace. It is written by the leader when something has changed, and
each half a minute, so that who reads it can tell an old word from a new one. What it says decides nothing.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec

from hotswitch.backends import ClusterState, Staleness
from hotswitch.cluster.client import Cluster
from hotswitch.cluster.failure import ApiFailure
from hotswitch.cluster.kinds import LEASES
from hotswitch.cluster.lease_record import instant

LEASE = "endpoints.clusters"  # Leases of elections have two dots: none is called so
ANNOTATION = "endpoints.hotswitch.io/clusters"
LOOK_S = 1.0
REPEAT_S = 30.0
SHOWN = 300  # characters of a reason
log = logging.getLogger("hotswitch.endpoints.clusters")


class Said(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """Of one cluster. `since`: of this state, for people. `why`: it is not heard. Numbers of backends by staleness."""

    name: str
    state: str
    since: str = ""
    why: str = ""
    fresh: int = 0
    stale: int = 0
    lost: int = 0

    @property
    def sentence(self) -> str:
        counted = [f"{count} {word}" for word in Staleness if (count := getattr(self, word))]
        since = f" since {self.since}" if self.since else ""
        why = f": {self.why}" if self.why else ""
        return f"cluster {self.name}: {self.state}{since}, backends: {', '.join(counted) or 'none'}{why}"


def said(state: ClusterState, before: Said | None, now: str) -> Said:
    since = before.since if before is not None and before.state == state.word else now
    return Said(
        name=state.name,
        state=state.word,
        since=since,
        why=state.problem[:SHOWN],
        fresh=state.backends.get(Staleness.FRESH, 0),
        stale=state.backends.get(Staleness.STALE, 0),
        lost=state.backends.get(Staleness.LOST, 0),
    )


class ClusterStates:
    """`states`: of all further clusters, now. `tell`: of a cluster, whenever it is looked at. `leads`: asked before
    each write."""

    def __init__(
        self,
        cluster: Cluster,
        namespace: str,
        states: Callable[[], Sequence[ClusterState]],
        tell: Callable[[Said], None],
        leads: Callable[[], bool],
    ) -> None:
        self._cluster, self._namespace, self._states = cluster, namespace, states
        self._tell, self._leads = tell, leads

    async def run(self) -> None:
        """While this controller leads; until cancelled."""
        known: dict[str, Said] = {}
        written: tuple[Said, ...] | None = None
        written_s = float("-inf")
        while True:
            now = instant(time.time())
            known = {each.name: said(each, known.get(each.name), now) for each in self._states()}
            for each in known.values():
                self._tell(each)
            newest = tuple(known.values())
            is_due = time.monotonic() - written_s >= REPEAT_S
            if (newest != written or is_due) and await self._write(newest):
                written, written_s = newest, time.monotonic()
            await asyncio.sleep(LOOK_S)

    async def _write(self, content: Sequence[Said]) -> bool:
        if not self._leads():
            return False
        try:
            await self._put(_lease(content))
        except ApiFailure as failure:
            log.warning("how further clusters are heard of: %s", failure)
            return False
        return True

    async def _put(self, body: dict[str, Any]) -> None:
        try:
            found = await self._cluster.get(LEASES, self._namespace, LEASE)
        except ApiFailure as failure:
            if not failure.is_missing:
                raise
            await self._cluster.create(LEASES, self._namespace, body)
            return
        version = {"resourceVersion": found["metadata"]["resourceVersion"]}
        whole = {**body, "metadata": {**body["metadata"], **version}}
        await self._cluster.replace(LEASES, self._namespace, LEASE, whole)


def _lease(content: Sequence[Said]) -> dict[str, Any]:
    text = msgspec.json.encode(list(content)).decode()
    labels = {"app.kubernetes.io/managed-by": "hotswitch"}
    return {
        "metadata": {"name": LEASE, "labels": labels, "annotations": {ANNOTATION: text}},
        "spec": {"renewTime": instant(time.time()), "leaseDurationSeconds": round(2 * REPEAT_S)},
    }


def read(lease: Mapping[str, Any]) -> tuple[str, tuple[Said, ...]]:
    """When it was written, and what it says. Raises ValueError."""
    text = ((lease.get("metadata") or {}).get("annotations") or {}).get(ANNOTATION, "[]")
    try:
        found = msgspec.json.decode(text, type=tuple[Said, ...])
    except (msgspec.ValidationError, msgspec.DecodeError) as failure:
        raise ValueError(f"{ANNOTATION}: {failure}") from failure
    return str((lease.get("spec") or {}).get("renewTime") or ""), found
