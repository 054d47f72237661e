"""Istio's golden files as test cases: the copy in tests/data, and a fuller set beside the project if there is one."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from hotswitch.capture.options import parse
from hotswitch.capture.spec import Backend, CaptureSpec

_PROJECT = Path(__file__).parents[2]
FOLDERS = [
    folder
    for folder in (_PROJECT / "tests/data/istio-golden", _PROJECT.parent / "shared/istio-golden")
    if folder.is_dir()
]
KINDS = {"iptables": Backend.IPTABLES_NFT, "nftables": Backend.NFTABLES}


@dataclass(frozen=True)
class Case:
    """One configuration and the rules that Istio's own tests expect for it."""

    name: str
    backend: Backend
    argv: tuple[str, ...]
    env: Mapping[str, str]
    detected: Mapping[str, Any]
    rules: str

    def __str__(self) -> str:
        return f"{self.backend}-{self.name}"

    def spec(self, **env: str) -> CaptureSpec:
        servers = [*self.detected["dns_servers_v4"], *self.detected["dns_servers_v6"]]
        ipv6 = self.detected["enable_ipv6"]
        return parse(self.argv, {**self.env, **env}, ipv6=ipv6, dns_servers=servers)


def cases() -> list[Case]:
    found = {}
    for folder in FOLDERS:
        for kind, backend in KINDS.items():
            index = json.loads((folder / kind / "index.json").read_text())
            for name, case in index["cases"].items():
                one = _case(name, backend, case["effective"], (folder / kind / case["golden"]).read_text())
                found[str(one)] = one
    return list(found.values())


def _case(name: str, backend: Backend, effective: Mapping[str, Any], golden: str) -> Case:
    argv = tuple(f"--{option}={_text(value)}" for option, value in effective["flags"].items())
    rules = "".join(f"{line}\n" for line in golden.splitlines() if not line.endswith("tables-save"))
    return Case(name, backend, argv, effective["env"], effective["detected"], rules)


def _text(value: str | bool) -> str:
    return value if isinstance(value, str) else str(value).lower()


def pods() -> dict[str, dict[str, Any]]:
    """Injected workloads by file name."""
    return dict(_pods())


def _pods() -> Iterator[tuple[str, dict[str, Any]]]:
    for folder in FOLDERS:
        for path in sorted((folder / "pods").glob("*.injected")):
            for document in yaml.safe_load_all(path.read_text()):
                if document:
                    yield path.name, document
