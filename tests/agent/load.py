"""How many requests a second this machine can carry at the moment, so that a test fails for a switch and not for load.

1,000 are wanted (one fresh connection each, through a sidecar); where that makes queues, half of it, and so on.
The rate that was used is said at the end of the session.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable

from hotswitch.sandbox.clients import LoadRun
from hotswitch.sandbox.outcome import Row
from tests.agent.keeper import until

WANTED_RATE, LEAST_RATE = 1000.0, 62.5
TRY_S = 0.8
QUEUES_S = 0.03  # an answer later than this: the machine is full
used: list[float] = []
"""Rates found in this session."""


async def find_rate(start: Callable[[float, float], LoadRun]) -> float:
    """`start(rate, seconds)` begins a load. Raises AssertionError when even the least rate makes queues."""
    rate = WANTED_RATE
    while rate >= LEAST_RATE:
        results = await start(rate, TRY_S).results()
        if all(row.kind.ok and row.end_s - row.start_s < QUEUES_S for row in results.rows[-len(results.rows) // 2 :]):
            used.append(rate)
            return rate
        rate /= 2
    raise AssertionError(f"this machine does not carry {LEAST_RATE:g} requests/s at the moment")


@contextlib.asynccontextmanager
async def ending(*runs: LoadRun) -> AsyncIterator[tuple[LoadRun, ...]]:
    """Loads that stop with the block, also when it fails: what goes on would spoil the next test."""
    try:
        yield runs
    finally:
        for run in runs:
            run.stop()


async def flows(run: LoadRun, count: int) -> None:
    """So many requests more have been sent."""
    wanted = run.sent + count
    await until(lambda: run.sent >= wanted, lambda: f"{run.sent} of {wanted} requests were sent")


def lost(rows: tuple[Row, ...]) -> list[Row]:
    return [row for row in rows if not row.kind.ok]
