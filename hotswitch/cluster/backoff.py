"""How long to wait before trying again: at once, then twice as long each time, never all at the same moment."""

from __future__ import annotations

import random

FIRST_S, LONGEST_S = 0.1, 10.0


class Backoff:
    def __init__(self, first_s: float = FIRST_S, longest_s: float = LONGEST_S) -> None:
        self._first_s, self._longest_s = first_s, longest_s
        self._failures = 0

    def next_s(self) -> float:
        """Somewhere in the upper half of what is due: between a half and all of it."""
        due_s = min(self._longest_s, self._first_s * 2.0 ** min(self._failures, 30))
        self._failures += 1
        return due_s * random.uniform(0.5, 1.0)

    def reset(self) -> None:
        self._failures = 0
