"""`hotswitch mesh check`: is this mesh ready for hotswitch, and how far could it go? Looks, asks, changes nothing."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterable
from typing import Any

from hotswitch.cli.cluster_read import analysis
from hotswitch.cluster.client import Cluster
from hotswitch.cluster.failure import ApiFailure
from hotswitch.cluster.kinds import CONFIGMAPS, DAEMONSETS, NAMESPACES, PODS, Kind
from hotswitch.cluster.pods import manifest
from hotswitch.config.meshpod import read_pod
from hotswitch.controller.settings import SYSTEM_NAMESPACE
from hotswitch.controller.snapshot import Snapshot
from hotswitch.decide.preflight.check import ACT_RIGHTS, TIER_RIGHTS, Check, Estate
from hotswitch.decide.preflight.check import check as judge
from hotswitch.observe.podlife import workload

CONTROLLER = f"system:serviceaccount:{SYSTEM_NAMESPACE}:hotswitch-controller"
POD_SECURITY = "pod-security.kubernetes.io/enforce"
REVIEWS = Kind("authorization.k8s.io", "v1", "subjectaccessreviews", "SubjectAccessReview", namespaced=False)
_GROUPS = {"endpointslices": "discovery.k8s.io", "leases": "coordination.k8s.io"}


async def look(cluster: Cluster, root: str) -> tuple[Check, ...]:
    """Raises ApiFailure when pods cannot be listed; everything else that cannot be seen is said as such."""
    snapshot = await Snapshot(cluster, root).read()
    namespaces = [] if str(NAMESPACES) in snapshot.unread else await cluster.list(NAMESPACES)
    pods = []
    for pod in snapshot.picture.pods.values():
        with contextlib.suppress(ApiFailure):
            pods.append(read_pod(await manifest(cluster, pod), workload(pod)))
    modes = [snapshot.picture.effective(pod).policy.mode for pod in snapshot.picture.pods.values()]
    return judge(
        Estate(
            kubernetes=await _version(cluster),
            istiod=await _istiods(cluster, root),
            cni=await _cni(cluster),
            rewrite_probes=await _rewrites(cluster, root),
            pods=tuple(pods),
            opted_in=sum(mode == "auto" for mode in modes),
            pod_security=_pod_security(namespaces),
            rights=await _rights(cluster),
            analysis=await analysis(snapshot),
        )
    )


async def _version(cluster: Cluster) -> str:
    with contextlib.suppress(ApiFailure):
        return str(json.loads(await cluster.request("GET", "/version"))["gitVersion"]).removeprefix("v")
    return ""


async def _istiods(cluster: Cluster, root: str) -> tuple[str, ...] | None:
    try:
        pods = list(await cluster.list(PODS, root, label_selector="app=istiod"))
    except ApiFailure:
        return None
    images = {each["spec"]["containers"][0].get("image", "") for each in pods}
    return tuple(sorted(image.rpartition(":")[2].split("-")[0] for image in images))


async def _cni(cluster: Cluster) -> bool | None:
    try:
        return bool(list(await cluster.list(DAEMONSETS, label_selector="k8s-app=istio-cni-node")))
    except ApiFailure:
        return None


async def _rewrites(cluster: Cluster, root: str) -> bool | None:
    try:
        content = await cluster.get(CONFIGMAPS, root, "istio-sidecar-injector")
        values = json.loads(content["data"]["values"])
        return bool(values.get("sidecarInjectorWebhook", {}).get("rewriteAppHTTPProbe", True))
    except (ApiFailure, KeyError, ValueError):
        return None


def _pod_security(namespaces: Iterable[dict[str, Any]]) -> dict[str, str]:
    labels = {each["metadata"]["name"]: each["metadata"].get("labels") or {} for each in namespaces}
    return {name: found[POD_SECURITY] for name, found in labels.items() if POD_SECURITY in found}


async def _rights(cluster: Cluster) -> dict[str, bool]:
    """Of the controller's account; empty when who asks may not ask that."""
    wanted = {right for rights in (*TIER_RIGHTS.values(), *ACT_RIGHTS.values()) for right in rights}
    found: dict[str, bool] = {}
    for right in sorted(wanted):
        verb, _, resource = right.partition(" ")
        with contextlib.suppress(ApiFailure):
            found[right] = await _may(cluster, verb, *resource.split("/"))
    return found


async def _may(cluster: Cluster, verb: str, resource: str, sub: str = "") -> bool:
    attributes = {"verb": verb, "resource": resource, "subresource": sub, "group": _GROUPS.get(resource, "")}
    if resource == "leases":
        attributes |= {"namespace": SYSTEM_NAMESPACE, "name": "hotswitch-controller"}
    spec = {"user": CONTROLLER, "groups": ["system:serviceaccounts"], "resourceAttributes": attributes}
    body = {"apiVersion": REVIEWS.api_version, "kind": REVIEWS.kind, "spec": spec}
    answer = json.loads(await cluster.request("POST", REVIEWS.path(), body=body))
    return bool(answer["status"].get("allowed"))
