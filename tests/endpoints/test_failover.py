"""Exactly one active one, whatever happens to pods, API server and controllers (S0, I6, I7), over the embedded API."""

from __future__ import annotations

import pytest

from hotswitch.endpoints import memory
from tests.endpoints.town import leader, story, town

pytestmark = pytest.mark.k8s


@story
async def test_active_pod_is_deleted() -> None:  # S0.3, S0.5, S0.6, S0.7
    async with town() as place:
        await place.service()
        for name in ("db-0", "db-1"):
            await place.pod(name)
        async with leader(place):
            await place.until_ready("db-0")
            assert memory.read(await place.lease()).generation == 1
            await place.delete("db-0")
            await place.until_ready("db-1")
            assert memory.read(await place.lease()).generation == 2
            assert place.codes.count("HSE002") == 2
