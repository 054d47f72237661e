"""What is known of a pod's drill, and writing it into the pod, fenced by uid and version (I6)."""

from __future__ import annotations

import time
from dataclasses import dataclass

import msgspec

from hotswitch.api import names
from hotswitch.api.drills import Drilled, DrillRecord, Told, text_of
from hotswitch.api.values import instant_unix_s, shown_instant
from hotswitch.cluster.client import Cluster
from hotswitch.cluster.failure import ApiFailure
from hotswitch.cluster.kinds import PODS
from hotswitch.cluster.pods import Pod
from hotswitch.controller.writer import Stale
from hotswitch.decide.grants import Holder
from hotswitch.model import PodRef

BEYOND_S = 60.0  # after a drill's own time: one trial before it, and ten seconds for the proxy after it


@dataclass(frozen=True, slots=True)
class UnderWay:
    """`holder`: the process of an agent that this leader has ordered it from."""

    pod: PodRef
    record: DrillRecord
    holder: Holder | None

    @property
    def overdue(self) -> bool:
        return time.time() > instant_unix_s(self.record.at) + self.record.for_s + BEYOND_S


async def write(cluster: Cluster, pod: Pod, record: DrillRecord) -> None:
    """By the subresource that the controller may patch. Raises Stale when the pod is not what it was, ApiFailure."""
    metadata = {
        "uid": pod.uid,
        "resourceVersion": pod.metadata.resource_version,
        "annotations": {names.DRILLED: text_of(record)},
    }
    try:
        await cluster.patch_strategic(PODS, pod.metadata.namespace, pod.metadata.name, {"metadata": metadata}, "status")
    except ApiFailure as failure:
        if failure.is_missing or failure.is_conflict:
            raise Stale(f"{pod.metadata.namespace}/{pod.metadata.name}: {failure}") from failure
        raise


def begun(uid: str, before: DrillRecord | None, said: Told, term: int, *, heeded: str = "") -> DrillRecord:
    """`heeded`: the person's order that this answers; "": a turn, after which the one before it is still heeded."""
    return DrillRecord(
        uid=uid,
        id=said.id,
        at=shown_instant(time.time()),
        for_s=said.for_s,
        by=said.by,
        term=term,
        ran=before.ran if before is not None else "",
        passed=before.passed if before is not None else "",
        heeded=heeded or (before.heeded if before is not None else ""),
    )


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
