"""Pods that cannot be guarded: tried again after a pause that doubles; why is said once for each reason."""

from __future__ import annotations

import asyncio

FIRST_PAUSE_S, LONGEST_PAUSE_S = 1.0, 15.0


class Retries:
    """By pod uid; "" is the node itself. Instants: the loop's clock."""

    def __init__(self) -> None:
        self._due: dict[str, tuple[float, float]] = {}  # not before, and the pause that led there
        self._said: dict[str, str] = {}

    def is_due(self, uid: str) -> bool:
        return asyncio.get_running_loop().time() >= self._due.get(uid, (0.0, 0.0))[0]

    def put_off(self, uid: str) -> None:
        pause_s = min(max(FIRST_PAUSE_S, 2 * self._due.get(uid, (0.0, 0.0))[1]), LONGEST_PAUSE_S)
        self._due[uid] = asyncio.get_running_loop().time() + pause_s, pause_s

    def is_news(self, uid: str, why: str) -> bool:
        """Whether it has not been said yet; from now on it has."""
        new = self._said.get(uid) != why
        self._said[uid] = why
        return new

    def forget(self, uid: str) -> None:
        self._due.pop(uid, None)
        self._said.pop(uid, None)
