"""Who serves, for people and as JSON: table, tree, notes and history of what cluster_endpoints has read (S0, I8)."""

from __future__ import annotations

from typing import Any

from hotswitch.backends import Backend, Role
from hotswitch.cli import cluster_adopt as adopting
from hotswitch.cli.cluster_endpoints import Shown, is_kubelets, may_serve, role_of

HEAD = (
    "NAMESPACE", "SERVICE", "MODE", "POD", "ROLE", "GEN", "AVAILABLE", "PUBLISHED", "ADDRESS", "NODE", "ZONE", "NOTE",
)  # fmt: skip


def rows(services: list[Shown]) -> list[tuple[str, ...]]:
    return [_row(each, backend) for each in services for backend in each.backends]


def _row(one: Shown, backend: Backend) -> tuple[str, ...]:
    role = role_of(one, backend)
    generation = str(one.memory.generation) if one.memory is not None and role is Role.ACTIVE else "-"
    return (
        one.record.id.namespace,
        one.record.id.name,
        one.mode,
        backend.pod.name,
        str(role),
        generation,
        _available(one, backend),
        "ready" if backend.pod.uid in one.published else "-",
        ",".join(backend.addresses),
        backend.locality.node or "-",
        backend.locality.zone or "-",
        _note(backend),
    )


def _available(one: Shown, backend: Backend) -> str:
    if may_serve(one, backend):
        return "yes"
    return "no" if is_kubelets(one) else f"({one.record.options.check.kind})"


def _note(backend: Backend) -> str:
    words = [str(backend.rotation)] if backend.rotation != "in" else []
    words += ["deleted"] if backend.terminating else []
    words += [f"proxy {backend.inbound}"] if backend.bypassed else []
    return ", ".join(words) or "-"


def notes(services: list[Shown]) -> list[str]:
    """What is to be said of a Service as a whole."""
    found = []
    for each in services:
        if each.unread:
            found.append(f"{each.record.id}: {each.unread}")
        if each.taken is not None:
            found.append(f"{each.record.id}: {adopting.sentence(each.taken, each.backends)}")
        if each.record.options.paused:
            found.append(f"{each.record.id}: promoting is paused")
        if each.memory is not None and each.memory.fencing is not None:
            found.append(f"{each.record.id}: {each.memory.fencing.name or each.memory.fencing.uid} is to be fenced")
    return found


def tree(services: list[Shown]) -> list[str]:
    """Service, zone, node, pod: who is near whom."""
    lines = []
    for each in services:
        lines.append(f"{each.record.id} ({each.mode})")
        places: dict[tuple[str, str], list[Backend]] = {}
        for backend in each.backends:
            places.setdefault((backend.locality.zone or "-", backend.locality.node or "-"), []).append(backend)
        zone = None
        for (own, node), backends in sorted(places.items()):
            lines += [f"  zone {own}"] if own != zone else []
            zone = own
            lines.append(f"    node {node}")
            lines += [f"      {' '.join(_leaf(each, backend))}" for backend in backends]
    return lines


def _leaf(one: Shown, backend: Backend) -> list[str]:
    role = role_of(one, backend)
    ready = "ready" if backend.pod.uid in one.published else "not ready"
    return [backend.pod.name, ",".join(backend.addresses), *([] if role is Role.NONE else [str(role)]), ready]


def history(one: Shown) -> list[str]:
    if one.taken is not None:
        return [f"{each.at}  {each.what}  {each.sentence}" for each in one.taken.history]
    if one.memory is None:
        return []
    return [f"{each.at}  gen {each.generation}  {each.what}  {each.sentence}" for each in one.memory.history]


def as_json(services: list[Shown]) -> list[dict[str, Any]]:
    keys = [word.lower() for word in HEAD]
    return [
        {
            "service": str(each.record.id),
            "mode": each.mode,
            "generation": each.memory.generation if each.memory else None,
            "paused": each.record.options.paused,
            "backends": [dict(zip(keys, _row(each, backend), strict=True)) for backend in each.backends],
            "history": history(each),
        }
        for each in services
    ]
