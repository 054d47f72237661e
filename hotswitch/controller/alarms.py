"""Matters of Services that a person should know of, while they last (S0.7, S4.6).

An alarm is raised only when it has lasted ALARM_AFTER_S: a failover passes through "nobody serves" each time. It has
one end, whatever is said in between.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import replace

from hotswitch.report.notice import Notice, Severity

ALARM_AFTER_S = 5.0
KEY = "endpoints/"
"""All keys of these matters begin with it."""


class Alarms:
    """One for each Service and matter; told after a while, ended once."""

    def __init__(self, tell: Callable[[Notice], None], after_s: float = ALARM_AFTER_S) -> None:
        self._tell, self._after_s = tell, after_s
        self._waiting: dict[str, asyncio.TimerHandle] = {}
        self._raised: dict[str, Notice] = {}
        self._newest: dict[str, Notice] = {}

    def set(self, key: str, code: str, sentence: str, namespace: str) -> None:
        self._newest[key] = Notice(
            key=key, code=code, sentence=sentence, severity=Severity.CRITICAL, namespace=namespace,
            starts_unix_s=time.time(),
        )  # fmt: skip
        if key not in self._waiting and key not in self._raised:
            self._waiting[key] = asyncio.get_running_loop().call_later(self._after_s, self._raise, key)

    def _raise(self, key: str) -> None:
        self._waiting.pop(key, None)
        notice = self._raised[key] = self._newest[key]
        self._tell(notice)

    def clear(self, key: str) -> None:
        self._newest.pop(key, None)
        timer = self._waiting.pop(key, None)
        if timer is not None:
            timer.cancel()
        raised = self._raised.pop(key, None)
        if raised is not None:
            self._tell(_ended(raised))

    def goes_on(self, key: str) -> bool:
        return key in self._newest

    def stop(self) -> None:
        """Somebody else leads: what goes on is theirs to find."""
        for timer in self._waiting.values():
            timer.cancel()
        self._waiting.clear()
        self._raised.clear()
        self._newest.clear()


def _ended(notice: Notice) -> Notice:
    return replace(notice, ends_unix_s=time.time())
