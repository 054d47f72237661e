"""Secrets as they were last read, for the time in which the API server does not answer (S4.6).

That is when people want to be told most. A Secret that is gone, or may not be read any more, is not used further.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from hotswitch.cluster.failure import ApiFailure
from hotswitch.report.alerts.receiver import SecretReader, SecretRef

READ_WITHIN_S = 3.0
LASTS_S = 3600.0


class HeldSecrets:
    """Asks `reader` each time; its values are held in memory only, for one receiver."""

    def __init__(self, reader: SecretReader, clock: Callable[[], float] = time.monotonic) -> None:
        self._reader = reader
        self._clock = clock
        self._held: dict[SecretRef, tuple[float, bytes]] = {}

    async def read(self, ref: SecretRef) -> bytes:
        """Raises what the reader raises, when there is no value that still counts."""
        try:
            async with asyncio.timeout(READ_WITHIN_S):
                value = await self._reader.read(ref)
        except Exception as failure:
            at_s, value = self._held.get(ref, (0.0, b""))
            if ref not in self._held or _is_gone(failure) or self._clock() - at_s > LASTS_S:
                self._held.pop(ref, None)
                raise
            return value
        self._held[ref] = self._clock(), value
        return value


def _is_gone(failure: Exception) -> bool:
    return isinstance(failure, LookupError) or (
        isinstance(failure, ApiFailure) and (failure.is_missing or failure.is_refused)
    )
