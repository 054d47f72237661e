"""Answers, as a person reads them: plain text, a line each, fit for grep; a refusal is one sentence and exit code 1."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import typer

SHOWN = {"rescue": "RESCUED", "direct": "DIRECT", "hold": "HELD", "capture": "captured"}


def fail(message: str) -> typer.Exit:
    typer.echo(f"hotswitch: {message}", err=True)
    return typer.Exit(1)


def status_lines(pods: Iterable[dict[str, Any]]) -> list[str]:
    rows = [("POD", "MODE", "PROXY", "INBOUND", "OUTBOUND", "EXPIRES", "RESCUE", "PROBES", "SEEN")]
    for pod in pods:
        levels = pod["levels"]
        expires = "-" if pod["expires_in_s"] is None else f"{pod['expires_in_s']:.0f}s"
        rescue = _rescue(pod) if pod["rescue"] == "ready" else "no"
        probes = {"answers": "STAND-IN", "ready": "ready"}.get(pod["stand_in"], "-")
        seen = pod["sentence"] if pod["gate"] == "ready" else f"{pod['sentence']}; gate: {pod['gate']}"
        inbound, outbound = SHOWN[levels["inbound"]], SHOWN[levels["outbound"]]
        rows.append((pod["pod"], pod["mode"], pod["fault"], inbound, outbound, expires, rescue, probes, seen))
    widths = [max(len(row[at]) for row in rows) for at in range(len(rows[0]) - 1)]
    return [
        "  ".join([*(cell.ljust(width) for cell, width in zip(row, widths, strict=False)), row[-1]]) for row in rows
    ]


def _rescue(pod: dict[str, Any]) -> str:
    """With the way by which it came to its identity, where that is not the usual one."""
    way = pod.get("identity", "")
    return f"ready ({way})" if way not in ("", "sds") else "ready"


def plan_lines(acts: Iterable[dict[str, str]], nothing: str = "nothing") -> list[str]:
    lines = []
    for act in acts:
        lines.append(f"{act['act']} [{act['code']}] {act['why']}")
        if act["commands"] != act["why"]:
            lines += [f"    {line}" for line in act["commands"].splitlines()]
    return lines or [nothing]


def drill_lines(answer: dict[str, Any]) -> list[str]:
    if "dry_run" in answer:
        return [f"would not be drilled now: {answer['refusal']}" if answer["refusal"] else "would be drilled"]
    took = "".join(f", {name} {each * 1000:.1f} ms" for name, each in answer["durations_s"].items())
    return [
        f"{answer['pod']}: {answer['result'].upper()}: {answer['why']}",
        f"    {answer['served']} requests through the rescue, {answer['lost']} lost{took}",
    ]


def evidence_lines(answer: dict[str, Any]) -> list[str]:
    lines = [f"below {answer['directory']}:"]
    for kept in answer["kept"]:
        lines.append(f"{kept['name']}  {kept['pod']}  {kept['fault']}")
        lines += [f"    {size:>9}  {name}" for name, size in kept["files"].items()]
    return lines if answer["kept"] else ["nothing was kept"]


def history_lines(entries: Iterable[dict[str, Any]]) -> list[str]:
    return [_history_line(entry) for entry in entries]


def _history_line(entry: dict[str, Any]) -> str:
    parts = [entry["at"], entry["pod"], entry["event"].upper()]
    if entry.get("code"):
        parts.append(f"[{entry['code']}] gen={entry.get('generation', 0)}")
    if entry.get("rules_after"):
        parts.append(f"{entry.get('rules_before', '')} -> {entry['rules_after']}")
    durations = ", ".join(f"{name} {value:g}" for name, value in entry.get("durations_ms", {}).items())
    if durations:
        parts.append(f"({durations})")
    parts.append(f"by {entry.get('who', 'agent')}")
    parts.append((entry.get("failed") and f"FAILED: {entry['failed']}") or entry.get("why", ""))
    return " ".join(part for part in parts if part)
