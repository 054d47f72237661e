"""`hotswitch mesh drill WORKLOAD`: an order for one of its pods, as an annotation that the leader reads (S4.4, I8)."""

from __future__ import annotations

import asyncio
import getpass
import secrets
import time
from collections.abc import Sequence

import msgspec

from hotswitch.api import names
from hotswitch.api.drills import START_WITHIN_S, DrillOrder, DrillRecord, read_record, text_of
from hotswitch.api.values import instant_unix_s, shown_instant
from hotswitch.cli import cluster_show as show
from hotswitch.cluster.client import MERGE, Cluster
from hotswitch.cluster.kinds import PODS
from hotswitch.cluster.pods import Pod, manifest
from hotswitch.config.meshpod import read_pod
from hotswitch.controller.snapshot import NotFound, Snapshot
from hotswitch.decide.drill import Candidate, canary
from hotswitch.decide.preflight import preflight
from hotswitch.model import Level, Mode
from hotswitch.observe.podlife import reference, workload

BEYOND_S = 90.0  # a drill is told, or given up, within this after its own time
LOOK_S = 0.5


async def order(
    cluster: Cluster, root: str, name: str, namespace: str, for_s: float, dry_run: bool, wait: bool
) -> tuple[list[str], bool]:
    """What is said, and whether all is well. Raises ApiFailure, NotFound."""
    place = name.split("/")[0] if name.count("/") == 2 or (name.count("/") == 1 and not _is_kind(name)) else namespace
    snapshot = await Snapshot(cluster, root).read(place)
    pods = _meant(snapshot, name, place)
    asked = [Candidate(reference(pod), await _refusal(snapshot, pod), _ran_s(pod)) for pod in pods]
    lines = [
        f"  {each.pod.name}: {each.refusal or 'could be drilled, as far as can be told from here'}" for each in asked
    ]
    chosen = canary(asked)
    if chosen is None:
        return [f"nobody of {name} would be drilled now:", *lines], False
    if dry_run:
        return [f"would order a drill of {chosen.pod}, {for_s:g} s:", *lines], True
    said = DrillOrder(id=secrets.token_hex(8), at=shown_instant(time.time()), for_s=for_s, by=getpass.getuser())
    body = {"metadata": {"uid": chosen.pod.uid, "annotations": {names.DRILL_ORDER: text_of(said)}}}
    path = PODS.path(chosen.pod.namespace, chosen.pod.name)
    await cluster.request("PATCH", path, body=body, content_type=MERGE)
    if not wait:
        return [f"ordered for {chosen.pod}; see `kubectl hotswitch history`"], True
    record = await _heard(cluster, chosen.pod.namespace, chosen.pod.name, said)
    return _told(str(chosen.pod), record), record is not None and record.result == "passed"


def _is_kind(name: str) -> bool:
    return name.partition("/")[0] in ("deploy", "statefulset", "daemonset", "replicaset", "job", "pod")


def _meant(snapshot: Snapshot, name: str, namespace: str) -> list[Pod]:
    """Of a workload, like shop/deploy/web or deploy/web; else one pod. Raises NotFound."""
    own = name.removeprefix(f"{namespace}/")
    pods = snapshot.picture.pods.values()
    found = [pod for pod in pods if pod.metadata.namespace == namespace and workload(pod) == own]
    if not found and "/" in own:
        raise NotFound(f"workload {own!r}: no pod with a sidecar of it in {namespace}")
    return sorted(found or [snapshot.pod(name, namespace)], key=lambda pod: pod.key)


async def _refusal(snapshot: Snapshot, pod: Pod) -> str:
    """What can be known from here; the leader, and the agent beside the pod, judge the rest."""
    effective = snapshot.picture.effective(pod)
    if effective.policy.mode is not Mode.AUTO:
        return f"the mode is {effective.policy.mode}: nothing is opened here"
    left = preflight(
        snapshot.picture.mesh, read_pod(await manifest(snapshot.cluster, pod), workload(pod)), effective.accepted
    ).limit(effective.policy)
    if Level.RESCUE not in left.inbound:
        return "what the settings and the preflight leave does not list the rescue inbound"
    if show.is_past_proxy(pod):
        return "it is bypassed"
    record = read_record(pod.annotations, pod.uid)
    young = record is not None and time.time() - instant_unix_s(record.at) < START_WITHIN_S
    return "a drill of it is under way" if record is not None and record.under_way and young else ""


def _ran_s(pod: Pod) -> float | None:
    record = read_record(pod.annotations, pod.uid)
    return instant_unix_s(record.ran) if record is not None and record.ran else None


async def _heard(cluster: Cluster, namespace: str, name: str, said: DrillOrder) -> DrillRecord | None:
    """What the leader wrote of it; None: nobody did in time."""
    deadline_s = asyncio.get_running_loop().time() + said.for_s + BEYOND_S
    while asyncio.get_running_loop().time() < deadline_s:
        pod = msgspec.convert(await cluster.get(PODS, namespace, name), Pod)
        record = read_record(pod.annotations, pod.uid)
        if record is not None and record.id == said.id and not record.under_way:
            return record
        await asyncio.sleep(LOOK_S)
    return None


def _told(pod: str, record: DrillRecord | None) -> list[str]:
    if record is None:
        return [f"{pod}: nobody told what became of the order: does a controller lead?"]
    took: Sequence[tuple[str, float | None]] = (("opening", record.open_ms), ("restoring", record.restore_ms))
    figures = [f"{what} took {each:.1f} ms" for what, each in took if each is not None]
    requests = [f"{record.served} requests served, {record.lost} lost"] if record.served or record.lost else []
    return [f"{pod}: {record.result.upper()}: {record.why}", *(f"  {line}" for line in [*requests, *figures])]
