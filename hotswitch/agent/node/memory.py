"""The node's pods as they were last seen, in files: an agent that starts while the API server is away guards them (I1).

One file a pod, named by its uid; a file that cannot be read is no pod. Nothing secret is in a manifest that hotswitch
needs: of variables only those of Istio's own containers are kept.
"""

from __future__ import annotations

import contextlib
import os
import zlib
from collections.abc import Iterator, Mapping, MutableMapping
from pathlib import Path
from typing import Any

import msgspec

from hotswitch.capture.podspec import INIT, PROXY

_METADATA = ("name", "namespace", "uid", "resourceVersion", "labels", "annotations", "ownerReferences")
_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"  # the whole object again, with all variables
_ISTIOS = frozenset({INIT, PROXY})
_CONTAINERS = ("containers", "initContainers")
Manifest = dict[str, Any]


def trimmed(manifest: Mapping[str, Any]) -> Manifest:
    """What is needed to guard the pod."""
    metadata, spec = manifest["metadata"], dict(manifest["spec"])
    for key in _CONTAINERS:
        spec[key] = [_container(each) for each in spec.get(key) or ()]
    kept = {key: metadata[key] for key in _METADATA if key in metadata}
    if _APPLIED in (kept.get("annotations") or {}):
        kept["annotations"] = {key: each for key, each in kept["annotations"].items() if key != _APPLIED}
    return {"metadata": kept, "spec": spec, "status": manifest.get("status") or {}}


def _container(container: Mapping[str, Any]) -> Manifest:
    if container.get("name") in _ISTIOS:
        return dict(container)
    return {key: each for key, each in container.items() if key not in ("env", "envFrom", "command", "args")}


class Manifests(MutableMapping[str, Manifest]):
    """By uid, packed: each is looked at seldom, and those of a full node would, as objects, take as much memory as all
    else of the agent's pods."""

    def __init__(self) -> None:
        self._packed: dict[str, bytes] = {}

    def __getitem__(self, uid: str) -> Manifest:
        found: Manifest = msgspec.json.decode(zlib.decompress(self._packed[uid]))
        return found

    def __setitem__(self, uid: str, manifest: Manifest) -> None:
        self._packed[uid] = zlib.compress(msgspec.json.encode(manifest))

    def __delitem__(self, uid: str) -> None:
        del self._packed[uid]

    def __iter__(self) -> Iterator[str]:
        return iter(self._packed)

    def __len__(self) -> int:
        return len(self._packed)

    def __contains__(self, uid: object) -> bool:
        return uid in self._packed


class Memory:
    """`directory` is made when it is first needed."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def keep(self, uid: str, manifest: Manifest) -> None:
        """Raises OSError."""
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        fresh = self._directory / f"{uid}.new"
        fresh.write_bytes(msgspec.json.encode(manifest))
        os.replace(fresh, self._directory / f"{uid}.json")

    def forget(self, uid: str) -> None:
        with contextlib.suppress(OSError):
            (self._directory / f"{uid}.json").unlink()

    def read(self) -> Iterator[Manifest]:
        for path in sorted(self._directory.glob("*.json")):
            with contextlib.suppress(OSError, msgspec.DecodeError):
                found = msgspec.json.decode(path.read_bytes())
                if isinstance(found, dict) and found.get("metadata", {}).get("uid") == path.stem:
                    yield found
