"""`make bench`, or `python -m bench [--quick] [--only ROW]...`: measures, prints tables (markdown), keeps JSON.

The exit code says whether everything could be measured, never how fast it was.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from bench import machine
from bench.figures import Goal, Row, Table
from bench.rows import (
    agents,
    beside,
    clean,
    controller,
    cycles,
    endpoints,
    expiry,
    failover,
    fast,
    faults,
    flip,
    restore,
    scale,
    scale_node,
)
from bench.settings import FULL, QUICK, Settings

ROWS = (
    faults, fast, restore, cycles, expiry, flip, clean, scale, scale_node, controller, agents, endpoints, failover,
    beside,
)  # fmt: skip
NAMES = tuple(name for module in ROWS for name in module.NAMES)
RESULTS = Path(__file__).with_name("results")


def arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer rounds: about 4 minutes instead of about 20")
    parser.add_argument(
        "--only", action="append", choices=NAMES, metavar="ROW", help=f"one of {', '.join(NAMES)}; repeatable"
    )
    parser.add_argument("--load", type=float, default=1.0, help="multiply every rate; below 1 for a slow machine")
    parser.add_argument(
        "--toggle-minutes", type=float, metavar="M", help="row restore: for how long; 20 are a million requests"
    )
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder for the JSON file")
    return parser.parse_args(argv)


def say(line: str) -> None:
    """Progress goes to standard error, so that standard output is a report."""
    print(f"{time.strftime('%H:%M:%S')} {line}", file=sys.stderr, flush=True)


def show(row: Row) -> None:
    print(f"\n## {row.name}: {row.title}\n")
    for table in row.tables:
        print(f"{table}\n")
    for remark in row.remarks:
        print(f"- {remark}")
    sys.stdout.flush()


def goals_table(goals: Sequence[Goal]) -> Table:
    words = {True: "met", False: "**missed**", None: "not measured"}
    lines = ((goal.text, goal.limit, goal.measured, words[goal.met]) for goal in goals)
    return Table(("goal", "limit measured before", "hotswitch here", "met"), tuple(lines))


async def measure(wanted: Sequence[str], settings: Settings) -> tuple[list[Row], list[str]]:
    """All rows, and sentences on those that could not be measured."""
    rows: list[Row] = []
    failures: list[str] = []
    for module in ROWS:
        names = [name for name in module.NAMES if name in wanted]
        if not names:
            continue
        try:
            async for row in module.run(names, settings, say):
                show(row)
                rows.append(row)
        except (OSError, RuntimeError, TimeoutError) as failure:
            missing = [name for name in names if name not in {row.name for row in rows}]
            failures.append(f"{', '.join(missing)}: {type(failure).__name__}: {failure}")
            say(failures[-1])
    return rows, failures


def save(folder: Path, setup: dict[str, str], rows: Sequence[Row], failures: Sequence[str]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}.json"
    content = {"machine": setup, "rows": [row.as_json() for row in rows], "failures": list(failures)}
    path.write_text(json.dumps(content, indent=1))
    return path


def main(argv: Sequence[str] | None = None) -> int:
    chosen = arguments(argv)
    setup = machine.describe()
    print(f"# hotswitch bench, {'quick' if chosen.quick else 'full'}\n")
    print("\n".join(f"- {name}: {value}" for name, value in setup.items()))
    started_s = time.monotonic()
    settings = replace(QUICK if chosen.quick else FULL, load=chosen.load)
    if chosen.toggle_minutes is not None:
        settings = replace(settings, toggles_s=60 * chosen.toggle_minutes)
    rows, failures = asyncio.run(measure(chosen.only or NAMES, settings))
    setup["load average at the end"] = ", ".join(f"{load:.1f}" for load in os.getloadavg())
    print(f"\n## goals\n\n{goals_table([goal for row in rows for goal in row.goals])}")
    path = save(chosen.results, setup, rows, failures)
    print(f"\n{time.monotonic() - started_s:.0f} s; all values: {path}")
    for failure in failures:
        print(f"could not be measured: {failure}")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
