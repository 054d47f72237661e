"""Orders of a person, as annotations on the pod (api.override): written with the person's own rights (S4.6, I4)."""

from __future__ import annotations

import getpass
import time
from dataclasses import dataclass

from hotswitch.api import names, override
from hotswitch.cluster.client import MERGE, Cluster
from hotswitch.cluster.kinds import PODS
from hotswitch.cluster.pods import Pod, manifest
from hotswitch.config.meshpod import read_pod
from hotswitch.controller.seen import workload
from hotswitch.controller.snapshot import Snapshot
from hotswitch.decide.preflight import preflight
from hotswitch.model import OPEN_LEVELS, Direction, Level


@dataclass(frozen=True, slots=True)
class Wanted:
    """`for_s` 0 with CAPTURE: the order that stands is taken back."""

    level: Level
    direction: Direction | None
    for_s: float
    reason: str
    accept: frozenset[str]


async def give(cluster: Cluster, root: str, name: str, namespace: str, wanted: Wanted, dry_run: bool) -> list[str]:
    """What was, or would be, ordered, and what stands in its way. Raises ApiFailure, NotFound, InvalidValue."""
    snapshot = await Snapshot(cluster, root).read()
    pod = snapshot.pod(name, namespace)
    annotations = _annotations(wanted)
    lines = [f"{key}: {value if value is not None else '(removed)'}" for key, value in annotations.items()]
    if wanted.level in OPEN_LEVELS:
        lines += await _in_the_way(snapshot, pod, wanted)
    if dry_run:
        return ["would write:", *lines]
    body = {"metadata": {"uid": pod.uid, "annotations": annotations}}
    await cluster.request("PATCH", PODS.path(*pod.key), body=body, content_type=MERGE)
    return [f"ordered for {pod.metadata.namespace}/{pod.metadata.name}; see `kubectl hotswitch status`", *lines]


def _annotations(wanted: Wanted) -> dict[str, str | None]:
    if wanted.level is Level.CAPTURE and not wanted.for_s:
        every = (
            names.OVERRIDE, names.OVERRIDE_UNTIL, names.OVERRIDE_DIRECTION, names.OVERRIDE_REASON, names.OVERRIDE_BY,
            names.OVERRIDE_ACCEPT,
        )  # fmt: skip
        return dict.fromkeys(every)
    ways = tuple(Direction) if wanted.direction is None else (wanted.direction,)
    order = override.Order(
        levels=dict.fromkeys(ways, wanted.level),
        until_unix_s=time.time() + wanted.for_s,
        reason=wanted.reason.strip(),
        by=getpass.getuser(),
        accept=wanted.accept,
    )
    annotations = override.write(wanted.level.value, order)
    override.read({key: value for key, value in annotations.items() if value is not None}, time.time())
    return annotations


async def _in_the_way(snapshot: Snapshot, pod: Pod, wanted: Wanted) -> list[str]:
    """What the settings and the preflight would refuse: an order changes nothing about that."""
    effective = snapshot.picture.effective(pod)
    content = await manifest(snapshot.cluster, pod)
    accepted = effective.accepts(wanted.accept)
    checked = preflight(snapshot.picture.mesh, read_pod(content, workload(pod)), accepted)
    found = [f"mode: {effective.policy.mode}, so nothing will be done"] if effective.policy.mode != "auto" else []
    for way in tuple(Direction) if wanted.direction is None else (wanted.direction,):
        listed = effective.policy.inbound if way is Direction.INBOUND else effective.policy.outbound
        if wanted.level not in listed:
            found.append(f"refused: {way} {wanted.level}: the settings do not list it (see `explain`)")
        found += [
            f"refused: {way} {wanted.level}: {each.code} {each.sentence}"
            for each in checked.refusals(way, wanted.level)
        ]
    unknown = wanted.accept - effective.accepted_by_order - effective.accepted
    found += [
        f"--accept {code}: no policy of the root namespace lets an order accept it here" for code in sorted(unknown)
    ]
    return found
