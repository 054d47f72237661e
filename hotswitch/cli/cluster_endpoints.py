"""Who serves, read for `kubectl hotswitch endpoints` and its verbs (S0, I8).

It is reckoned here from what the API has, with the caller's own rights; whom the election has chosen stands in its
Lease, or, for those who may not read that, in the pods' notes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from hotswitch.api import service as said
from hotswitch.api.adopt import ADOPT
from hotswitch.api.values import InvalidValue
from hotswitch.backends import Backend, BackendId, Role, ServiceId, ServiceMode, ServiceRecord
from hotswitch.cli import cluster_adopt as adopting
from hotswitch.cli.cluster_adopt import Taken
from hotswitch.cluster.client import Cluster
from hotswitch.cluster.failure import ApiFailure
from hotswitch.cluster.kinds import ENDPOINTSLICES, LEASES, NODES, PODS, SERVICES
from hotswitch.cluster.pods import Pod
from hotswitch.controller.settings import SYSTEM_NAMESPACE
from hotswitch.controller.snapshot import NotFound
from hotswitch.decide.endpoints.availability import is_available
from hotswitch.endpoints import assemble, cluster_states, memory, objects
from hotswitch.endpoints.labels import recalled
from hotswitch.endpoints.memory import Memory, MemoryUnreadable
from hotswitch.endpoints.slicing import SERVICE_NAME


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


async def shown_one(cluster: Cluster, name: str, namespace: str) -> Shown:
    """`namespace`: where the name says none. Raises as `shown`."""
    place, _, own = name.rpartition("/")
    (one, *_) = await shown(cluster, f"{place or namespace}/{own}", None)
    return one


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


def role_of(one: Shown, backend: Backend) -> Role:
    if one.record.mode is not ServiceMode.ACTIVE_STANDBY:
        return Role.NONE
    return Role.ACTIVE if backend.id == one.active else Role.STANDBY


def may_serve(one: Shown, backend: Backend) -> bool:
    """Checks of the controller's own cannot be seen from here: with one, the slices tell."""
    if is_kubelets(one):
        return is_available(backend, one.record.options)
    return backend.pod.uid in one.published


def is_kubelets(one: Shown) -> bool:
    return str(one.record.options.check.kind) == "kubelet"


def _converted(content: Mapping[str, Any], kind: Any) -> Any:
    return msgspec.convert(content, kind, strict=False)
