"""The EndpointSlices that a pod is in, and touching them so that istiod reads the pod's label again (S4.3).

While a pod is not Ready, istiod drops the event of a changed label and reads it at the next event of a slice; an
annotation that changes is such an event, and nothing else of a slice is ever written here. Sources: facts on istiod's
endpoints (pod.go, endpointslice.go).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from hotswitch.act.steps import StepFailed, again, step_failed
from hotswitch.api.names import TOUCHED
from hotswitch.cluster.client import Cluster
from hotswitch.cluster.failure import ApiFailure
from hotswitch.cluster.kinds import ENDPOINTSLICES, SERVICES
from hotswitch.model import PodRef, Port

SERVICE_LABEL = "kubernetes.io/service-name"
TRIES = 4  # a slice's patch, when others write it at the same time
Object = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Slice:
    """`touched`: the annotation as it was read."""

    name: str
    uid: str
    service: str
    touched: str = ""


def holding(slices: Iterable[Object], pod: PodRef) -> Iterator[Slice]:
    """Those of Services that have this very pod among their endpoints, ready or not."""
    for each in slices:
        metadata = each.get("metadata") or {}
        service = (metadata.get("labels") or {}).get(SERVICE_LABEL)
        targets = ((endpoint.get("targetRef") or {}) for endpoint in each.get("endpoints") or ())
        if service and any(target.get("uid") == pod.uid for target in targets):
            touched = (metadata.get("annotations") or {}).get(TOUCHED, "")
            yield Slice(str(metadata["name"]), str(metadata.get("uid", "")), str(service), str(touched))


async def of_pod(cluster: Cluster, pod: PodRef) -> tuple[Slice, ...]:
    """Raises StepFailed."""
    try:
        return tuple(holding(await again(lambda: cluster.list(ENDPOINTSLICES, pod.namespace)), pod))
    except ApiFailure as failure:
        right = f"list endpointslices.discovery.k8s.io in namespace {pod.namespace}"
        raise step_failed(f"the EndpointSlices of {pod.namespace} cannot be read", right, failure) from failure


async def touch(cluster: Cluster, pod: PodRef, mark: str) -> None:
    """Change the annotation of every slice that holds the pod. Raises StepFailed at the first that cannot be written;
    touching again does no harm."""
    for _ in range(TRIES):
        slices = [each for each in await of_pod(cluster, pod) if each.touched != mark]
        if all([await _touched(cluster, pod, each, mark) for each in slices]):
            return
    raise StepFailed(f"the EndpointSlices of {pod} cannot be touched: they change all the time")


async def _touched(cluster: Cluster, pod: PodRef, found: Slice, mark: str) -> bool:
    """False: it is gone, or was written by others in the same moment: look again."""
    patch = {"metadata": {"uid": found.uid, "annotations": {TOUCHED: mark}}}
    try:
        await again(partial(cluster.patch_merge, ENDPOINTSLICES, pod.namespace, found.name, patch))
    except ApiFailure as failure:
        if failure.is_missing or failure.is_conflict:
            return False
        right = f"patch endpointslices.discovery.k8s.io (annotation {TOUCHED}) in namespace {pod.namespace}"
        raise step_failed(f"EndpointSlice {found.name} cannot be touched", right, failure) from failure
    return True


async def are_touched(cluster: Cluster, pod: PodRef, mark: str) -> bool:
    """Raises StepFailed."""
    return all(each.touched == mark for each in await of_pod(cluster, pod))


async def eds_clusters(cluster: Cluster, pod: PodRef, domain: str = "cluster.local") -> tuple[str, ...]:
    """What meshed clients call the Services that have this pod: Envoy's cluster names. Raises StepFailed."""
    found = []
    for service in sorted({each.service for each in await of_pod(cluster, pod)}):
        for port in await _ports(cluster, pod.namespace, service):
            found.append(f"outbound|{port}||{service}.{pod.namespace}.svc.{domain}")
    return tuple(found)


async def _ports(cluster: Cluster, namespace: str, service: str) -> list[Port]:
    try:
        spec = (await again(lambda: cluster.get(SERVICES, namespace, service))).get("spec") or {}
    except ApiFailure as failure:
        if failure.is_missing:
            return []
        right = f"get services in namespace {namespace}"
        raise step_failed(f"Service {service} cannot be read", right, failure) from failure
    return [int(port["port"]) for port in spec.get("ports") or () if port.get("protocol", "TCP") == "TCP"]
