"""Every change of an object goes through here, from HTTP or from within: identity, validation, admission, storing.

What belongs to certain kinds is added from outside: shapers complete and validate an object (CRD schemas), guards see
the whole request and say no (admission policies). Both are asked before anything is stored.
"""

from __future__ import annotations

import datetime
from collections.abc import Callable
from typing import Any

from hotswitch.sandbox.kubeapi import birth, owners, patches
from hotswitch.sandbox.kubeapi.failure import ApiError, Obj
from hotswitch.sandbox.kubeapi.record import Record, at, now
from hotswitch.sandbox.kubeapi.request import Ask
from hotswitch.sandbox.kubeapi.resources import Resource
from hotswitch.sandbox.kubeapi.store import Store, missing
from hotswitch.sandbox.kubeapi.updates import count, immutable_uid, precondition, scale_of, updated

Shaper = Callable[[Ask, Obj | None, Obj], None]
"""Of the request, the object before and after: completes the latter in place, or raises ApiError."""

Guard = Callable[[Ask, str, Obj | None, Obj | None], None]
"""Of the request, the operation (CREATE, UPDATE, DELETE, CONNECT), the object before and after: may raise ApiError."""

POD_GRACE_S = 30
NAMESPACES = ("", "namespaces")


class Writes:
    def __init__(self, store: Store) -> None:
        self._store = store
        self.shapers: list[Shaper] = []
        self.guards: list[Guard] = []
        self._applied: dict[tuple[str, str, str, str, str], Obj] = {}

    def _shape(self, ask: Ask, before: Obj | None, after: Obj) -> None:
        for shaper in self.shapers:
            shaper(ask, before, after)
        if ask.sub in ("", "status"):
            birth.check(ask.resource, after, created=before is None)

    def guard(self, ask: Ask, operation: str, before: Obj | None, after: Obj | None) -> None:
        for guard in self.guards:
            guard(ask, operation, before, after)

    def create(self, ask: Ask, obj: Obj, *, applied: bool = False) -> Obj:
        """Returns the object, whole. `applied`: server-side.

        Raises ApiError 400, 403, 404 (no such namespace), 409 (exists), 422."""
        resource = ask.resource
        made = birth.newborn(resource, ask.namespace, obj)
        self._namespace_exists(resource, ask.namespace)
        self._shape(ask, None, made)
        if owners.tracked(resource):
            owners.born(ask, made, obj if applied else None)
        self.guard(ask, "CREATE", None, made)
        key = made["metadata"].get("namespace", ""), made["metadata"]["name"]
        if self._store.find(resource.table, key) is not None:
            details = {"name": key[1], "group": resource.group, "kind": resource.plural}
            raise ApiError(409, f'{resource.qualified} "{key[1]}" already exists', "AlreadyExists", details)
        return made if ask.dry else self._store.put(resource.table, made).object(resource)

    def _namespace_exists(self, resource: Resource, name: str) -> None:
        if not resource.namespaced:
            return
        record = self._store.find(NAMESPACES, ("", name))
        if record is None:
            raise ApiError(404, f'namespaces "{name}" not found', details={"name": name, "kind": "namespaces"})
        if record.decode()["metadata"].get("deletionTimestamp"):
            raise ApiError(403, f"unable to create new content in namespace {name} because it is being terminated")

    def replace(self, ask: Ask, obj: Obj) -> Obj:
        """PUT. Raises ApiError 404, 409, 422."""
        old = self._store.get(ask.resource, ask.key).object(ask.resource)
        if ask.sub == "scale":
            meta = {**obj.get("metadata", {}), "name": ask.name}
            obj = {**old, "metadata": meta, "spec": {**old.get("spec", {}), **(obj.get("spec") or {})}}
        return self._update(ask, old, obj)

    def patch(self, ask: Ask, patch: Any, content_type: str) -> Obj:
        """Raises ApiError 400, 404, 409, 415, 422."""
        if content_type == patches.APPLY:
            return self._apply(ask, patch)
        if ask.resource.custom and content_type == patches.STRATEGIC:
            raise ApiError(415, "the body of the request was in an unknown format: no strategic merge for this kind")
        old = self._store.get(ask.resource, ask.key).object(ask.resource)
        if ask.sub == "scale":
            scale = patches.patched(scale_of(old), patch, content_type)
            return self._update(ask, old, {**old, "metadata": scale["metadata"], "spec": scale["spec"]})
        fresh = self._store.get(ask.resource, ask.key).object(ask.resource)
        return self._patched(ask, old, patches.patched(fresh, patch, content_type))

    def _patched(self, ask: Ask, old: Obj, new: Obj, whose: owners.Owners | None = None) -> Obj:
        """A patch's resourceVersion is a precondition (409); its uid is a change that is not allowed (422)."""
        meta = new.get("metadata") or {}
        precondition(ask.resource, old, None, meta.get("resourceVersion"))
        if meta.get("uid", old["metadata"]["uid"]) != old["metadata"]["uid"]:
            raise immutable_uid(ask.resource, old, meta["uid"])
        return self._update(ask, old, new, whose)

    def _apply(self, ask: Ask, config: Any) -> Obj:
        manager = ask.query.get("fieldManager", "")
        if not manager:
            raise ApiError(400, "PatchOptions is invalid: fieldManager: Required value: is required for apply patch")
        if not isinstance(config, dict):
            raise ApiError(400, "error decoding patch: not an object")
        meta = {"name": ask.name, **(config.get("metadata") or {})}
        config = {**config, "metadata": {field: value for field, value in meta.items() if field != "managedFields"}}
        record = self._store.find(ask.resource.table, ask.key)
        if record is None and ask.sub:
            raise missing(ask.resource, ask.name)
        if owners.tracked(ask.resource) and record is not None:
            changed, whose = owners.applied(ask, record.object(ask.resource), config)
            return self._patched(ask, record.object(ask.resource), changed, whose)
        applied = (*ask.resource.table, *ask.key, f"{manager}/{ask.sub}")
        if record is None:
            result = self.create(ask, config, applied=True)
        else:
            kept = patches.without_dropped(record.object(ask.resource), self._applied.get(applied), config)
            result = self._patched(ask, record.object(ask.resource), patches.strategic(kept, config))
        if not (ask.dry or owners.tracked(ask.resource)):
            self._applied[applied] = config
        return result

    def _update(self, ask: Ask, old: Obj, new: Obj, whose: owners.Owners | None = None) -> Obj:
        """`whose`: fields are whose, after an apply."""
        resource = ask.resource
        result = updated(resource, ask.sub, old, new)
        self._shape(ask, old, result)
        count(resource, old, result)
        if whose is not None:
            owners.settled(ask, old, result, whose)
        elif owners.tracked(resource):
            owners.updated(ask, old, result)
        self.guard(ask, "UPDATE", old, result)
        if ask.dry or result == old:
            return result
        if result["metadata"].get("deletionTimestamp") and self._may_go(resource, result):
            return self._gone(resource, result)
        return self._store.put(resource.table, result).object(resource)

    def _may_go(self, resource: Resource, obj: Obj) -> bool:
        meta = obj["metadata"]
        return not meta.get("finalizers") and not meta.get("deletionGracePeriodSeconds")

    def _gone(self, resource: Resource, obj: Obj) -> Obj:
        gone = self._store.remove(resource.table, obj).object(resource)
        key = gone["metadata"].get("namespace", ""), gone["metadata"]["name"]
        self._applied = {path: was for path, was in self._applied.items() if path[:4] != (*resource.table, *key)}
        return gone

    def delete(self, ask: Ask, options: Obj) -> Obj:
        """The object as it is now: gone, or marked to go (finalizers, a running pod's grace). Raises 404, 409."""
        record = self._store.get(ask.resource, ask.key)
        old = record.object(ask.resource)
        wanted = options.get("preconditions") or {}
        precondition(ask.resource, old, wanted.get("uid"), wanted.get("resourceVersion"))
        self.guard(ask, "DELETE", old, None)
        if ask.dry:
            return old
        if ask.resource.table == NAMESPACES:
            return self._delete_namespace(ask, record)
        return self._delete_object(ask.resource, old, options.get("gracePeriodSeconds"))

    def _delete_object(self, resource: Resource, old: Obj, asked_s: int | None) -> Obj:
        grace_s = _grace_s(resource, old, asked_s)
        meta = {**old["metadata"]}
        if not grace_s and not meta.get("finalizers"):
            return self._gone(resource, {**old, "metadata": meta})
        already = "deletionTimestamp" in meta
        if already and grace_s >= meta.get("deletionGracePeriodSeconds", 0):
            return old
        ends = datetime.datetime.now(datetime.UTC) + datetime.timedelta(seconds=grace_s)
        meta["deletionTimestamp"] = ends.strftime("%Y-%m-%dT%H:%M:%SZ") if grace_s else now()
        meta["deletionGracePeriodSeconds"] = grace_s
        if "generation" in meta and not already:
            meta["generation"] += 1
        return self._store.put(resource.table, {**old, "metadata": meta}).object(resource)

    def _delete_namespace(self, ask: Ask, record: Record) -> Obj:
        """No namespace controller is needed: what is in it goes at once, and then itself."""
        for table in self._store.tables():
            for inside in list(self._store.records(table, record.name)):
                self._store.remove(table, inside.decode())
        return self._gone(ask.resource, record.object(ask.resource))


def _grace_s(resource: Resource, obj: Obj, asked_s: int | None) -> int:
    """Only pods are stopped before they go, and only those that a node may be running."""
    if resource.table != ("", "pods"):
        return 0
    if not at(obj, "spec", "nodeName") or at(obj, "status", "phase") in ("Succeeded", "Failed"):
        return 0
    if asked_s is not None:
        return max(asked_s, 0)
    planned = at(obj, "spec", "terminationGracePeriodSeconds")
    return POD_GRACE_S if planned is None else int(planned)
