"""The API from within the process, for tests and the node side: no HTTP, no RBAC, objects as dicts.

What is written goes the same way as over HTTP (validation, admission, watches see it), as the cluster's
admin. Kinds are named by plural (`pods`), qualified plural (`leases.coordination.k8s.io`) or kind.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from hotswitch.sandbox.kubeapi import patches
from hotswitch.sandbox.kubeapi.failure import ApiError, Obj
from hotswitch.sandbox.kubeapi.identity import ADMIN
from hotswitch.sandbox.kubeapi.reads import matching
from hotswitch.sandbox.kubeapi.request import Ask
from hotswitch.sandbox.kubeapi.resources import Catalogue
from hotswitch.sandbox.kubeapi.store import Change, Store
from hotswitch.sandbox.kubeapi.writes import Writes

Objects = list[Obj]

DEFAULT = "default"


class Admin:
    def __init__(self, catalogue: Catalogue, store: Store, writes: Writes) -> None:
        self._catalogue, self._store, self._writes = catalogue, store, writes

    def _ask(self, verb: str, word: str, name: str = "", namespace: str = DEFAULT, sub: str = "", **query: str) -> Ask:
        resource = self._catalogue.find(word)
        return Ask(ADMIN, verb, resource, namespace if resource.namespaced else "", name, sub, query)

    def get(self, word: str, name: str, namespace: str = DEFAULT) -> Obj:
        """Raises ApiError 404, KeyError for an unknown kind, as do all below."""
        ask = self._ask("get", word, name, namespace)
        return self._store.get(ask.resource, ask.key).object(ask.resource)

    def find(self, word: str, name: str, namespace: str = DEFAULT) -> Obj | None:
        try:
            return self.get(word, name, namespace)
        except ApiError:
            return None

    def list(self, word: str, namespace: str = "", labels: str = "", fields: str = "") -> Objects:
        """Of all namespaces when `namespace` is empty; `labels` and `fields` are selectors."""
        ask = self._ask("list", word, "", namespace, labelSelector=labels, fieldSelector=fields)
        return [record.object(ask.resource) for record in matching(ask, self._store)]

    def create(self, obj: Obj) -> Obj:
        """By its own apiVersion, kind and namespace (`default` when it names none)."""
        return self._writes.create(self._own(obj, "create"), obj)

    def replace(self, obj: Obj, sub: str = "") -> Obj:
        return self._writes.replace(self._own(obj, "update", sub), obj)

    def patch(
        self, word: str, name: str, patch: Any, namespace: str = DEFAULT, *, sub: str = "", kind: str = patches.MERGE
    ) -> Obj:
        """`kind`: the content type; a merge patch unless said otherwise."""
        return self._writes.patch(self._ask("patch", word, name, namespace, sub), patch, kind)

    def delete(self, word: str, name: str, namespace: str = DEFAULT, grace_s: int | None = None) -> Obj:
        """`grace_s`: 0 takes a pod away at once, as its node does when the containers have ended."""
        options = {} if grace_s is None else {"gracePeriodSeconds": grace_s}
        return self._writes.delete(self._ask("delete", word, name, namespace), options)

    def apply(self, manifests: Iterable[Obj]) -> Objects:
        """Create each, or change the one that is there to be like it (server-side apply); in the order given."""
        return [self._applied(manifest) for manifest in manifests]

    def _applied(self, manifest: Obj) -> Obj:
        if manifest.get("kind") == "List":
            return {**manifest, "items": self.apply(manifest["items"])}
        ask = self._own(manifest, "patch", fieldManager="admin")
        return self._writes.patch(ask, manifest, patches.APPLY)

    def listen(self, word: str, listener: Callable[[str, Obj, Obj | None], None]) -> Callable[[], None]:
        """Call `listener` with ADDED, MODIFIED or DELETED, the object and the one before, from now on.

        It is called in the midst of the write: it should note what it needs and return. Stop by calling what is
        returned.
        """
        resource = self._catalogue.find(word)

        def tell(change: Change) -> None:
            before = change.before.object(resource) if change.before is not None else None
            listener(change.type, change.record.object(resource), before)

        return self._store.listen(resource.table, tell)

    def _own(self, obj: Obj, verb: str, sub: str = "", **query: str) -> Ask:
        resource = self._catalogue.of_kind(obj["apiVersion"], obj["kind"])
        meta = obj.get("metadata") or {}
        namespace = meta.get("namespace") or DEFAULT
        return Ask(ADMIN, verb, resource, namespace if resource.namespaced else "", meta.get("name", ""), sub, query)
