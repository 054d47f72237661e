"""Whose a pod is: Deployments with their ReplicaSets, StatefulSets, Jobs. Objects only; nobody makes pods of them."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

from hotswitch.cluster.client import Cluster
from hotswitch.cluster.failure import ApiFailure
from hotswitch.cluster.kinds import DEPLOYMENTS, REPLICASETS, STATEFULSETS, Kind
from hotswitch.sandbox.cluster.manifest import APP_IMAGE

JOBS = Kind("batch", "v1", "jobs", "Job")
_KINDS = {"deploy": DEPLOYMENTS, "statefulset": STATEFULSETS, "job": JOBS}
Reference = dict[str, Any]


async def make(cluster: Cluster, namespace: str, workload: str, labels: Mapping[str, str]) -> Reference:
    """The owner reference for a pod of this workload ("deploy/web"); its objects are made unless they are there.
    Raises ApiFailure; KeyError for another kind of workload."""
    word, _, name = workload.rpartition("/")
    kind = _KINDS[word or "deploy"]
    owner = await _made(cluster, kind, namespace, name, _body(kind, name, labels))
    if kind is DEPLOYMENTS:
        revision = hashlib.sha256(name.encode()).hexdigest()[:9]
        body = _body(REPLICASETS, f"{name}-{revision}", {**labels, "pod-template-hash": revision})
        body["metadata"]["ownerReferences"] = [_reference(kind, owner)]
        return _reference(REPLICASETS, await _made(cluster, REPLICASETS, namespace, f"{name}-{revision}", body))
    return _reference(kind, owner)


def hash_label(owner: Reference) -> dict[str, str]:
    """What a Deployment's pods carry beside their template's labels: by it their Deployment is told from its name."""
    if owner["kind"] != REPLICASETS.kind:
        return {}
    return {"pod-template-hash": str(owner["name"]).rpartition("-")[2]}


async def _made(cluster: Cluster, kind: Kind, namespace: str, name: str, body: Reference) -> Reference:
    try:
        return await cluster.create(kind, namespace, body)
    except ApiFailure as failure:
        if not failure.is_taken:
            raise
    return await cluster.get(kind, namespace, name)


def _body(kind: Kind, name: str, labels: Mapping[str, str]) -> Reference:
    template: Reference = {
        "metadata": {"labels": dict(labels)},
        "spec": {"containers": [{"name": "app", "image": APP_IMAGE}]},
    }
    if kind is JOBS:
        template["spec"]["restartPolicy"] = "Never"
        return {"metadata": {"name": name}, "spec": {"template": template}}
    spec: Reference = {"replicas": 1, "selector": {"matchLabels": dict(labels)}, "template": template}
    if kind is STATEFULSETS:
        spec["serviceName"] = name
    return {"metadata": {"name": name, "labels": dict(labels)}, "spec": spec}


def _reference(kind: Kind, owner: Reference) -> Reference:
    return {
        "apiVersion": kind.api_version,
        "kind": kind.kind,
        "name": owner["metadata"]["name"],
        "uid": owner["metadata"]["uid"],
        "controller": True,
        "blockOwnerDeletion": True,
    }
