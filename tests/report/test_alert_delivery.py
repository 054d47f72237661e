"""Receivers that are slow, broken or hostile, as real servers; and a controller that restarts in the middle (S4.6)."""

import asyncio
import json
import threading
import time

import pytest

from hotswitch.report.alerts import guard
from hotswitch.report.alerts.guard import Rules
from hotswitch.report.alerts.receiver import Kind
from hotswitch.report.notice import Severity
from tests.report.receiving import LOOPBACK, OK, Counted, Server, dispatching, notice, receiver, status, until

pytestmark = pytest.mark.unit


async def endless_body(writer):
    writer.write(b"HTTP/1.1 503 x\r\ntransfer-encoding: chunked\r\n\r\n")
    while True:
        writer.write(b"10000\r\n" + bytes(0x10000) + b"\r\n")
        await writer.drain()


async def endless_refusal(writer):
    writer.write(b"HTTP/1.1 400 x\r\ncontent-length: 99999999999\r\n\r\n")
    while True:
        writer.write(bytes(0x10000))
        await writer.drain()


async def huge_headers(writer):
    writer.write(b"HTTP/1.1 200 x\r\n")
    while True:
        writer.write(b"x-padding: " + b"y" * 60_000 + b"\r\n")
        await writer.drain()


async def many_headers(writer):
    writer.write(b"HTTP/1.1 200 x\r\n")
    while True:
        writer.write(b"a: b\r\n" * 1000)
        await writer.drain()


async def drop_by_drop(writer):
    for letter in b"HTTP/1.1 200 x\r\n" + b"x" * 9999:
        writer.write(bytes([letter]))
        await writer.drain()
        await asyncio.sleep(0.05)


async def hangs_up(writer):
    writer.transport.abort()


async def bomb(writer):
    """Ten gigabytes if somebody unpacked it."""
    writer.write(b"HTTP/1.1 400 x\r\ncontent-encoding: gzip\r\ncontent-length: 1000000\r\n\r\n" + bytes(1_000_000))
    await writer.drain()


HOSTILE = [
    None, endless_body, endless_refusal, huge_headers, many_headers, drop_by_drop, hangs_up, bomb, b"SSH-2.0-x\r\n",
    b"HTTP/1.1 200 x\r\nset-cookie: " + b"z" * 99999 + b"\r\n\r\n", b"HTTP/1.1 999999 x\r\n\r\n", b"\x00" * 9999,
    b"HTTP/1.1 200 x\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n",
    status(302, "location: http://127.0.0.1:1/"),
]  # fmt: skip


@pytest.mark.parametrize("answer", HOSTILE, ids=lambda answer: getattr(answer, "__name__", repr(answer)[:20]))
def test_hostile_receiver_delays_neither_the_teller_nor_the_others(answer) -> None:
    async def run():
        async with Server([answer]) as hostile, Server() as good:
            bad = receiver(hostile, name="bad", timeout_s=0.3)
            async with dispatching(bad, receiver(good, name="good")) as dispatcher:
                lag = asyncio.create_task(longest_lag_s())
                took_s = [time_of(lambda n=n: dispatcher.tell(notice(f"k{n}", code=f"HSD{n:03}"))) for n in range(20)]
                assert sorted(took_s)[10] < 0.05
                await good.requests(20)
                await until(lambda: hostile.connections >= 2)
                lag.cancel()
                assert dispatcher.counts.results["bad", "sent"] == 0
                assert dispatcher.counts.results["good", "failed"] == 0
            return await lag

    assert asyncio.run(run()) < 2.0, "other work waited for this long"


def time_of(call):
    before = time.perf_counter()
    call()
    return time.perf_counter() - before


async def longest_lag_s():
    """How late others' turns came."""
    longest = 0.0
    try:
        while True:
            before = time.perf_counter()
            await asyncio.sleep(0.001)
            longest = max(longest, time.perf_counter() - before)
    except asyncio.CancelledError:
        return longest


def test_slow_name_server_delays_only_its_receiver(monkeypatch) -> None:
    """Lookups block threads: those of everybody else must not be among them."""
    release, waiting = threading.Event(), []
    real = guard._look_up

    def slow(host, port, family):
        if host == "slow.example.com":
            waiting.append(host)
            release.wait(20)
        return real("127.0.0.1", port, family)

    monkeypatch.setattr(guard, "_look_up", slow)

    async def run():
        names = frozenset({"slow.example.com", "good.example.com"})
        rules = Rules(allow_networks=LOOPBACK.allow_networks, allow_http=names)
        async with Server() as server:
            url = f"http://slow.example.com:{server.port}/"
            slow_ones = [receiver(url, name=f"slow{n}", timeout_s=0.2, rules=rules) for n in range(40)]
            good = receiver(f"http://good.example.com:{server.port}/", name="good", rules=rules)
            async with dispatching(*slow_ones, good) as dispatcher:
                dispatcher.tell(notice())
                await until(lambda: len(waiting) == 40, "each waits in a thread of its own")
                await server.requests(1)
                assert await asyncio.wait_for(asyncio.to_thread(lambda: 7), 1) == 7, "the common threads are free"
                release.set()

    try:
        asyncio.run(run())
    finally:
        release.set()


def test_receiver_is_down_for_a_while() -> None:
    async def run():
        async with Server([status(503), status(500), status(404), status(429), OK]) as server:
            async with dispatching(receiver(server)) as dispatcher:
                dispatcher.tell(notice())
                got = await server.requests(5)
                await until(lambda: dispatcher.counts.results["team", "sent"] == 1)
                assert dispatcher.counts.results["team", "failed"] == 4
            return [request.headers["Hotswitch-Id"] for request in got]

    assert len(set(asyncio.run(run()))) == 1, "attempts at one message have one id"


def test_receiver_asks_for_patience() -> None:
    async def run():
        async with Server([status(429, "retry-after: 1"), OK]) as server:
            async with dispatching(receiver(server)) as dispatcher:
                dispatcher.tell(notice())
                await server.requests(1)
                asked = time.monotonic()
                dispatcher.tell(notice("other"))  # is no reason to come earlier
                await server.requests(2)
            return time.monotonic() - asked

    assert asyncio.run(run()) >= 0.9


def test_a_message_is_refused_for_good_and_the_next_goes_through() -> None:
    async def run():
        async with Server([status(400), OK]) as server:
            async with dispatching(receiver(server)) as dispatcher:
                dispatcher.tell(notice("never"))
                await server.requests(1)
                dispatcher.tell(notice("next"))
                got = await server.requests(2)
                await until(lambda: dispatcher.counts.results["team", "sent"] == 1)
                assert dispatcher.counts.results["team", "dropped"] == 1
            return [json.loads(request.body)["key"] for request in got]

    assert asyncio.run(run()) == ["never", "next"]


def test_one_alert_of_many_is_refused_by_alertmanager() -> None:
    """The others must not suffer from it: they are sent one by one."""

    async def run():
        async with Server([status(400), status(400), OK]) as server:
            async with dispatching(receiver(server, kind=Kind.ALERTMANAGER)) as dispatcher:
                for key in "abc":
                    dispatcher.tell(notice(key))
                got = await server.requests(4)
                await until(lambda: dispatcher.counts.results["team", "sent"] == 2)
            return [len(json.loads(request.body)) for request in got]

    assert asyncio.run(run()) == [3, 1, 1, 1]


def test_receiver_leaves_the_policy_and_comes_back() -> None:
    async def run():
        async with Server() as server:
            one = receiver(server)
            async with dispatching(one) as dispatcher:
                dispatcher.tell(notice())
                await server.requests(1)
                await dispatcher.configure([])
                dispatcher.tell(notice("nobody hears this"))
                await dispatcher.configure([one])
                dispatcher.tell(notice("new"))
                got = await server.requests(2)
            return [json.loads(request.body)["key"] for request in got]

    assert asyncio.run(run()) == ["u1/HSD001", "new"]


def test_policies_change_faster_than_workers_end() -> None:
    """Whoever came last wins, and nothing is left running."""

    async def run():
        async with Server() as server, dispatching(receiver(server, name="first")) as dispatcher:
            await dispatcher.configure([receiver(server, name=name) for name in "abc"])
            many = [[], *([receiver(server, name=f"r{n}")] if n % 2 else [] for n in range(10))]
            await asyncio.gather(*(dispatcher.configure(each) for each in many))
            dispatcher.tell(notice())
            await until(lambda: dispatcher.counts.results["r9", "sent"] == 1)
            await asyncio.gather(dispatcher.stop(), dispatcher.configure([receiver(server)]))
            dispatcher.tell(notice("too late"))
            assert len(asyncio.all_tasks()) <= 2 + server.connections
            return [each for each in dispatcher.counts.results if each[1] == "sent"], dispatcher.standing()

    sent, standing = asyncio.run(run())
    assert sent == [("r9", "sent")] and standing == {}


def test_receivers_are_not_known_yet() -> None:
    async def run():
        async with Server() as server, dispatching() as dispatcher:
            dispatcher._configured = False
            dispatcher.tell(notice())
            await dispatcher.configure([receiver(server)])
            await server.requests(1)

    asyncio.run(run())


def test_notice_goes_to_those_it_names_and_its_end_to_those_who_were_told() -> None:
    async def run():
        async with Server() as root, Server() as team, Server() as pager:
            async with dispatching(
                receiver(root, name="root"),
                receiver(team, name="shop/team", default=False),
                receiver(pager, name="pager", at_least=Severity.CRITICAL),
            ) as dispatcher:
                dispatcher.tell(notice("named", receivers=("shop/team",)))
                await team.requests(1)
                dispatcher.tell(notice("named", ends=1_764_230_500.0, severity=Severity.INFO))  # its policy is gone
                await team.requests(2)
                dispatcher.tell(notice("unnamed"))
                dispatcher.tell(notice("unknown", receivers=("shop/gone",)))
                dispatcher.tell(notice("page", severity=Severity.CRITICAL))
                await root.requests(3)
                (paged,) = await pager.requests(1)
                await until(lambda: dispatcher.counts.results["pager", "sent"] == 1)
                names = [json.loads(each.body)["key"] for each in root.got]
            return json.loads(paged.body)["key"], sorted(names), len(team.got)

    assert asyncio.run(run()) == ("page", ["page", "unknown", "unnamed"], 2)


def test_telling_never_raises() -> None:
    async def run():
        async with Server() as server, dispatching(receiver(server)) as dispatcher:
            dispatcher.tell(None)
            dispatcher.tell(notice(labels={"x": object()}, evidence={1: 2}))
            await server.requests(1)

    asyncio.run(run())


def test_queue_is_shown_and_forgotten() -> None:
    async def run():
        async with Server([status(503)]) as server, dispatching(receiver(server)) as dispatcher:
            for key in "abc":
                dispatcher.tell(notice(key))
            assert isinstance(dispatcher.counts, Counted) and dispatcher.counts.queued["team"] == 3
            await dispatcher.configure([])
            return dispatcher.counts.queued

    assert asyncio.run(run()) == {}
