"""Orders of a person, as annotations on the pod (api.override): written with the person's own rights (S4.6, I4)."""

from __future__ import annotations

import getpass
import time
from collections.abc import Mapping
from dataclasses import dataclass

from hotswitch.api import names, override
from hotswitch.cluster.client import MERGE, Cluster
from hotswitch.cluster.kinds import PODS
from hotswitch.cluster.pods import Pod, manifest
from hotswitch.config.merged import Effective
from hotswitch.config.meshpod import read_pod
from hotswitch.controller.snapshot import Snapshot, where
from hotswitch.decide.preflight import Preflight, preflight
from hotswitch.model import OPEN_LEVELS, Direction, Level, Mode
from hotswitch.observe.podlife import workload


class Refused(ValueError):
    """Nothing of the order would be carried out; the message says why."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """`for_s` 0 with CAPTURE: the order that stands is taken back."""

    level: Level
    direction: Direction | None
    for_s: float
    reason: str
    accept: frozenset[str]


async def give(cluster: Cluster, root: str, name: str, namespace: str, wanted: Wanted, dry_run: bool) -> list[str]:
    """What was, or would be, ordered, and what stands in its way. Raises ApiFailure, NotFound, InvalidValue; Refused
    when nothing of it would be done, as far as can be told with the rights of who asks."""
    snapshot = await Snapshot(cluster, root).read(where(name, namespace))
    pod = snapshot.pod(name, namespace)
    annotations = annotations_of(wanted, pod.annotations)
    lines = [f"  {key}: {'(removed)' if value is None else value}" for key, value in annotations.items()]
    if wanted.level in OPEN_LEVELS:
        lines += await _in_the_way(snapshot, pod, wanted)
    if not annotations:
        return ["nothing is ordered"]
    if dry_run:
        return ["would write:", *lines]
    body = {"metadata": {"uid": pod.uid, "annotations": annotations}}
    await cluster.request("PATCH", PODS.path(*pod.key), body=body, content_type=MERGE)
    return [f"ordered for {pod.metadata.namespace}/{pod.metadata.name}; see `kubectl hotswitch status`", *lines]


def annotations_of(wanted: Wanted, known: Mapping[str, str]) -> dict[str, str | None]:
    """What is to be changed of the annotations that are `known`; None: removed. Raises InvalidValue."""
    return {key: value for key, value in _said(wanted).items() if value != known.get(key)}


def _said(wanted: Wanted) -> dict[str, str | None]:
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
    """What the settings and the preflight would refuse: an order changes nothing about that. Raises Refused."""
    if snapshot.unread:
        unread = ", ".join(snapshot.unread)
        return [f"not judged here: you may not read {unread}; the controller judges it, `kubectl hotswitch history`"]
    effective = snapshot.picture.effective(pod)
    content = await manifest(snapshot.cluster, pod)
    accepted = effective.accepts(wanted.accept)
    checked = preflight(snapshot.picture.mesh, read_pod(content, workload(pod)), accepted)
    if effective.policy.mode is not Mode.AUTO:
        raise Refused(f"mode is {effective.policy.mode}, so nothing would be done; see `kubectl hotswitch explain`")
    ways = tuple(Direction) if wanted.direction is None else (wanted.direction,)
    refused = {way: why for way in ways if (why := _refusal(effective, checked, way, wanted.level))}
    if len(refused) == len(ways):
        raise Refused("; ".join(refused.values()))
    found = [f"refused: {why}" for why in refused.values()]
    unknown = wanted.accept - effective.accepted_by_order - effective.accepted
    found += [
        f"--accept {code}: no policy of the root namespace lets an order accept it here" for code in sorted(unknown)
    ]
    return found


def _refusal(effective: Effective, checked: Preflight, way: Direction, level: Level) -> str:
    """Why this level will not be used in this direction; "" when nothing here speaks against it."""
    listed = effective.policy.inbound if way is Direction.INBOUND else effective.policy.outbound
    if level not in listed:
        return f"{way} {level}: the settings do not list it (see `kubectl hotswitch explain`)"
    if checked.allows(way, level):
        return ""
    return f"{way} {level}: " + "; ".join(f"{each.code} {each.sentence}" for each in checked.refusals(way, level))
