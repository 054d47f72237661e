"""A person's word on who serves, as annotations: written with the person's own rights (S0, I4)."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from hotswitch.api import service as said
from hotswitch.api.adopt import ADOPT_AGAIN
from hotswitch.api.values import shown_instant
from hotswitch.backends import ServiceMode, ServiceRecord
from hotswitch.cli import cluster_adopt as adopting
from hotswitch.cli.cluster_endpoints import Refused, Shown, is_kubelets, shown_one
from hotswitch.cli.cluster_endpoints_show import history, notes
from hotswitch.cluster.client import MERGE, Cluster
from hotswitch.cluster.kinds import PODS, SERVICES
from hotswitch.decide.endpoints.adopt import Phase
from hotswitch.decide.endpoints.availability import is_available
from hotswitch.endpoints.memory import Memory


async def switchover(cluster: Cluster, name: str, namespace: str, to: str, dry_run: bool) -> list[str]:
    """Raises ApiFailure, NotFound, Refused."""
    one = await _active_standby(cluster, name, namespace)
    target = next((each for each in one.backends if each.pod.name == to), None)
    if target is None:
        raise Refused(f"no pod of {one.record.id} is called {to}")
    if target.id == one.active:
        raise Refused(f"{to} is the active one already")
    if is_kubelets(one) and not is_available(target, one.record.options):
        raise Refused(f"{to} is not available")
    at = shown_instant(_after(one.memory, time.time()))
    return await _annotate(cluster, one.record, {said.SWITCHOVER: f"{to}@{at}"}, dry_run)


def _after(known: Memory | None, now_unix_s: float) -> float:
    """Later than the last order, whatever clock that was given by, or it would be taken for carried out."""
    return now_unix_s if known is None else max(now_unix_s, known.handled_unix_s + 1.0)


async def pause(cluster: Cluster, name: str, namespace: str, paused: bool, dry_run: bool) -> list[str]:
    """Raises ApiFailure, NotFound, Refused."""
    one = await _active_standby(cluster, name, namespace)
    if one.record.options.paused == paused:
        return [f"{one.record.id} is {'paused' if paused else 'not paused'} already"]
    return await _annotate(cluster, one.record, {said.PAUSED: "true" if paused else None}, dry_run)


async def adopt(cluster: Cluster, root: str, name: str, namespace: str, again: bool, dry_run: bool) -> list[str]:
    """How it stands, and what would be done next; `again`: tell hotswitch to try once more. Raises ApiFailure,
    NotFound, Refused."""
    one = await shown_one(cluster, name, namespace)
    if one.taken is None:
        raise Refused(f"{one.record.id} is of mode {one.record.mode}: it is hotswitch's already")
    if not again:
        return [*notes([one]), await adopting.next_step(cluster, root, one.taken, one.backends), *history(one)]
    if one.taken.phase is not Phase.YIELDED:
        raise Refused(
            f"{one.record.id} is {one.taken.phase}: nobody has taken it back, so there is nothing to try again"
        )
    return await _annotate(cluster, one.record, {ADOPT_AGAIN: shown_instant(time.time())}, dry_run)


async def drain(cluster: Cluster, pod: str, namespace: str, undo: bool, dry_run: bool) -> list[str]:
    """Raises ApiFailure."""
    place, _, name = pod.rpartition("/")
    content = await cluster.get(PODS, place or namespace, name)
    uid = content["metadata"]["uid"]
    words = {said.ROTATION: None if undo else "draining"}
    body = {"metadata": {"uid": uid, "annotations": words}}
    return await _patch(cluster, PODS.path(place or namespace, name), f"{place or namespace}/{name}", body, dry_run)


async def _active_standby(cluster: Cluster, name: str, namespace: str) -> Shown:
    one = await shown_one(cluster, name, namespace)
    if one.record.mode is not ServiceMode.ACTIVE_STANDBY:
        raise Refused(f"{one.record.id} is of mode {one.record.mode}: nobody is active in it")
    return one


async def _annotate(
    cluster: Cluster, record: ServiceRecord, words: Mapping[str, str | None], dry_run: bool
) -> list[str]:
    body = {"metadata": {"uid": record.uid, "annotations": dict(words)}}
    return await _patch(cluster, SERVICES.path(*record.id), str(record.id), body, dry_run)


async def _patch(cluster: Cluster, path: str, what: str, body: dict[str, Any], dry_run: bool) -> list[str]:
    words = body["metadata"]["annotations"]
    lines = [f"  {key}: {'(removed)' if text is None else text}" for key, text in words.items()]
    if dry_run:
        return [f"would write on {what}:", *lines]
    await cluster.request("PATCH", path, body=body, content_type=MERGE)
    return [f"ordered for {what}; see `kubectl hotswitch endpoints`", *lines]
