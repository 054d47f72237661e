"""The objects, by table and key, with one counter of resource versions and a short memory of what happened.

Every change is one event with the version before it, which is what watches with selectors need: an object that stops to
match is DELETED for them. Events older than the memory are gone; who asks for them is told to list anew (410).
"""

from __future__ import annotations

from bisect import bisect_right
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from hotswitch.sandbox.kubeapi.failure import ApiError, Obj
from hotswitch.sandbox.kubeapi.record import Key, Record
from hotswitch.sandbox.kubeapi.resources import Resource, Table

MEMORY = 5_000  # events kept for each table: at 9 KB a pod 45 MB at most


@dataclass(frozen=True, slots=True)
class Change:
    """`type`: ADDED, MODIFIED or DELETED. `before`: the version that it replaces, None for a new object."""

    type: str
    record: Record
    before: Record | None


Listener = Callable[[Change], None]


@dataclass(slots=True)
class _Shelf:
    records: dict[Key, Record] = field(default_factory=dict)
    changes: deque[Change] = field(default_factory=lambda: deque(maxlen=MEMORY))
    listeners: set[Listener] = field(default_factory=set)
    forgotten: int = 0  # resource version of the newest change that is not remembered any more


class Store:
    def __init__(self) -> None:
        self.version = 1_000  # an arbitrary start: nobody should think that versions begin at 1
        self._shelves: dict[Table, _Shelf] = {}

    def _shelf(self, table: Table) -> _Shelf:
        return self._shelves.setdefault(table, _Shelf())

    def tables(self) -> tuple[Table, ...]:
        return tuple(self._shelves)

    def find(self, table: Table, key: Key) -> Record | None:
        return self._shelf(table).records.get(key)

    def get(self, resource: Resource, key: Key) -> Record:
        """Raises ApiError 404."""
        record = self.find(resource.table, key)
        if record is None:
            raise missing(resource, key[1])
        return record

    def records(self, table: Table, namespace: str = "", after: Key | None = None) -> Iterator[Record]:
        """By namespace and name, those after the key `after`; of all namespaces when it is empty."""
        records = self._shelf(table).records
        keys = sorted(key for key in records if not namespace or key[0] == namespace)
        first = bisect_right(keys, after) if after else 0
        return (records[key] for key in keys[first:])

    def put(self, table: Table, obj: Obj) -> Record:
        """Keep `obj` as the new version of its key; writes its resourceVersion."""
        self.version += 1
        obj["metadata"]["resourceVersion"] = str(self.version)
        record = Record.of(obj)
        shelf = self._shelf(table)
        before = shelf.records.get(record.key)
        shelf.records[record.key] = record
        self._tell(shelf, Change("MODIFIED" if before else "ADDED", record, before))
        return record

    def remove(self, table: Table, obj: Obj) -> Record:
        """Take it away; `obj` is its last state, which the DELETED event shows with a version of its own."""
        self.version += 1
        obj["metadata"]["resourceVersion"] = str(self.version)
        record = Record.of(obj)
        shelf = self._shelf(table)
        before = shelf.records.pop(record.key)
        self._tell(shelf, Change("DELETED", record, before))
        return record

    def _tell(self, shelf: _Shelf, change: Change) -> None:
        if len(shelf.changes) == MEMORY:
            shelf.forgotten = shelf.changes[0].record.version
        shelf.changes.append(change)
        for listener in tuple(shelf.listeners):
            listener(change)

    def since(self, table: Table, version: int) -> list[Change]:
        """What happened after `version`. Raises ApiError 410 when that is not known any more."""
        shelf = self._shelf(table)
        if version < shelf.forgotten:
            raise ApiError(410, f"too old resource version: {version} ({self.version})")
        return [change for change in shelf.changes if change.record.version > version]

    def forget(self, table: Table) -> None:
        """Compaction: nothing before now can be asked for."""
        shelf = self._shelf(table)
        shelf.changes.clear()
        shelf.forgotten = self.version

    def listen(self, table: Table, listener: Listener) -> Callable[[], None]:
        """`listener` is called for each change from now on, until the returned function is."""
        listeners = self._shelf(table).listeners
        listeners.add(listener)
        return lambda: listeners.discard(listener)


def missing(resource: Resource, name: str) -> ApiError:
    details = {"name": name, "group": resource.group, "kind": resource.plural}
    return ApiError(404, f'{resource.qualified} "{name}" not found', details=details)
