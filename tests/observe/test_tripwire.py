"""The held connection to 15021 (S4.2b)."""

import asyncio
import socket

import pytest

from hotswitch.kernel.netns import inside
from hotswitch.model import Tripwire
from hotswitch.observe.tripwire import HeldConnection

pytestmark = pytest.mark.netns


def server(netns: str) -> socket.socket:
    with inside(netns):
        return socket.create_server(("127.0.0.1", 15021))


class Watched:
    """A held connection and an event that every change of it sets."""

    def __init__(self, netns: str) -> None:
        self.changes = asyncio.Event()
        self.held = HeldConnection(netns, self.changes.set)

    async def next_change(self) -> Tripwire:
        await asyncio.wait_for(self.changes.wait(), 2)
        self.changes.clear()
        return self.held.state


async def scenario_proxy_dies(netns: str) -> None:
    with server(netns) as listening:
        watched = Watched(netns)
        assert watched.held.arm() is Tripwire.HELD
        accepted, _ = listening.accept()
    accepted.close()
    assert await watched.next_change() is Tripwire.REFUSED
    watched.held.close()


async def scenario_connection_closes_before_the_listener(netns: str) -> None:
    with server(netns) as listening:
        watched = Watched(netns)
        watched.held.arm()
        listening.accept()[0].close()
        assert await watched.next_change() is Tripwire.HELD, "reconnected: a recycled idle connection, or not yet dead"
        accepted, _ = listening.accept()
    accepted.close()
    assert await watched.next_change() is Tripwire.REFUSED, "the new connection is watched too"
    assert watched.held.breaks == 2
    watched.held.close()


async def scenario_proxy_hangs_with_a_full_queue(netns: str) -> None:
    with inside(netns):
        listening = socket.create_server(("127.0.0.1", 15021), backlog=0)
        filler = socket.socket()
    filler.connect(("127.0.0.1", 15021))
    watched = Watched(netns)
    assert watched.held.arm() is Tripwire.UNANSWERED
    watched.held.close()
    filler.close()
    listening.close()


@pytest.mark.parametrize(
    "scenario",
    [scenario_proxy_dies, scenario_connection_closes_before_the_listener, scenario_proxy_hangs_with_a_full_queue],
)
def test_tripwire(netns: str, scenario) -> None:  # type: ignore[no-untyped-def]
    asyncio.run(scenario(netns))


def test_never_connected_is_not_a_death(netns: str) -> None:
    async def scenario() -> Tripwire:
        return HeldConnection(netns, lambda: None).state

    assert asyncio.run(scenario()) is Tripwire.UNARMED
