"""Writing what is known of a pod's drills into the pod, fenced by uid and version (I6)."""

from __future__ import annotations

import time

import msgspec

from hotswitch.api import names
from hotswitch.api.drills import Drilled, DrillRecord, text_of
from hotswitch.api.values import shown_instant
from hotswitch.cluster.client import STRATEGIC, Cluster
from hotswitch.cluster.failure import ApiFailure
from hotswitch.cluster.kinds import PODS
from hotswitch.cluster.pods import Pod
from hotswitch.controller.writer import Stale


async def write(cluster: Cluster, pod: Pod, record: DrillRecord) -> None:
    """By the subresource that the controller may patch. Raises Stale when the pod is not what it was, ApiFailure."""
    metadata = {
        "uid": pod.uid,
        "resourceVersion": pod.metadata.resource_version,
        "annotations": {names.DRILLED: text_of(record)},
    }
    path = PODS.path(pod.metadata.namespace, pod.metadata.name, "status")
    try:
        await cluster.request("PATCH", path, body={"metadata": metadata}, content_type=STRATEGIC)
    except ApiFailure as failure:
        if failure.is_missing or failure.is_conflict:
            raise Stale(f"{pod.metadata.namespace}/{pod.metadata.name}: {failure}") from failure
        raise


def ended(record: DrillRecord, drilled: Drilled) -> DrillRecord:
    """One that was refused says nothing about the rescue: the next turn comes as if it had not been."""
    now, took = shown_instant(time.time()), drilled.durations_s
    return msgspec.structs.replace(
        record,
        result=drilled.result,
        why=drilled.why[:512],
        ended=now,
        served=drilled.served,
        lost=drilled.lost,
        open_ms=round(took["open"] * 1000, 3) if "open" in took else None,
        restore_ms=round(took["restore"] * 1000, 3) if "restore" in took else None,
        ran=record.ran if drilled.result == "refused" else now,
        passed=now if drilled.result == "passed" else record.passed,
    )
