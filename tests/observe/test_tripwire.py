"""The held connection to 15021 (S4.2b)."""

import asyncio
import socket
import struct

import pytest

from hotswitch.kernel.netns import inside
from hotswitch.model import Probe, ProbeOutcome, Tripwire
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


async def scenario_health_is_asked_over_it(netns: str) -> None:
    loop, answers = asyncio.get_running_loop(), asyncio.Queue[Probe]()
    with server(netns) as listening:
        watched = Watched(netns)
        assert not watched.held.ask(answers.put_nowait), "nothing is held yet"
        watched.held.arm()
        accepted, _ = listening.accept()
        accepted.setblocking(False)
        assert watched.held.ask(answers.put_nowait)
        assert not watched.held.ask(answers.put_nowait), "one question at a time"
        assert (await loop.sock_recv(accepted, 4096)).startswith(b"GET /healthz/ready HTTP/1.1\r\n")
        assert watched.held.waited_s == 0, "nobody has listened yet"
        watched.held.listen()
        assert watched.held.waited_s > 0
        await loop.sock_sendall(accepted, b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n")
        async with asyncio.timeout(30):
            while answers.empty():
                watched.held.listen()
                await asyncio.sleep(0)
        assert answers.get_nowait().outcome is ProbeOutcome.UNREADY
        assert watched.held.waited_s == 0
        assert watched.held.ask(answers.put_nowait), "the same connection again"
        accepted.close()
        assert await watched.next_change() is Tripwire.HELD, "reconnected, and nothing is asked of the new one"
        assert watched.held.waited_s == 0
        watched.held.close()
    assert answers.empty()


async def scenario_it_is_closed_or_reset(netns: str) -> None:
    with server(netns) as listening:
        watched = Watched(netns)
        watched.held.arm()
        reset, _ = listening.accept()
        reset.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        reset.close()
        await watched.next_change()
        assert (watched.held.breaks, watched.held.closed_s) == (1, None)
        listening.accept()[0].close()
        await watched.next_change()
        assert (watched.held.breaks, watched.held.closed_s) == (2, watched.held.cut_s)
        watched.held.close()


async def scenario_its_end_is_heeded_before_it_is_told(netns: str) -> None:
    with server(netns) as listening:
        watched = Watched(netns)
        watched.held.heed()
        watched.held.arm()
        accepted, _ = listening.accept()
        watched.held.heed()
        assert watched.held.breaks == 0, "nothing has happened yet"
        accepted.close()
        watched.held.heed()
        assert (watched.held.breaks, watched.held.state) == (1, Tripwire.HELD)
        await asyncio.sleep(0)  # the loop is told of the first one now, whose number the second one has
        await asyncio.sleep(0)
        assert watched.held.breaks == 1
        watched.held.close()


@pytest.mark.parametrize(
    "scenario",
    [
        scenario_it_is_closed_or_reset,
        scenario_its_end_is_heeded_before_it_is_told,
        scenario_health_is_asked_over_it,
        scenario_proxy_dies,
        scenario_connection_closes_before_the_listener,
        scenario_proxy_hangs_with_a_full_queue,
    ],
)
def test_tripwire(netns: str, scenario) -> None:  # type: ignore[no-untyped-def]
    asyncio.run(scenario(netns))


def test_never_connected_is_not_a_death(netns: str) -> None:
    async def scenario() -> Tripwire:
        return HeldConnection(netns, lambda: None).state

    assert asyncio.run(scenario()) is Tripwire.UNARMED
