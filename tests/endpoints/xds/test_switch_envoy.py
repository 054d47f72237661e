"""A real Envoy follows every switch, over EDS state of the world and incremental (S0.5, S0.7)."""

from __future__ import annotations

import asyncio

import pytest

from hotswitch.backends import ServiceMode
from tests.endpoints.xds.world import HTTP_NAME, LISTEN, World, record, world

pytestmark = pytest.mark.envoy


async def started(made: World) -> None:
    made.record = record(ServiceMode.ACTIVE_STANDBY)
    await asyncio.gather(made.backend("db-0"), made.backend("db-1"))


@pytest.mark.parametrize("incremental", [False, True])
def test_active_fails_and_the_standby_takes_over(incremental: bool) -> None:
    async def story() -> None:
        async with world() as made:
            await started(made)
            made.publish("db-0")
            spec = made.spec("client", {"node": "n"}, incremental=incremental, listen={LISTEN: HTTP_NAME})
            client = made.ask_http(await made.envoy(spec))
            await client.answered_by("db-0")  # S0.5
            assert client.failures() == []
            mark = client.mark()
            made.publish("db-1")
            await client.answered_by("db-1")  # S0.7
            assert client.failures(mark) == []

    asyncio.run(story())
