"""Who waits for the API server to look at a token: bounded, because nobody has proved anything yet (S4.2, I2).

A review costs the API server work, so few run at once. One address can fill its own part of the queue and no more; all
together can fill the queue, and then whoever comes next is sent away, to come again by and by.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from urllib.parse import unquote

from hotswitch.controller.agents.limits import Rejected


@dataclass(frozen=True, slots=True, kw_only=True)
class Crowd:
    """`per_address`, `in_all`: reviews that run or wait; `at_once`: that run."""

    per_address: int = 64
    in_all: int = 1024
    at_once: int = 16


def address_of(peer: str) -> str:
    """Of gRPC's name for it: "ipv4:10.0.0.1:4711", "ipv6:%5B::1%5D:4711"."""
    return unquote(peer).rpartition(":")[0]


class Waiting:
    def __init__(self, crowd: Crowd) -> None:
        self._crowd = crowd
        self._turns = asyncio.Semaphore(crowd.at_once)
        self._here: Counter[str] = Counter()

    @asynccontextmanager
    async def turn(self, peer: str) -> AsyncIterator[None]:
        """Within it the review may run. Raises Rejected."""
        address = address_of(peer)
        if self._here[address] >= self._crowd.per_address:
            raise Rejected("busy", f"{self._here[address]} tokens from {address} wait to be looked at")
        if self._here.total() >= self._crowd.in_all:
            raise Rejected("busy", f"{self._here.total()} tokens wait to be looked at")
        self._here[address] += 1
        try:
            async with self._turns:
                yield
        finally:
            self._here[address] -= 1
            if not self._here[address]:
                del self._here[address]
