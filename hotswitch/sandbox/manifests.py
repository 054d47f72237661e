"""The shipped manifests as objects: what `kubectl kustomize` would print, without kubectl.

The sandbox's API server evaluates the rights and the admission policies that are shipped, not a copy of them: so that a
missing right fails a test. A test compares what comes out here with what kubectl makes of the same folder. What
kustomize has and this has not is refused by name, never passed over: an object that was not changed as its file says
would be a right that nobody gave.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from hotswitch.sandbox.manifest_changes import ManifestError, Obj, add_labels, patched, set_images, set_namespace

__all__ = ["MANIFESTS", "ManifestError", "render"]

MANIFESTS = Path(__file__).parents[2] / "manifests"
"""Of the checkout; a wheel has none."""

_FILE = "kustomization.yaml"
_KNOWN = frozenset(
    {"apiVersion", "kind", "resources", "components", "patches", "namespace", "labels", "images", "metadata"}
)
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # the one in C, where there is it, in a tenth of the time
_FIRST = ("Namespace", "CustomResourceDefinition", "ServiceAccount", "Role", "ClusterRole")


def render(folder: Path) -> list[Obj]:
    """All objects of a kustomization, in an order in which they can be applied. Raises ManifestError."""
    objects = _accumulated(folder.resolve(), [], "Kustomization")
    return sorted(objects, key=lambda obj: _FIRST.index(obj["kind"]) if obj["kind"] in _FIRST else len(_FIRST))


def _accumulated(folder: Path, before: list[Obj], kind: str) -> list[Obj]:
    """`before`: what a component is laid over. In kustomize's order: resources, components, then the changes."""
    said = _kustomization(folder / _FILE, kind)
    objects = before + [obj for entry in said.get("resources", []) for obj in _resources(folder, entry)]
    _no_doubles(objects, folder)
    for entry in said.get("components", []):
        objects = _accumulated((folder / entry).resolve(), objects, "Component")
    return _changed(objects, said, folder)


def _changed(objects: list[Obj], said: dict[str, Any], folder: Path) -> list[Obj]:
    for patch in said.get("patches", []):
        objects = patched(objects, patch, _patch_content(patch, folder))
    if "namespace" in said:
        set_namespace(objects, said["namespace"])
    for labels in said.get("labels", []):
        add_labels(objects, labels)
    for image in said.get("images", []):
        set_images(objects, image)
    return objects


def _kustomization(path: Path, kind: str) -> dict[str, Any]:
    try:
        said = yaml.safe_load(path.read_text())
    except OSError as failure:
        raise ManifestError(f"{path} cannot be read: {failure.strerror}") from failure
    unknown = sorted(set(said) - _KNOWN)
    if unknown:
        raise ManifestError(f"{path}: {', '.join(unknown)}: not known here; kubectl kustomize knows more")
    if said.get("kind", "Kustomization") != kind:
        raise ManifestError(f"{path} is a {said.get('kind')}, and a {kind} is needed there")
    return dict(said)


def _resources(folder: Path, entry: str) -> Iterator[Obj]:
    path = (folder / entry).resolve()
    if "://" in entry:
        raise ManifestError(f"{folder / _FILE}: {entry}: only files and folders of this machine are read")
    if path.is_dir():
        yield from _accumulated(path, [], "Kustomization")
    else:
        yield from _documents(path)


def _documents(path: Path) -> Iterator[Obj]:
    try:
        found = list(yaml.load_all(path.read_text(), _LOADER))
    except OSError as failure:
        raise ManifestError(f"{path} cannot be read: {failure.strerror}") from failure
    for document in found:
        if not isinstance(document, dict) or not {"apiVersion", "kind", "metadata"} <= document.keys():
            raise ManifestError(f"{path} holds something that is no object of Kubernetes")
        yield document


def _patch_content(patch: dict[str, Any], folder: Path) -> list[Any]:
    """The documents of a patch, inline or from a file."""
    if ("path" in patch) == ("patch" in patch):
        raise ManifestError(f"{folder / _FILE}: a patch has either `path` or `patch`")
    text = patch["patch"] if "patch" in patch else (folder / patch["path"]).read_text()
    return [document for document in yaml.safe_load_all(text) if document is not None]


def _no_doubles(objects: list[Obj], folder: Path) -> None:
    seen = set()
    for obj in objects:
        name = (obj["apiVersion"], obj["kind"], obj["metadata"].get("namespace"), obj["metadata"]["name"])
        if name in seen:
            raise ManifestError(f"{folder}: {obj['kind']} {obj['metadata']['name']} is there twice")
        seen.add(name)
