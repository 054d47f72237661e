"""A cluster's answers, as a person reads them: a line each, fit for grep. Imports nothing of a cluster's client, which
is heavy, before there is an answer: every command passes here."""

from __future__ import annotations

import time
from collections.abc import Iterable
from datetime import datetime
from typing import TYPE_CHECKING, Any

from hotswitch.api import names
from hotswitch.api.status import PodStatus, StatusError, decode, shown
from hotswitch.model import Direction, Level

if TYPE_CHECKING:
    from hotswitch.cluster.pods import Pod
    from hotswitch.decide.preflight import Preflight
    from hotswitch.decide.preflight.analyze import Analysis
    from hotswitch.decide.preflight.check import Check

HEAD = ("NAMESPACE", "POD", "MODE", "PROXY", "INBOUND", "OUTBOUND", "EXPIRES", "BY", "WHY")


def status_row(pod: Pod, mode: str) -> tuple[str, ...]:
    from hotswitch.controller.seen import PROXY, told

    status, problem = read_status(pod)
    container = pod.container_status(PROXY)
    proxy = told(container) if container is not None else "unknown"
    levels = status.levels if status else {}
    ways = [shown(levels.get(way, Level.CAPTURE)) for way in Direction]
    why = problem or (f"{status.code} {status.why}" if status and is_open(status) else "")
    by = status.by if status and is_open(status) else "-"
    return (pod.metadata.namespace, pod.metadata.name, mode, proxy, *ways, expires_in(status), by, why)


def read_status(pod: Pod) -> tuple[PodStatus | None, str]:
    """The status, or why it cannot be read."""
    text = pod.annotations.get(names.STATUS)
    try:
        return (None, "") if text is None else (decode(text, pod.uid), "")
    except StatusError as failure:
        return None, str(failure)


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
        "  ".join([*(cell.ljust(width) for cell, width in zip(row, widths, strict=False)), row[-1]]) for row in every
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
        lines.append(
            f"    {each.pods} pods: {', '.join(each.workloads[:5])}{' ...' if len(each.workloads) > 5 else ''}"
        )
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
