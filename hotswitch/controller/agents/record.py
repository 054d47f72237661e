"""That places were ever given to agents, and by leaders up to which term: a record that outlives the Lease (I3, I6).

Whoever begins to lead is careful for one life of an allotment, because a leader before it may have given places (see
decide.grants.ledger). Only the first of all need not be. By the Lease alone it cannot be told: one that was deleted
begins with term 1 again. So a leader gives nothing to anybody new before this record says that it may, or one life has
passed; no record and a Lease in its first term together are taken to mean that nobody ever did. Whatever cannot be
read is taken for a record of an unknown leader. The term never goes back in it, and a controller that reads it counts
on from there.

After one life places are given though nothing could be written: a record that is gone, or forbidden, must not take
protection away for good (I1). Writing is tried on. Until it succeeds, one hole is left: where the Lease is deleted
within a life of such a giving, and the record can be written then, the next leader is not careful.

It stands beside what receivers of alerts were told, in the ConfigMap that comes with the manifests: the only object of
ours that is not the Lease, and no right to create another is needed.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from hotswitch.cluster.client import Cluster
from hotswitch.cluster.failure import ApiFailure
from hotswitch.cluster.kinds import CONFIGMAPS
from hotswitch.cluster.lease_record import MOST_TRANSITIONS
from hotswitch.controller.ledgers import NAME, TRIES

KEY = "places.given"
LONGEST = 256  # characters: what is longer is none of ours
log = logging.getLogger("hotswitch.agents")


class _Given(msgspec.Struct):
    """Fields of later versions are passed over."""

    term: int


def read(text: str) -> int:
    """The term. Raises ValueError, which names field and value."""
    try:
        if len(text) > LONGEST:
            raise ValueError(f"is longer than {LONGEST} characters")
        term = msgspec.json.decode(text, type=_Given).term
        if not 1 <= term <= MOST_TRANSITIONS:
            raise ValueError(f"term {term} is not between 1 and {MOST_TRANSITIONS}")
    except ValueError as failure:  # msgspec's are
        raise ValueError(f"data[{KEY!r}] of ConfigMap {NAME}: {text[:80]!r}: {failure}") from None
    return term


class Record:
    """`leads()`: at this moment. `highest_term`: that was read, or written; 0 when none."""

    def __init__(self, cluster: Cluster, namespace: str, leads: Callable[[], bool]) -> None:
        self._cluster, self._namespace, self._leads = cluster, namespace, leads
        self.highest_term = 0
        self.problem = ""
        """What is wrong with what stands there; "" when nothing is."""

    async def look(self) -> bool:
        """Whether anything stands there, readable or not. Raises ApiFailure."""
        return self._seen(await self._read())

    async def note(self, term: int) -> bool:
        """From now on a leader of `term` may give places. Whether the record said that nobody had before; False, and
        nothing is written, once this controller leads no longer. Raises ApiFailure."""
        for left in range(TRIES - 1, -1, -1):
            whole = await self._read()
            before = self._seen(whole)
            if not self._leads():
                return False
            if self.highest_term >= term and not self.problem:
                return False
            try:
                await self._write(whole, max(term, self.highest_term))
            except ApiFailure as failure:
                if not failure.is_conflict or not left:
                    raise
            else:
                return not before
        return False

    def _seen(self, whole: Mapping[str, Any]) -> bool:
        text, self.problem = (whole.get("data") or {}).get(KEY), ""
        if text is None:
            return False
        try:
            self.highest_term = max(self.highest_term, read(str(text)))
        except ValueError as failure:
            self.problem = str(failure)
            log.error("record of places not read", extra={"why": self.problem, "so": "careful for one life"})
        return True

    async def _read(self) -> dict[str, Any]:
        return await self._cluster.get(CONFIGMAPS, self._namespace, NAME)

    async def _write(self, whole: Mapping[str, Any], term: int) -> None:
        """Over exactly that version."""
        data = {**(whole.get("data") or {}), KEY: msgspec.json.encode(_Given(term)).decode()}
        await self._cluster.replace(CONFIGMAPS, self._namespace, NAME, {**whole, "data": data})
        self.highest_term = term
