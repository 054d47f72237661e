"""A cluster's answers, as a person reads them: a line each, fit for grep. Imports nothing of a cluster's client, which
is heavy, before there is an answer: every command passes here."""

from __future__ import annotations

import time
from collections.abc import Iterable
from datetime import datetime
from typing import TYPE_CHECKING, Any

from hotswitch.api import names, override
from hotswitch.api.status import PodStatus, StatusError, decode, shown
from hotswitch.api.values import InvalidValue
from hotswitch.model import OPEN_LEVELS, Direction, Level

if TYPE_CHECKING:
    from hotswitch.cluster.pods import Pod
    from hotswitch.decide.preflight import Preflight
    from hotswitch.decide.preflight.analyze import Analysis
    from hotswitch.decide.preflight.check import Check

HEAD = ("NAMESPACE", "POD", "MODE", "PROXY", "INBOUND", "OUTBOUND", "EXPIRES", "BY", "WHY")


def status_row(pod: Pod, mode: str) -> tuple[str, ...]:
    from hotswitch.observe.podlife import PROXY, told

    status, problem = read_status(pod)
    container = pod.container_status(PROXY)
    proxy = told(container) if container is not None else "unknown"
    levels = status.levels if status else {}
    ways = [shown(levels.get(way, Level.CAPTURE)) for way in Direction]
    why = problem or (f"{status.code} {status.why}" if status and is_open(status) else ordered(pod))
    by = status.by if status and is_open(status) else "-"
    return (pod.metadata.namespace, pod.metadata.name, mode, proxy, *ways, expires_in(status), by, why)


def read_status(pod: Pod) -> tuple[PodStatus | None, str]:
    """The status, or why it cannot be read."""
    text = pod.annotations.get(names.STATUS)
    try:
        return (None, "") if text is None else (decode(text, pod.uid), "")
    except StatusError as failure:
        return None, str(failure)


def ordered(pod: Pod) -> str:
    """An order that stands and has not been carried out, or why it is none."""
    try:
        order = override.read(pod.annotations, time.time())
    except override.Ended:
        return ""
    except InvalidValue as invalid:
        return str(invalid)
    return "" if order is None else f"ordered {pod.annotations[names.OVERRIDE]} by {order.by}: {order.reason}"


def is_past_proxy(pod: Pod) -> bool:
    """Whether new flows pass the proxy by, in a direction at least."""
    status, _ = read_status(pod)
    return status is not None and any(level in OPEN_LEVELS for level in status.levels.values())


def leader_line(spec: dict[str, Any]) -> str:
    """Of a Lease's spec. Its renewal is by the holder's clock, and judged by ours: good enough for people."""
    holder, renewed = spec.get("holderIdentity") or "", spec.get("renewTime") or ""
    if not holder or not renewed:
        return "leader: none: it gave the lease away; another takes it at once, where one runs"
    age_s = time.time() - datetime.fromisoformat(renewed).timestamp()
    told = f"{holder}, term {spec.get('leaseTransitions', 0)}"
    if age_s > float(spec.get("leaseDurationSeconds") or 0):
        return f"leader: none: {told}, has not renewed its lease for {age_s:.0f}s; nothing is done"
    return f"leader: {told}"


def status_json(rows: list[tuple[str, ...]], notes: list[str]) -> dict[str, Any]:
    """Columns by their names in small letters; `notes`: as below the table."""
    head = [name.lower() for name in HEAD]
    return {"pods": [dict(zip(head, row, strict=True)) for row in rows], "notes": notes}


def is_open(status: PodStatus) -> bool:
    return any(level is not Level.CAPTURE for level in status.levels.values())


def expires_in(status: PodStatus | None) -> str:
    if status is None or not status.expires:
        return "-"
    left_s = datetime.fromisoformat(status.expires).timestamp() - time.time()
    return f"{left_s:.0f}s" if left_s > 0 else "over"


def table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> list[str]:
    """Columns as wide as they must be; the last one as long as it is."""
    every = [head, *rows]
    widths = [max(len(row[at]) for row in every) for at in range(len(head) - 1)]
    return [
        "  ".join([*(cell.ljust(width) for cell, width in zip(row, widths, strict=False)), row[-1]]).rstrip()
        for row in every
    ]


def finding_lines(checked: Preflight) -> list[str]:
    return [
        f"{each.verdict:<8} {each.code} {each.direction}"
        + (f" port {each.port}" if each.port else "")
        + (f" {each.level}" if each.level else "")
        + f": {each.sentence}"
        + (f" [{each.object}]" if each.object else "")
        for each in checked.findings
    ]


def analysis_lines(found: Analysis, invalid: list[str]) -> list[str]:
    usable = (f"{way} {level}: {count} of {found.pods} pods" for (way, level), count in sorted(found.usable.items()))
    lines = [*(f"invalid  {each}" for each in invalid), *(f"usable   {each}" for each in usable)]
    for each in found.concerns:
        levels = f" {', '.join(sorted(each.levels))}" if each.levels else ""
        lines.append(f"{each.verdict:<8} {each.code} {each.direction}{levels}: {each.sentence}")
        lines += [f"    because of {each.object}"] if each.object is not None else []
        more = " ..." if len(each.workloads) > 5 else ""
        lines.append(f"    {each.pods} pod{'s' * (each.pods != 1)}: {', '.join(each.workloads[:5])}{more}")
    return lines or ["nothing was found"]


def analysis_json(found: Analysis, invalid: list[str]) -> dict[str, Any]:
    return {
        "invalid": invalid,
        "pods": found.pods,
        "usable": {f"{way} {level}": count for (way, level), count in found.usable.items()},
        "concerns": [
            {
                "code": str(each.code),
                "verdict": str(each.verdict),
                "direction": str(each.direction),
                "levels": sorted(each.levels),
                "object": str(each.object) if each.object is not None else None,
                "sentence": each.sentence,
                "pods": each.pods,
                "workloads": list(each.workloads),
            }
            for each in found.concerns
        ],
    }


def check_lines(checks: tuple[Check, ...]) -> list[str]:
    return [
        f"{each.state.upper():<5} {each.name}: {each.sentence}" + (f" -> {each.remedy}" if each.remedy else "")
        for each in checks
    ]


def history_lines(found: list[dict[str, Any]]) -> list[str]:
    lines = [
        f"{each['at']}  {each['object']}  [{each['code']}] {each['message']}"
        + (f" (x{each['count']})" if each["count"] > 1 else "")
        for each in found
    ]
    return lines or ["nothing is told of it"]
