"""What is shipped, as the tests look at it: the tiers rendered, and the rules with the words above them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from hotswitch.sandbox.manifests import MANIFESTS, render

TIERS = ("tier-0-observe", "tier-1-rescue", "tier-2-direct", "tier-3-endpoints")
OPT_INS = ("exec", "ephemeral")
CONTROLLER = "hotswitch-controller"
NAMESPACE = "hotswitch-system"
ACCOUNT = f"system:serviceaccount:{NAMESPACE}:{CONTROLLER}"


def tier(name: str) -> list[dict[str, Any]]:
    return render(MANIFESTS / "overlays" / name)


def with_opt_ins(folder: Path, tier_name: str, *components: str) -> Path:
    """Writes a kustomization as a user would, into `folder` (which must be relative to manifests/ by a path)."""
    up = Path("/".join([".."] * len(folder.resolve().parts[1:]))) / str(MANIFESTS).lstrip("/")
    said = {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "resources": [f"{up}/overlays/{tier_name}"],
        "components": [f"{up}/components/{name}" for name in components],
    }
    (folder / "kustomization.yaml").write_text(yaml.safe_dump(said))
    return folder


def rules(objects: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """All rules, those of Roles with their namespace."""
    return [
        rule | {"namespace": obj["metadata"].get("namespace", "")}
        for obj in objects
        if obj["kind"] in ("Role", "ClusterRole")
        for rule in obj["rules"]
    ]


def rights(objects: list[dict[str, Any]]) -> set[tuple[str, str, str, str, str]]:
    """Namespace ("" for everywhere), group, resource, name ("" for all), verb."""
    return {
        (rule["namespace"], group, resource, name, verb)
        for rule in rules(objects)
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for name in rule.get("resourceNames", [""])
        for verb in rule["verbs"]
    }


@dataclass(frozen=True)
class Said:
    """A rule of a file and the comment above it."""

    file: str
    line: int
    comment: str


def files() -> list[Path]:
    """All that are written by hand; the chart is made of them."""
    return sorted(path for path in MANIFESTS.rglob("*.yaml") if "chart" not in path.relative_to(MANIFESTS).parts)


def said() -> Iterator[Said]:
    for path in files():
        lines = path.read_text().splitlines()
        for number, line in enumerate(lines):
            if re.match(r"  - apiGroups:", line) and "rules:" in lines[:number]:
                yield Said(str(path.relative_to(MANIFESTS)), number + 1, _above(lines, number))


def _above(lines: list[str], number: int) -> str:
    words: list[str] = []
    for line in reversed(lines[:number]):
        if not line.strip().startswith("#"):
            break
        words.insert(0, line.strip().removeprefix("#").strip())
    return " ".join(words)
