"""Patches of a pod that only hit the pod, and the version of it, that was looked at (I6).

`PATCH pods/status` takes labels and annotations, too, and conditions are merged by their type; so no right to patch
pods is needed. A real API server (1.34) answers a resourceVersion that is not the latest with 409, even if nothing
would change, and another uid with 422 "metadata.uid: field is immutable": `ApiFailure.is_conflict` is both. The name of
a deleted pod is a 404.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hotswitch.cluster.answers import read
from hotswitch.cluster.client import FIELD_MANAGER, STRATEGIC, TIMEOUT_S, Cluster
from hotswitch.cluster.kinds import PODS
from hotswitch.cluster.pods import Pod


def status_patch(
    *,
    uid: str,
    resource_version: str,
    annotations: Mapping[str, str | None] | None = None,
    labels: Mapping[str, str | None] | None = None,
    conditions: tuple[Mapping[str, Any], ...] = (),
) -> dict[str, Any]:
    """A strategic merge patch. A value None takes the key away. `resource_version` "": whichever is the latest."""
    metadata: dict[str, Any] = {"uid": uid}
    metadata |= {"resourceVersion": resource_version} if resource_version else {}
    metadata |= {"annotations": dict(annotations)} if annotations else {}
    metadata |= {"labels": dict(labels)} if labels else {}
    status = {"status": {"conditions": [dict(each) for each in conditions]}} if conditions else {}
    return {"metadata": metadata, **status}


async def patch_pod_status(
    cluster: Cluster, namespace: str, name: str, patch: Mapping[str, Any], *, timeout_s: float = TIMEOUT_S
) -> Pod:
    """The pod as it is after it: its resourceVersion is what the next patch is of. Raises ApiFailure: `is_conflict`
    when it is not that pod or version, `is_lost` when the patch may or may not have been made. Raises ValueError when
    the patch names no uid."""
    if not patch.get("metadata", {}).get("uid"):
        raise ValueError("a patch without a uid would hit whichever pod has the name")
    path = PODS.path(namespace, name, "status")
    raw = await cluster.request("PATCH", path, {"fieldManager": FIELD_MANAGER}, patch, STRATEGIC, timeout_s)
    return read(raw, Pod)
