"""The central prober is asked what a proxy says now (S4.2b): it asks, and tells only of proxies that it knows."""

from __future__ import annotations

import asyncio
import contextlib
import resource
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from hotswitch.model import Opinion
from hotswitch.observe import central
from hotswitch.observe.asked import AT_ONCE
from hotswitch.observe.central import CentralPace, CentralProber

pytestmark = pytest.mark.unit

PACE = CentralPace(idle_s=0.1, fast_s=0.02, lag_s=10.0)


class Proxy:
    """Its 15021. `silent`: it takes connections and says nothing. `shut`: on those only that are new."""

    def __init__(self) -> None:
        self.status, self.silent, self.shut = "200 OK", False, False
        self.connections = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        if self.shut:
            await reader.read()
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            while await reader.readuntil(b"\r\n\r\n"):
                if not self.silent:
                    writer.write(f"HTTP/1.1 {self.status}\r\nContent-Length: 0\r\n\r\n".encode())
        writer.close()


@asynccontextmanager
async def prober(proxy: Proxy) -> AsyncIterator[tuple[CentralProber, asyncio.Server]]:
    server = await asyncio.start_server(proxy.serve, "127.0.0.1", 0)
    made = CentralProber(lambda _: None, PACE, port=server.sockets[0].getsockname()[1])
    work = asyncio.create_task(made.run())
    try:
        yield made, server
    finally:
        work.cancel()
        await asyncio.gather(work, return_exceptions=True)
        server.close()


async def looked(made: CentralProber, uid: str, timeout_s: float = 0.3) -> Opinion:
    answer: asyncio.Future[Opinion] = asyncio.get_running_loop().create_future()
    made.look(uid, timeout_s, answer.set_result)
    async with asyncio.timeout(30.0):
        return await answer


async def known(made: CentralProber) -> None:
    made.watch("web", "127.0.0.1")
    async with asyncio.timeout(30.0):
        while not made.facts("web"):
            await asyncio.sleep(0.01)


def test_it_answers_is_silent_and_is_not_ready() -> None:
    async def story() -> None:
        proxy = Proxy()
        async with prober(proxy) as (made, server):
            await known(made)
            assert await looked(made, "web", 10.0) == Opinion(AT_ONCE, AT_ONCE, 0)
            proxy.status = "503 Service Unavailable"
            assert await looked(made, "web", 10.0) == Opinion(AT_ONCE, AT_ONCE, 0)
            proxy.silent = True
            assert await looked(made, "web") == Opinion(AT_ONCE, 0, AT_ONCE)
            server.close()
            assert await looked(made, "web", 10.0) == Opinion(AT_ONCE, 0, 0)

    asyncio.run(story())


def test_a_proxy_that_never_answered_here() -> None:
    """A policy of the network, perhaps: silence would agree with anybody."""

    async def story() -> None:
        proxy = Proxy()
        proxy.status = "503 Service Unavailable"
        async with prober(proxy) as (made, _):
            await known(made)
            assert await looked(made, "web") == Opinion()
            assert await looked(made, "somebody else") == Opinion()

    asyncio.run(story())


def test_too_many_ask_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    async def story() -> None:
        proxy = Proxy()
        async with prober(proxy) as (made, _):
            await known(made)
            proxy.silent = True
            monkeypatch.setattr(central, "LOOKS_AT_MOST", 2)
            answers = await asyncio.gather(*(looked(made, "web", 1.0) for _ in range(3)))
            assert sorted(each.asked for each in answers) == [0, AT_ONCE, AT_ONCE]
            proxy.silent = False
            assert (await looked(made, "web", 10.0)).answered == AT_ONCE

    asyncio.run(story())


def test_it_is_asked_freshly_although_all_is_well(monkeypatch: pytest.MonkeyPatch) -> None:
    """The held connection goes on where a new one would not come through."""

    async def story() -> None:
        monkeypatch.setattr(central, "FRESH_S", 0.05)
        proxy = Proxy()
        async with prober(proxy) as (made, _), asyncio.timeout(30.0):
            await known(made)
            before_s = made._targets["web"].reached_s
            while proxy.connections < 6:
                await asyncio.sleep(0.01)
            assert made._targets["web"].reached_s > before_s

    asyncio.run(story())


def test_the_network_lets_it_through_no_longer(monkeypatch: pytest.MonkeyPatch) -> None:  # I2
    """Every question stays silent then, and would agree with any agent."""

    async def story() -> None:
        monkeypatch.setattr(central, "FRESH_S", 0.1)
        monkeypatch.setattr(central, "WITNESS_S", 0.3)
        proxy = Proxy()
        async with prober(proxy) as (made, _), asyncio.timeout(60.0):
            await known(made)
            proxy.shut = True
            while (await looked(made, "web", 0.05)).asked:
                pass
            assert await looked(made, "web", 0.05) == Opinion()
            proxy.shut = False
            while not (await looked(made, "web", 10.0)).answered:
                await asyncio.sleep(0.01)

    asyncio.run(story())


def test_there_are_no_sockets_left() -> None:
    """Whoever asks is told that nobody can tell, and asks again later: nothing is stuck, and nobody's link falls."""

    async def story() -> None:
        proxy = Proxy()
        async with prober(proxy) as (made, _), asyncio.timeout(60.0):
            await known(made)
            soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
            resource.setrlimit(resource.RLIMIT_NOFILE, (0, hard))
            try:
                assert await looked(made, "web", 10.0) == Opinion()
                made.hurry("web")  # nor does the prober end by it
                while not made.doubts("web"):
                    await asyncio.sleep(0.01)
            finally:
                resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
            while (await looked(made, "web", 10.0)).answered < AT_ONCE:
                await asyncio.sleep(0.01)

    asyncio.run(story())
