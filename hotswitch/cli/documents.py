"""Files that people hand to a command: manifests in YAML, settings in JSON or YAML; "-" is standard input.

Whatever is wrong with one is a sentence that names the file (S4.3a).
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import yaml

from hotswitch.capture import effective
from hotswitch.capture.fields import SpecError
from hotswitch.capture.podspec import spec_from_pod
from hotswitch.capture.spec import CaptureSpec

STDIN = Path("-")
Result = TypeVar("Result")
# What PyYAML's constructors raise depends on the text: !!int "", !!timestamp x, an unhashable key, depth
_UNREADABLE = (yaml.YAMLError, ValueError, TypeError, AttributeError, LookupError, OverflowError, RecursionError)


class FileError(ValueError):
    """A file that cannot be read, or that holds nothing that fits; the message is a sentence for a person."""


@dataclass(frozen=True, slots=True)
class Chosen:
    """`spec`, from the document that `name` says; `others`: how many more there were."""

    spec: CaptureSpec
    name: str
    others: int


def documents(path: Path) -> list[Any]:
    """Every document of the file; lists of Kubernetes' are taken apart. Raises FileError."""
    text = _text(path)
    try:
        found = _parse(text)
    except _UNREADABLE as failure:
        raise FileError(f"{_name(path)}: neither YAML nor JSON: {_line(failure)}") from failure
    if not found:
        raise FileError(f"{_name(path)}: is empty")
    return found


def _text(path: Path) -> str:
    try:
        return sys.stdin.buffer.read().decode() if path == STDIN else path.read_text(encoding="utf-8")
    except (OSError, ValueError) as failure:
        why = failure.strerror if isinstance(failure, OSError) else "not text in UTF-8"
        raise FileError(f"{_name(path)}: cannot be read: {why}") from failure


def _parse(text: str) -> list[Any]:
    try:
        found = [json.loads(text)]
    except (ValueError, RecursionError):
        found = list(yaml.safe_load_all(text))
    return [item for document in found for item in _items(document)]


def _items(document: Any) -> Iterator[Any]:
    kind = document.get("kind") if isinstance(document, dict) else None
    if isinstance(kind, str) and kind.endswith("List") and isinstance(document.get("items"), list):
        yield from document["items"]
    elif document is not None:
        yield document


def _name(path: Path) -> str:
    return "standard input" if path == STDIN else str(path)


def _line(failure: BaseException) -> str:
    return " ".join(str(failure).split())[:200] or type(failure).__name__


def workload(path: Path, read: Callable[[Any], CaptureSpec] = spec_from_pod) -> Chosen:
    """The first document that is a pod or workload with a sidecar, read by `read`. Raises FileError or SpecError: the
    one of the first document that holds a pod, or else of the first of all."""
    return _workload(documents(path), read)


def _workload(found: list[Any], read: Callable[[Any], CaptureSpec]) -> Chosen:
    refusals = []
    for number, document in enumerate(found, 1):
        try:
            return Chosen(read(document), _title(document, number), len(found) - 1)
        except SpecError as refused:
            refusals.append(refused)
    raise next((refused for refused in refusals if refused.field != "manifest"), refusals[0])


def _title(document: Any, number: int) -> str:
    kind, metadata = document.get("kind"), document.get("metadata")
    name = metadata.get("name") if isinstance(metadata, Mapping) else None
    return f"{kind}/{name}" if isinstance(kind, str) and isinstance(name, str) else f"document {number}"


def settings(path: Path) -> CaptureSpec:
    """One object of flags, env and detected. Raises FileError or SpecError."""
    found = documents(path)
    if len(found) > 1:
        raise FileError(f"{_name(path)}: holds {len(found)} documents, one is wanted")
    return effective.read(found[0])


def either(path: Path) -> CaptureSpec:
    """Settings, or the manifest of a pod or workload. Raises FileError or SpecError."""
    found = documents(path)
    if len(found) == 1 and isinstance(found[0], Mapping) and "flags" in found[0]:
        return effective.read(found[0])
    return _workload(found, spec_from_pod).spec
