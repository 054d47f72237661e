"""How long to wait before the next attempt: longer each time, by chance so that many do not come at once."""

from __future__ import annotations

import random
from dataclasses import dataclass
from datetime import UTC
from email.utils import parsedate_to_datetime

RETRY_AFTER_AT_MOST_S = 3600.0


@dataclass(slots=True)
class Backoff:
    """After the n-th failure in a row something between half and all of `base_s` * 2^(n-1), at most `at_most_s`."""

    base_s: float = 1.0
    at_most_s: float = 300.0
    failures: int = 0

    def failed(self, retry_after_s: float | None = None) -> float:
        """Seconds to wait; never less than the other side asked for."""
        self.failures += 1
        whole = min(self.at_most_s, self.base_s * 2.0 ** min(self.failures - 1, 30))
        chance = whole * random.uniform(0.5, 1.0)
        return chance if retry_after_s is None else max(chance, min(retry_after_s, RETRY_AFTER_AT_MOST_S))

    def succeeded(self) -> None:
        self.failures = 0


def retry_after_s(value: str | None, now_unix_s: float) -> float | None:
    """Of the header Retry-After, in seconds or as a date; None for what is neither."""
    if not value or len(value) > 64:
        return None
    if value.strip().isdecimal():
        return float(value)
    try:
        at = parsedate_to_datetime(value)
    except ValueError:
        return None
    return max(0.0, (at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp() - now_unix_s)
