"""A thread outlives whoever waits for it: what it works by is not let go before it has ended (I6)."""

from __future__ import annotations

import asyncio
import threading
from types import SimpleNamespace
from typing import Any

import pytest

from hotswitch.agent.holding import Holding

pytestmark = pytest.mark.unit

PATIENCE_S = 30.0


def holding(let_go: list[str]) -> Holding:
    gate: Any = SimpleNamespace(close=lambda: let_go.append("gate"))
    namespace: Any = SimpleNamespace(close=lambda: let_go.append("namespace"))
    return Holding(namespace, gate)


def test_the_pod_goes_while_its_rules_are_looked_at() -> None:
    """The number of its namespace's descriptor would be the next pod's."""

    async def story() -> None:
        let_go: list[str] = []
        of, begun, goes_on = holding(let_go), threading.Event(), threading.Event()

        def work() -> list[str]:
            begun.set()
            goes_on.wait(PATIENCE_S)
            return list(let_go)

        waiting = asyncio.create_task(of.in_thread(work))
        await asyncio.to_thread(begun.wait, PATIENCE_S)
        (job,) = of._apart
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        of.close()
        assert let_go == []
        goes_on.set()
        assert await job == []
        async with asyncio.timeout(PATIENCE_S):
            while not let_go:
                await asyncio.sleep(0)
        assert let_go == ["gate", "namespace"]
        of.close()
        assert let_go == ["gate", "namespace"]  # a number is given back once

    asyncio.run(story())


def test_nothing_is_under_way() -> None:
    async def story() -> None:
        let_go: list[str] = []
        of = holding(let_go)
        assert await of.in_thread(lambda: 7) == 7
        of.close()
        assert let_go == ["gate", "namespace"]

    asyncio.run(story())
