"""`kubectl hotswitch endpoints` and its verbs: who serves, and a person's word on it, as annotations (S0, I4, I8).

The table is reckoned here from what the API has, with the caller's own rights; whom the election has chosen stands in
its Lease, or, for those who may not read that, in the pods' notes.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from hotswitch.api import service as said
from hotswitch.api.adopt import ADOPT, ADOPT_AGAIN
from hotswitch.api.values import InvalidValue, shown_instant
from hotswitch.backends import Backend, BackendId, Role, ServiceId, ServiceMode, ServiceRecord
from hotswitch.cli import cluster_adopt as adopting
from hotswitch.cli.cluster_adopt import Taken
from hotswitch.cluster.client import MERGE, Cluster
from hotswitch.cluster.failure import ApiFailure
from hotswitch.cluster.kinds import ENDPOINTSLICES, LEASES, NODES, PODS, SERVICES
from hotswitch.cluster.pods import Pod
from hotswitch.controller.settings import SYSTEM_NAMESPACE
from hotswitch.controller.snapshot import NotFound
from hotswitch.decide.endpoints.adopt import Phase
from hotswitch.decide.endpoints.availability import is_available
from hotswitch.endpoints import assemble, cluster_states, memory, objects
from hotswitch.endpoints.labels import recalled
from hotswitch.endpoints.memory import Memory, MemoryUnreadable
from hotswitch.endpoints.slicing import SERVICE_NAME

HEAD = (
    "NAMESPACE", "SERVICE", "MODE", "POD", "ROLE", "GEN", "AVAILABLE", "PUBLISHED", "ADDRESS", "NODE", "ZONE", "NOTE",
)  # fmt: skip


class Refused(ValueError):
    """The order would not be carried out; the message says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """One Service. `published`: uids of pods that slices call ready. `memory` None: the Lease cannot be read, `unread`
    says why. `taken`: of an ordinary one that may be taken over."""

    record: ServiceRecord
    backends: tuple[Backend, ...]
    published: frozenset[str]
    memory: Memory | None
    active: BackendId | None
    unread: str = ""
    taken: Taken | None = None

    @property
    def mode(self) -> str:
        return str(self.record.mode) if self.taken is None else f"adopt: {self.taken.phase}"


async def shown(cluster: Cluster, name: str, namespace: str | None) -> list[Shown]:
    """All Services of ours, or the one of this name. Raises ApiFailure, NotFound."""
    place, _, own = name.rpartition("/")
    found = []
    for content in await cluster.list(SERVICES, place or namespace):
        read = _converted(content, objects.Service)
        try:
            record = assemble.service(read)
        except InvalidValue:
            if own and read.metadata.name == own:
                raise
            continue
        if record is not None and own in ("", record.id.name):
            found.append(await _one(cluster, record))
        elif (taken := await adopting.shown(cluster, read, own)) is not None:
            found.append(await _one(cluster, taken.record, taken))
    if own and not found:
        raise NotFound(f"no Service {name} with the annotation {said.MODE} or {ADOPT}")
    return found


async def _one(cluster: Cluster, record: ServiceRecord, taken: Taken | None = None) -> Shown:
    selector = ",".join(f"{key}={text}" for key, text in sorted(record.selector.items()))
    pods = [_converted(each, Pod) for each in await cluster.list(PODS, record.id.namespace, label_selector=selector)]
    nodes = await _nodes(cluster)
    made = [_backend(record, pod, nodes.get(pod.spec.node_name)) for pod in pods]
    remembered, unread = await _memory(cluster, record)
    active = remembered.active.id if remembered is not None and remembered.active else None
    if remembered is None:
        active = recalled(record.id, pods, None).fencing  # the pod that the newest note calls active
    return Shown(
        record=record,
        backends=tuple(each for each in made if each is not None),
        published=await _published(cluster, record.id),
        memory=remembered,
        active=active,
        unread=unread,
        taken=taken,
    )


def _backend(record: ServiceRecord, pod: Pod, node: objects.Node | None) -> Backend | None:
    try:
        return assemble.backend(record, pod, node, assemble.Place())
    except InvalidValue:
        return assemble.careful(record, pod, node, assemble.Place())


async def _nodes(cluster: Cluster) -> dict[str, objects.Node]:
    try:
        return {each["metadata"]["name"]: _converted(each, objects.Node) for each in await cluster.list(NODES)}
    except ApiFailure as failure:
        if failure.is_refused:
            return {}  # zones are a nicety
        raise


async def _memory(cluster: Cluster, record: ServiceRecord) -> tuple[Memory | None, str]:
    if record.mode is not ServiceMode.ACTIVE_STANDBY:
        return None, ""
    try:
        return memory.read(await cluster.get(LEASES, SYSTEM_NAMESPACE, memory.lease_name(record.id))), ""
    except MemoryUnreadable as failure:
        return None, str(failure)
    except ApiFailure as failure:
        return None, "no election yet" if failure.is_missing else f"the election cannot be read: {failure.message}"


async def _published(cluster: Cluster, service: ServiceId) -> frozenset[str]:
    found = set()
    for content in await cluster.list(
        ENDPOINTSLICES, service.namespace, label_selector=f"{SERVICE_NAME}={service.name}"
    ):
        for endpoint in content.get("endpoints") or ():
            if (endpoint.get("conditions") or {}).get("ready"):
                found.add(str((endpoint.get("targetRef") or {}).get("uid", "")))
    return frozenset(found)


async def shown_with_clusters(cluster: Cluster, name: str, namespace: str | None) -> tuple[list[Shown], list[str]]:
    """And a line for each further cluster. Raises as `shown`."""
    return await shown(cluster, name, namespace), await _clusters(cluster)


async def _clusters(cluster: Cluster) -> list[str]:
    try:
        written, found = cluster_states.read(await cluster.get(LEASES, SYSTEM_NAMESPACE, cluster_states.LEASE))
    except ValueError as unreadable:
        return [str(unreadable)]
    except ApiFailure as failure:  # most have no further clusters, and many may not read Leases
        return [] if failure.is_missing or failure.is_refused else [f"further clusters: {failure}"]
    return [f"{each.sentence} (as of {written})" for each in found]


# ---- lines ----


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


def role_of(one: Shown, backend: Backend) -> Role:
    if one.record.mode is not ServiceMode.ACTIVE_STANDBY:
        return Role.NONE
    return Role.ACTIVE if backend.id == one.active else Role.STANDBY


def may_serve(one: Shown, backend: Backend) -> bool:
    """Checks of the controller's own cannot be seen from here: with one, the slices tell."""
    if _is_kubelets(one):
        return is_available(backend, one.record.options)
    return backend.pod.uid in one.published


def _is_kubelets(one: Shown) -> bool:
    return str(one.record.options.check.kind) == "kubelet"


def _available(one: Shown, backend: Backend) -> str:
    if may_serve(one, backend):
        return "yes"
    return "no" if _is_kubelets(one) else f"({one.record.options.check.kind})"


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


# ---- orders ----


async def switchover(cluster: Cluster, name: str, namespace: str, to: str, dry_run: bool) -> list[str]:
    """Raises ApiFailure, NotFound, Refused."""
    one = await _active_standby(cluster, name, namespace)
    target = next((each for each in one.backends if each.pod.name == to), None)
    if target is None:
        raise Refused(f"no pod of {one.record.id} is called {to}")
    if target.id == one.active:
        raise Refused(f"{to} is the active one already")
    if str(one.record.options.check.kind) == "kubelet" and not is_available(target, one.record.options):
        raise Refused(f"{to} is not available")
    at = shown_instant(_after(one.memory, time.time()))
    return await _annotate(cluster, one.record, {said.SWITCHOVER: f"{to}@{at}"}, dry_run)


def _after(known: Memory | None, now_unix_s: float) -> float:
    """Later than the last order, whatever clock that was given by, or it would be taken for carried out."""
    return now_unix_s if known is None else max(now_unix_s, known.handled_unix_s + 1.0)


async def pause(cluster: Cluster, name: str, namespace: str, paused: bool, dry_run: bool) -> list[str]:
    """Raises ApiFailure, NotFound, Refused."""
    one = await _active_standby(cluster, name, namespace)
    if one.record.options.paused == paused:
        return [f"{one.record.id} is {'paused' if paused else 'not paused'} already"]
    return await _annotate(cluster, one.record, {said.PAUSED: "true" if paused else None}, dry_run)


async def adopt(cluster: Cluster, root: str, name: str, namespace: str, again: bool, dry_run: bool) -> list[str]:
    """How it stands, and what would be done next; `again`: tell hotswitch to try once more. Raises ApiFailure,
    NotFound, Refused."""
    place, _, own = name.rpartition("/")
    (one, *_) = await shown(cluster, f"{place or namespace}/{own}", None)
    if one.taken is None:
        raise Refused(f"{one.record.id} is of mode {one.record.mode}: it is hotswitch's already")
    if not again:
        return [*notes([one]), await adopting.next_step(cluster, root, one.taken, one.backends), *history(one)]
    if one.taken.phase is not Phase.YIELDED:
        raise Refused(
            f"{one.record.id} is {one.taken.phase}: nobody has taken it back, so there is nothing to try again"
        )
    return await _annotate(cluster, one.record, {ADOPT_AGAIN: shown_instant(time.time())}, dry_run)


async def drain(cluster: Cluster, pod: str, namespace: str, undo: bool, dry_run: bool) -> list[str]:
    """Raises ApiFailure."""
    place, _, name = pod.rpartition("/")
    content = await cluster.get(PODS, place or namespace, name)
    uid = content["metadata"]["uid"]
    words = {said.ROTATION: None if undo else "draining"}
    body = {"metadata": {"uid": uid, "annotations": words}}
    return await _patch(cluster, PODS.path(place or namespace, name), f"{place or namespace}/{name}", body, dry_run)


async def _active_standby(cluster: Cluster, name: str, namespace: str) -> Shown:
    place, _, own = name.rpartition("/")
    (one, *_) = await shown(cluster, f"{place or namespace}/{own}", None)
    if one.record.mode is not ServiceMode.ACTIVE_STANDBY:
        raise Refused(f"{one.record.id} is of mode {one.record.mode}: nobody is active in it")
    return one


async def _annotate(
    cluster: Cluster, record: ServiceRecord, words: Mapping[str, str | None], dry_run: bool
) -> list[str]:
    body = {"metadata": {"uid": record.uid, "annotations": dict(words)}}
    return await _patch(cluster, SERVICES.path(*record.id), str(record.id), body, dry_run)


async def _patch(cluster: Cluster, path: str, what: str, body: dict[str, Any], dry_run: bool) -> list[str]:
    words = body["metadata"]["annotations"]
    lines = [f"  {key}: {'(removed)' if text is None else text}" for key, text in words.items()]
    if dry_run:
        return [f"would write on {what}:", *lines]
    await cluster.request("PATCH", path, body=body, content_type=MERGE)
    return [f"ordered for {what}; see `kubectl hotswitch endpoints`", *lines]


def _converted(content: Mapping[str, Any], kind: Any) -> Any:
    return msgspec.convert(content, kind, strict=False)
