"""All clients of an xDS server together find no more room than there is; who has some is not disturbed (I1)."""

from __future__ import annotations

import tracemalloc
from typing import Any

import grpc
import pytest

from hotswitch.decide.endpoints.place import Caller
from hotswitch.endpoints.xds import server as module
from hotswitch.endpoints.xds.incremental import IncrementalSubscription
from hotswitch.endpoints.xds.kinds import Kind
from hotswitch.endpoints.xds.publisher import EdsPublisher
from hotswitch.endpoints.xds.request import Request
from hotswitch.endpoints.xds.room import Full, Room
from hotswitch.endpoints.xds.whole import WholeSubscription
from hotswitch.sandbox.eds_service import HTTP_NAME, backend
from tests.endpoints.xds.test_server import Served, addresses, ask, nonce_of, run, served, settled, stream

pytestmark = pytest.mark.k8s
MOST = 200_000  # bytes, for streams that hold much
SLOW = (("grpc.http2.bdp_probe", 0), ("grpc.http2.lookahead_bytes", 65535))  # takes no more than it is asked to read


def large_ones() -> Room:
    return Room(most_bytes=2 * MOST, per_address=1.0)


def names(count: int) -> tuple[str, ...]:
    return tuple(f"none-{number}.shop:{'1' * 200}" for number in range(count))


def crowd(made: Served, size: int) -> None:
    made.tell([backend(f"db-{number}", f"10.0.{number >> 8}.{number & 255}") for number in range(size)])


async def refusal(client: Any) -> str:
    assert await client.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    return str(await client.details())


def test_more_streams_than_there_is_room_for() -> None:
    async def story() -> None:
        async with served(room=Room(most_streams=2, per_address=1.0)) as made, stream(made.server.port) as first:
            made.publish(1)
            await first.write(ask(HTTP_NAME))
            async with stream(made.server.port) as second:
                await second.write(ask(HTTP_NAME))
                await second.read()
                async with stream(made.server.port) as third:
                    assert "2 streams stand" in await refusal(third)
            assert made.server.figures.refused == 1
            await settled(lambda: made.server.room.streams == 1)
            async with stream(made.server.port) as fourth:  # somebody has left
                await fourth.write(ask(HTTP_NAME))
                assert addresses(await fourth.read()) == ["10.0.0.1"]
            assert addresses(await first.read()) == ["10.0.0.1"]

    run(story)


def test_more_names_than_there_is_room_for() -> None:
    """Each of them asks for less than it may."""

    async def story() -> None:
        async with served(room=large_ones()) as made, stream(made.server.port) as good:
            made.publish(1)
            await good.write(ask(HTTP_NAME))
            answer = await good.read()
            async with stream(made.server.port) as first, stream(made.server.port) as second:
                await first.write(ask(*names(200)))
                await settled(lambda: made.server.room.bytes_held > MOST / 2)
                await second.write(ask(*names(200)))
                assert "200000 are allowed for those that hold much together" in await refusal(second)
            assert made.server.figures.refused == 1
            await settled(lambda: made.server.room.bytes_held < MOST / 4)  # what they held is given back
            made.publish(2)
            await good.write(ask(HTTP_NAME, nonce=nonce_of(answer)))
            assert addresses(await good.read()) == ["10.0.0.2"]

    run(story)


def test_those_that_hold_much_leave_room_for_the_others() -> None:
    room = Room(most_bytes=6400, per_address=1.0)
    with room.seat() as first, room.seat() as second, room.seat() as small:
        first.keep(2900)
        with pytest.raises(Full, match="3200 are allowed for those that hold much"):
            second.keep(2900)  # what two of them could hold just under the bound
        second.keep(300)
        small.keep(50)
        with small.sending(50):
            assert room.bytes_held == 3300
        with pytest.raises(Full):
            first.keep(3000)


def test_one_address_takes_no_more_than_its_part() -> None:
    room = Room(most_streams=8, most_bytes=64_000)
    with room.seat("a") as first, room.seat("a") as second:
        with pytest.raises(Full, match="2 streams of a stand"), room.seat("a"):
            raise AssertionError("it has two already")
        first.keep(10_000)
        with pytest.raises(Full, match="clients of a hold 17000 bytes; 16000"):
            second.keep(7_000)
        with room.seat("b") as other:
            other.keep(7_000)
    assert (room.bytes_held, room.streams) == (0, 0)


def test_streams_of_one_address_are_counted_as_such() -> None:
    async def story() -> None:
        async with served(room=Room(most_streams=4)) as made, stream(made.server.port) as first:
            made.publish(1)
            await first.write(ask(HTTP_NAME))
            assert addresses(await first.read()) == ["10.0.0.1"]
            async with stream(made.server.port) as second:
                assert "1 streams of ipv4:127.0.0.1 stand" in await refusal(second)

    run(story)


def test_who_says_nothing_does_not_keep_its_place(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FIRST_S", 1.0)

    async def story() -> None:
        async with served() as made, stream(made.server.port) as good:
            made.publish(1)
            await good.write(ask(HTTP_NAME))
            answer = await good.read()
            async with stream(made.server.port) as silent:
                assert await silent.code() is grpc.StatusCode.DEADLINE_EXCEEDED
                assert "no request" in await silent.details()
            await settled(lambda: made.server.room.streams == 1)
            assert made.server.figures.silent == 1
            made.publish(2)
            await good.write(ask(HTTP_NAME, nonce=nonce_of(answer)))
            assert addresses(await good.read()) == ["10.0.0.2"]

    run(story)


def test_readers_that_take_nothing() -> None:
    """What waits for them is counted as long as it waits; then there is room again."""

    async def story() -> None:
        async with served(room=large_ones()) as made:
            crowd(made, 6000)  # an answer of 150 kB: more than HTTP/2 lets through unread
            async with stream(made.server.port, options=SLOW) as slow:
                await slow.write(ask(HTTP_NAME))
                await settled(lambda: made.server.room.bytes_held > MOST / 2)
                async with stream(made.server.port) as late:
                    await late.write(ask(HTTP_NAME))
                    await refusal(late)
                assert len(addresses(await slow.read())) == 6000
            await settled(lambda: made.server.room.bytes_held == 0)
            async with stream(made.server.port) as late:
                await late.write(ask(HTTP_NAME))
                assert len(addresses(await late.read())) == 6000

    run(story)


def test_a_slow_reader_that_is_refused_lets_go_at_once() -> None:
    """Its stream ends only when it has taken what is under way; what it asked for is forgotten before that."""

    async def story() -> None:
        async with served(room=large_ones()) as made, stream(made.server.port, options=SLOW) as slow:
            crowd(made, 6000)
            await slow.write(ask(HTTP_NAME))
            await settled(lambda: made.server.room.bytes_held > MOST / 2)
            only_answer = made.server.room.bytes_held
            await slow.write(ask(*names(200)))
            await settled(lambda: made.server.room.bytes_held < only_answer)
            await slow.read()
            await refusal(slow)

    run(story)


@pytest.mark.parametrize("kind", [WholeSubscription, IncrementalSubscription])
def test_what_is_counted_is_no_less_than_what_is_taken(
    kind: type[WholeSubscription] | type[IncrementalSubscription],
) -> None:
    made = kind(Kind.ENDPOINTS, EdsPublisher(lambda kinds, names: None), Caller())
    made.hear(Request(Kind.ENDPOINTS))
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    asked = Request(Kind.ENDPOINTS, names=names(5000))
    made.hear(asked)
    made.changed(set(asked.names))
    made.answer()
    del asked
    taken = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    assert 0 < taken <= made.weight


def test_names_that_are_given_up_give_their_room_back() -> None:
    made = IncrementalSubscription(Kind.ENDPOINTS, EdsPublisher(lambda kinds, names: None), Caller())
    made.hear(Request(Kind.ENDPOINTS, names=names(100)))
    assert made.weight > 100 * 200
    made.hear(Request(Kind.ENDPOINTS, dropped=names(100)))
    assert made.weight == 0


def test_a_seat_that_is_left_holds_nothing() -> None:
    room = Room(most_bytes=200, per_address=1.0)
    with room.seat() as seat:
        seat.keep(60)
        with pytest.raises(Full), seat.sending(50):
            raise AssertionError("there is no room for it")
        with pytest.raises(Full):
            seat.keep(101)
    assert (room.bytes_held, room.streams) == (0, 0)
