"""What taking a Service over reads and writes of it in the API, a request at a time (I6).

Everything is read from the API server itself and not from a watch, for what is removed by it cannot be brought back. A
Service is written only as the version and the uid that were looked at, and nothing of it but its selector and the one
annotation; of others' objects only slices that the EndpointSlice controller would make again, and the Endpoints object
that would be mirrored into new ones (facts: both go on being served when a Service loses its selector); not one that
somebody has written by hand.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from hotswitch.api.adopt import ADOPTED, kept_selector, shown_selector
from hotswitch.api.values import InvalidValue
from hotswitch.backends import Published, Role, ServiceId
from hotswitch.cluster.client import Cluster
from hotswitch.cluster.failure import ApiFailure
from hotswitch.cluster.kinds import ENDPOINTS, ENDPOINTSLICES, PODS, SERVICES, Kind
from hotswitch.endpoints import managers
from hotswitch.endpoints.slicing import MANAGED_BY, MANAGER, SERVICE_NAME, is_ours

KUBERNETES = "endpointslice-controller.k8s.io"
CONTROLLER_MANAGER = "kube-controller-manager"  # as it calls itself in managedFields
Object = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """A Service. `selector`: empty when it has none. `kept`: the selector that stands in the annotation; None: it is
    not marked. `owners`: managedFields less our own entries; empty where the selector is not ours."""

    id: ServiceId
    uid: str
    version: str
    selector: Mapping[str, str]
    families: tuple[str, ...]
    kept: Mapping[str, str] | None
    owners: tuple[Object, ...] = ()


@dataclass(frozen=True, slots=True)
class Leftover:
    """The Service's Endpoints object. `writers`: who wrote its addresses, by field manager."""

    uid: str
    writers: frozenset[str]

    def is_of(self, known: Iterable[str]) -> bool:
        """Nobody has written it but who did so while the Service had its selector: Kubernetes."""
        return self.writers <= (frozenset(known) or {CONTROLLER_MANAGER})


@dataclass(frozen=True, slots=True)
class Slices:
    """`ours`: all that carry our managed-by label; `theirs`: those that the EndpointSlice controller makes; `applied`:
    names of ours that a GitOps tool says what they are to be: they are the tool's."""

    ours: tuple[Object, ...] = ()
    theirs: tuple[Object, ...] = ()
    applied: tuple[str, ...] = ()

    def covers(self, addresses: frozenset[str]) -> bool:
        """There is one of theirs, so that somebody makes them, and they call all of these ready."""
        return bool(self.theirs) and addresses <= ready(self.theirs)

    def hold(self, published: Published) -> bool:
        """Ours call ready all that they are to call ready, in the words of this leadership."""
        families, term = published.service.families, published.service.labels.get(ADOPTED)
        wanted = {
            address
            for each in published.endpoints
            for family in families
            if each.conditions.ready and each.backend.role is not Role.STANDBY
            if (address := each.backend.address(family)) is not None
        }
        own = [each for each in self.ours if (each["metadata"].get("labels") or {}).get(ADOPTED) == term]
        return bool(own) and wanted <= ready(own)


def ready(slices: Iterable[Mapping[str, Any]]) -> frozenset[str]:
    """Addresses."""
    return frozenset(
        each["addresses"][0]
        for content in slices
        for each in content.get("endpoints") or ()
        if each["conditions"].get("ready", True)
    )


class Hands:
    """Every method raises ApiFailure."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster

    # ---- looking ----

    async def service(self, service: ServiceId) -> Seen | None:
        """None: it is not there. While it is going it serves (a load balancer may take minutes to be given back)."""
        try:
            content = await self._cluster.get(SERVICES, *service)
        except ApiFailure as failure:
            if failure.is_missing:
                return None
            raise
        metadata, spec = content["metadata"], content.get("spec") or {}
        return Seen(
            id=service,
            uid=metadata["uid"],
            version=metadata["resourceVersion"],
            selector=spec.get("selector") or {},
            families=tuple(spec.get("ipFamilies") or ("IPv4",)),
            kept=_kept(metadata.get("annotations") or {}),
            owners=tuple(managers.without_us(content)) if managers.has_selector(content) else (),
        )

    async def slices(self, service: ServiceId) -> Slices:
        found = await self._cluster.list(
            ENDPOINTSLICES, service.namespace, label_selector=f"{SERVICE_NAME}={service.name}"
        )
        own = _of(found, MANAGER)
        applied = tuple(sorted(each["metadata"]["name"] for each in own if not is_ours(each)))
        return Slices(tuple(filter(is_ours, own)), _of(found, KUBERNETES), applied)

    async def leftover(self, service: ServiceId) -> Leftover | None:
        try:
            found = await self._cluster.get(ENDPOINTS, *service)
        except ApiFailure as failure:
            if failure.is_missing:
                return None
            raise
        return Leftover(str(found["metadata"]["uid"]), managers.writers(found))

    async def ready_pods(self, seen: Seen) -> frozenset[str]:
        """Addresses, of the families of the Service, of the pods that its selector chooses now and Kubernetes calls
        ready."""
        selector = shown_selector(seen.selector)
        pods = await self._cluster.list(PODS, seen.id.namespace, label_selector=selector)
        found = frozenset(address for pod in pods if _is_ready(pod) for address in _addresses(pod))
        return frozenset(each for each in found if _family(each) in seen.families)

    # ---- doing ----

    async def remove_selector(self, seen: Seen) -> None:
        """It and the annotation change in one write, so that the Service itself always has it in one of the two."""
        await self._patch(seen, {ADOPTED: shown_selector(seen.selector)}, None)

    async def mark(self, seen: Seen, selector: Mapping[str, str]) -> None:
        """The annotation anew, where somebody has removed it: only what stands in it may be put back."""
        await self._patch(seen, {ADOPTED: shown_selector(selector)}, None)

    async def fence(self, seen: Seen) -> None:
        """Only its mark: what somebody is still about to write of the version that was looked at is refused then."""
        await self._patch(seen, {ADOPTED: shown_selector(seen.selector)}, dict(seen.selector))

    async def restore_selector(self, seen: Seen, selector: Mapping[str, str]) -> None:
        """Where somebody else has put one back, that one stays."""
        await self._patch(seen, {ADOPTED: None}, dict(seen.selector or selector))

    async def release(self, seen: Seen) -> None:
        """The selector is there, and nobody's: who applies it the next time has no conflict with us."""
        metadata = {"uid": seen.uid, "resourceVersion": seen.version, "managedFields": list(seen.owners)}
        await self._cluster.patch_merge(SERVICES, *seen.id, {"metadata": metadata})

    async def _patch(self, seen: Seen, words: Mapping[str, str | None], selector: Mapping[str, str] | None) -> None:
        metadata = {"uid": seen.uid, "resourceVersion": seen.version, "annotations": dict(words)}
        body = {"metadata": metadata, "spec": {"selector": selector}}
        await self._cluster.patch_merge(SERVICES, *seen.id, body)

    async def clear(self, seen: Seen, slices: Slices, leftover: Leftover | None) -> None:
        """In the versions that were looked at: with the selector back, Kubernetes goes on with what is there."""
        for each in slices.theirs:
            await self._remove(seen.id.namespace, each)
        if leftover is not None:
            await self._delete(ENDPOINTS, seen.id.namespace, seen.id.name, leftover.uid)

    async def retire(self, service: ServiceId, slices: Slices) -> None:
        """In the version that was looked at: a later leader has written its own."""
        for each in slices.ours:
            await self._remove(service.namespace, each)

    async def _remove(self, namespace: str, content: Object) -> None:
        metadata = content["metadata"]
        await self._delete(ENDPOINTSLICES, namespace, metadata["name"], metadata["uid"], metadata["resourceVersion"])

    async def _delete(self, kind: Kind, namespace: str, name: str, uid: str, version: str | None = None) -> None:
        try:
            await self._cluster.delete(kind, namespace, name, uid=uid, version=version)
        except ApiFailure as failure:
            if not (failure.is_missing or failure.is_conflict):
                raise


def _of(slices: Iterable[Object], manager: str) -> tuple[Object, ...]:
    return tuple(each for each in slices if (each["metadata"].get("labels") or {}).get(MANAGED_BY) == manager)


def _kept(annotations: Mapping[str, str]) -> Mapping[str, str] | None:
    """What somebody has spoilt is marked all the same; the record has the selector, too."""
    try:
        return kept_selector(annotations)
    except InvalidValue:
        return {}


def _addresses(pod: Mapping[str, Any]) -> tuple[str, ...]:
    status = pod["status"]
    return tuple(each["ip"] for each in status.get("podIPs") or ()) or (status["podIP"],)


def _family(address: str) -> str:
    return "IPv6" if ":" in address else "IPv4"


def _is_ready(pod: Mapping[str, Any]) -> bool:
    status = pod.get("status") or {}
    conditions = status.get("conditions") or ()
    is_ready = any(each["type"] == "Ready" and each.get("status") == "True" for each in conditions)
    ends = "deletionTimestamp" in pod["metadata"] or status.get("phase") in ("Succeeded", "Failed")
    return is_ready and not ends and bool(status.get("podIP"))
