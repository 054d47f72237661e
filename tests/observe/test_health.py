"""Probes on fresh connections: every way an answer can fail to come (S4.2b)."""

import asyncio
import socket
import time
from collections.abc import Awaitable, Callable, Iterator

import pytest

from hotswitch.kernel.netns import inside
from hotswitch.model import Probe, ProbeOutcome
from hotswitch.observe.health import HttpProbe

pytestmark = pytest.mark.netns
Answer = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


async def probe(netns: str, *, timeout_s: float = 0.3, lag_s: float = 0.2) -> Probe:
    done: asyncio.Future[Probe] = asyncio.get_running_loop().create_future()
    HttpProbe(netns, ("127.0.0.1", 15021), "/healthz/ready", done.set_result, timeout_s=timeout_s, lag_s=lag_s)
    return await asyncio.wait_for(done, 5)


async def probed(netns: str, answer: Answer, *, timeout_s: float = 4.0) -> Probe:
    with inside(netns):
        sock = socket.create_server(("127.0.0.1", 15021))
    async with await asyncio.start_server(answer, sock=sock):
        return await probe(netns, timeout_s=timeout_s)


def says(words: bytes) -> Answer:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        request = await reader.readuntil(b"\r\n\r\n")
        assert request.startswith(b"GET /healthz/ready HTTP/1.1\r\nHost: 127.0.0.1\r\n")
        writer.write(words)
        writer.close()

    return answer


@pytest.mark.parametrize(
    ("words", "outcome"),
    [
        (b"HTTP/1.1 200 OK\r\n\r\n", ProbeOutcome.OK),
        (b"HTTP/1.1 204 No Content\r\n\r\n", ProbeOutcome.OK),
        (b"HTTP/1.1 503 Service Unavailable\r\n\r\n", ProbeOutcome.UNREADY),
        (b"HTTP/1.1 302 Found\r\n\r\n", ProbeOutcome.UNREADY),
        (b"", ProbeOutcome.RESET),
        (b"HTTP", ProbeOutcome.RESET),
    ],
)
def test_what_the_proxy_says(netns: str, words: bytes, outcome: ProbeOutcome) -> None:
    assert asyncio.run(probed(netns, says(words))).outcome is outcome


def test_nobody_listens(netns: str) -> None:
    assert asyncio.run(probe(netns)).outcome is ProbeOutcome.REFUSED


@pytest.fixture
def silent(netns: str) -> Iterator[str]:
    """The kernel completes the handshake, nobody ever answers: what a hung proxy looks like."""
    with inside(netns), socket.create_server(("127.0.0.1", 15021)):
        pass
    with inside(netns):
        sock = socket.create_server(("127.0.0.1", 15021))
    with sock:
        yield netns


def test_sidecar_hangs(silent: str) -> None:
    result = asyncio.run(probe(silent, timeout_s=0.05))
    assert result.outcome is ProbeOutcome.TIMEOUT
    assert result.ended_s - result.started_s >= 0.05


def test_our_own_loop_is_late(silent: str) -> None:
    async def scenario() -> Probe:
        pending = asyncio.ensure_future(probe(silent, timeout_s=0.02, lag_s=0.02))
        await asyncio.sleep(0)
        time.sleep(0.1)  # the fault under test: somebody blocks the loop
        return await pending

    assert asyncio.run(scenario()).outcome is ProbeOutcome.INVALID


def test_a_vanished_namespace_blames_nobody() -> None:
    assert asyncio.run(probe("/run/netns/no-such")).outcome is ProbeOutcome.INVALID


def test_a_cancelled_probe_says_nothing(silent: str) -> None:
    async def scenario() -> list[Probe]:
        said: list[Probe] = []
        pending = HttpProbe(silent, ("127.0.0.1", 15021), "/", said.append, timeout_s=0.01, lag_s=1)
        pending.cancel()
        await probe(silent, timeout_s=0.03)
        return said

    assert asyncio.run(scenario()) == []


def test_thousands_of_targets_in_one_process(netns: str) -> None:
    """No task, no thread, no descriptor is left behind by many probes at once."""

    async def scenario() -> int:
        with inside(netns):
            sock = socket.create_server(("127.0.0.1", 15021), backlog=4096)
        async with await asyncio.start_server(says(b"HTTP/1.1 200 OK\r\n\r\n"), sock=sock):
            results = await asyncio.gather(*(probe(netns, timeout_s=5) for _ in range(500)))
        return sum(result.outcome is ProbeOutcome.OK for result in results)

    assert asyncio.run(scenario()) == 500
