"""What the read-only commands for a cluster ask, and how it is put together."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from hotswitch.cli import cluster_show as show
from hotswitch.cluster.client import Cluster
from hotswitch.cluster.failure import ApiFailure
from hotswitch.cluster.kinds import EVENTS, LEASES
from hotswitch.cluster.pods import Pod, manifest
from hotswitch.config import explain as settings
from hotswitch.config.meshpod import read_pod
from hotswitch.controller.settings import LEASE, SYSTEM_NAMESPACE
from hotswitch.controller.snapshot import Snapshot, where
from hotswitch.decide.preflight import Preflight, preflight
from hotswitch.decide.preflight.analyze import Analysis
from hotswitch.decide.preflight.analyze import analyze as summarise
from hotswitch.observe.podlife import workload

REPORTER = "hotswitch"
LIVE_EVERY_S = 1.0


async def status(cluster: Cluster, root: str, namespace: str | None) -> tuple[list[tuple[str, ...]], list[str]]:
    """A row for each pod, and what is to be said of the whole: who leads, how many are open, what could not be read."""
    snapshot = await Snapshot(cluster, root).read(namespace)
    pods = sorted(snapshot.picture.pods.values(), key=lambda pod: pod.key)
    rows = [show.status_row(pod, _mode(snapshot, pod)) for pod in pods]
    unread = [f"unread: {kind}: {why}" for kind, why in snapshot.unread.items()]
    return rows, [await _leader(cluster), _opened(snapshot, pods, namespace), *unread]


def _mode(snapshot: Snapshot, pod: Pod) -> str:
    return str(snapshot.picture.effective(pod).policy.mode) if snapshot.settings_known else "?"


async def _leader(cluster: Cluster) -> str:
    try:
        lease = await cluster.get(LEASES, SYSTEM_NAMESPACE, LEASE)
    except ApiFailure as failure:
        why = "no controller ever led here" if failure.is_missing else failure.message
        return f"leader: {'none' if failure.is_missing else 'unknown'}: {why}"
    return show.leader_line(lease.get("spec") or {})


def _opened(snapshot: Snapshot, pods: Sequence[Pod], namespace: str | None) -> str:
    """Each pod's budget of the mesh is the same; what an order may still take shows here (I3)."""
    opened = sum(show.is_past_proxy(pod) for pod in pods)
    line = f"open: {opened} of {len(pods)} pods"
    if not pods or not snapshot.settings_known or namespace is not None:
        return line
    most = snapshot.picture.effective(pods[0]).budgets.mesh.of(len(pods))
    return f"{line}; the mesh's budget is {most}"


async def live(cluster: Cluster, root: str, namespace: str | None) -> None:
    from rich.live import Live
    from rich.table import Table

    with Live(refresh_per_second=4) as screen:
        rows: list[tuple[str, ...]] = []
        while True:
            try:
                rows, notes = await status(cluster, root, namespace)
            except ApiFailure as failure:
                if not failure.is_lost:
                    raise
                notes = [f"as it was: {failure}"]  # it may come back; who watches wants to see that too
            table = Table(*show.HEAD, caption="\n".join(notes), caption_justify="left")
            for row in rows:
                table.add_row(*row)
            screen.update(table)
            await asyncio.sleep(LIVE_EVERY_S)


async def explain(cluster: Cluster, root: str, name: str, namespace: str) -> list[str]:
    snapshot = await Snapshot(cluster, root).read(where(name, namespace))
    pod = snapshot.pod(name, namespace)
    effective = snapshot.picture.effective(pod)
    checked = await _preflight(snapshot, pod)
    left = checked.limit(effective.policy)
    levels = {"inbound": left.inbound, "outbound": left.outbound}
    return [
        f"{pod.metadata.namespace}/{pod.metadata.name} ({workload(pod)})",
        "",
        *settings.lines(effective),
        "",
        "preflight:",
        *(f"  {line}" for line in show.finding_lines(checked)),
        *(f"  left {way}: {', '.join(map(str, found))}" for way, found in levels.items()),
        *(f"unread: {kind}: {why}" for kind, why in snapshot.unread.items()),
    ]


async def _preflight(snapshot: Snapshot, pod: Pod) -> Preflight:
    content = await manifest(snapshot.cluster, pod)
    accepted = snapshot.picture.effective(pod).accepted
    return preflight(snapshot.picture.mesh, read_pod(content, workload(pod)), accepted)


async def analyze(cluster: Cluster, root: str, namespace: str | None) -> tuple[Analysis, list[str]]:
    """What the preflight finds, and all that users wrote that is not valid."""
    snapshot = await Snapshot(cluster, root).read(namespace)
    found = await analysis(snapshot)
    snapshot.problems |= {str(problem): problem for problem in snapshot.picture.settings.problems()}
    unread = [f"{kind}: {why}" for kind, why in snapshot.unread.items()]
    return found, [*sorted(snapshot.problems), *unread]


async def analysis(snapshot: Snapshot) -> Analysis:
    accepted: dict[str, frozenset[str]] = {}
    pods = []
    for pod in snapshot.picture.pods.values():
        try:
            content = await manifest(snapshot.cluster, pod)
        except ApiFailure as failure:
            if failure.is_missing or failure.is_conflict:
                continue  # it went while we looked
            raise
        seen = read_pod(content, workload(pod))
        accepted[str(seen)] = snapshot.picture.effective(pod).accepted
        pods.append(seen)
    return summarise(snapshot.picture.mesh, pods, lambda pod: accepted[str(pod)])


async def history(cluster: Cluster, name: str, namespace: str | None) -> list[dict[str, Any]]:
    """Events of ours, oldest first."""
    place, _, own = name.rpartition("/")
    found = []
    for each in await cluster.list(EVENTS, place or namespace or None):
        about = each.get("involvedObject") or {}
        ours = str(each.get("reportingComponent") or (each.get("source") or {}).get("component") or "")
        if not ours.startswith(REPORTER) or (own and own not in (about.get("name"), about.get("uid"))):
            continue
        found.append(
            {
                "at": each.get("eventTime") or each.get("lastTimestamp") or each["metadata"].get("creationTimestamp"),
                "object": f"{about.get('kind')} {about.get('namespace', '')}/{about.get('name')}",
                "code": each.get("reason"),
                "count": each.get("count") or (each.get("series") or {}).get("count") or 1,
                "message": each.get("message") or each.get("note") or "",
            }
        )
    return sorted(found, key=lambda event: str(event["at"]))
