"""A stored version of an object: encoded once, never changed, decoded anew for whoever wants to work on it.

Kept without kind and apiVersion, which come before it when it is sent (`Resource.head`): so lists have bare items and
watches whole objects, as a real API server sends them, without a second encoding. 9 KB of bytes are also a fifth of
what the same pod takes as Python objects.
"""

from __future__ import annotations

import datetime
from dataclasses import dataclass
from typing import Any

import msgspec

from hotswitch.sandbox.kubeapi.failure import Obj
from hotswitch.sandbox.kubeapi.resources import Resource

Key = tuple[str, str]
"""Namespace ("" for cluster-wide kinds) and name."""

encode = msgspec.json.encode
decode = msgspec.json.decode


@dataclass(frozen=True, slots=True)
class Record:
    raw: bytes
    namespace: str
    name: str
    uid: str
    version: int
    labels: dict[str, str]

    @classmethod
    def of(cls, obj: Obj) -> Record:
        meta = obj["metadata"]
        bare = {field: value for field, value in obj.items() if field not in ("kind", "apiVersion")}
        return cls(
            encode(bare),
            meta.get("namespace", ""),
            meta["name"],
            meta["uid"],
            int(meta["resourceVersion"]),
            meta.get("labels") or {},
        )

    @property
    def key(self) -> Key:
        return self.namespace, self.name

    def decode(self) -> Obj:
        """A fresh copy, without kind and apiVersion."""
        obj: Obj = decode(self.raw)
        return obj

    def sent(self, resource: Resource) -> bytes:
        """The whole object as JSON."""
        return resource.head + self.raw[1:]

    def object(self, resource: Resource) -> Obj:
        """A fresh copy, whole."""
        return {"kind": resource.kind, "apiVersion": resource.api_version, **self.decode()}


def now() -> str:
    """RFC 3339 in whole seconds, as metav1.Time."""
    return datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def at(obj: Any, *path: str) -> Any:
    """The value below these fields, or None where one is missing."""
    for field in path:
        obj = obj.get(field) if isinstance(obj, dict) else None
    return obj
