"""One resource as it goes over the wire, and the answers that carry some. Pure.

A resource is encoded once and joined into every answer that has it: repeated fields of a protobuf message may simply be
put one after the other. Its version is a digest of its content, so that two controllers, or one before and after a
restart, mean the same by the same version, and a client that comes back is told only what is new to it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field

from hotswitch.endpoints.xds.kinds import Kind
from hotswitch.protowire import message, text

DIGEST_BYTES = 8


@dataclass(frozen=True, slots=True)
class Resource:
    """`content`: the encoded message, e.g. a ClusterLoadAssignment."""

    kind: Kind
    name: str
    content: bytes = field(repr=False)
    version: str

    @classmethod
    def of(cls, kind: Kind, name: str, content: bytes) -> Resource:
        return cls(kind, name, content, hashlib.blake2b(content, digest_size=DIGEST_BYTES).hexdigest())

    @property
    def packed(self) -> bytes:
        """google.protobuf.Any"""
        return text(1, self.kind) + message(2, self.content)


def whole_answer(kind: Kind, version: str, nonce: str, resources: Iterable[Resource]) -> bytes:
    """DiscoveryResponse"""
    listed = b"".join(message(2, each.packed) for each in resources)
    return text(1, version) + listed + text(4, kind) + text(5, nonce)


def incremental_answer(kind: Kind, nonce: str, resources: Iterable[Resource], removed: Iterable[str]) -> bytes:
    """DeltaDiscoveryResponse"""
    listed = b"".join(map(_listed, resources))
    return listed + text(4, kind) + text(5, nonce) + b"".join(text(6, name) for name in removed)


def _listed(resource: Resource) -> bytes:
    return message(2, text(1, resource.version) + message(2, resource.packed) + text(3, resource.name))
