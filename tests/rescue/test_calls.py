"""Our few gRPC calls against the usual library on the other side, and against peers that do what they must not."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator
from pathlib import Path

import grpc
import pytest

from hotswitch.rescue.calls import Call, CallFailed, Line, Server

pytestmark = pytest.mark.unit

PATIENCE_S = 30
LARGE = bytes(range(256)) * 4096  # 1 MiB: many times what a peer has room for at once


async def echo(call: Call) -> AsyncGenerator[bytes]:
    async for message in call:
        yield message


@contextlib.asynccontextmanager
async def channel(socket: Path) -> AsyncIterator[grpc.aio.Channel]:
    options = (("grpc.use_local_subchannel_pool", 1),)
    async with asyncio.timeout(PATIENCE_S), grpc.aio.insecure_channel(f"unix:{socket}", options=options) as opened:
        yield opened


@contextlib.asynccontextmanager
async def serving(socket: Path, most_bytes: int = 4 << 20) -> AsyncIterator[Server]:
    server = Server("/a.Service/Echo", echo, most_bytes)
    await server.start(socket)
    try:
        yield server
    finally:
        await server.stop()


def test_server_answers_messages_of_every_size(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with serving(tmp_path / "s"), channel(tmp_path / "s") as opened:
            call = opened.stream_stream("/a.Service/Echo")()
            for message in (b"", b"x", LARGE, b"last"):
                await call.write(message)
                assert await call.read() == message
            await call.done_writing()
            assert await call.read() is grpc.aio.EOF
            assert await call.code() is grpc.StatusCode.OK

    asyncio.run(scenario())


@pytest.mark.parametrize("message", [b"", LARGE])
def test_peer_says_more_than_anybody_reads(tmp_path: Path, message: bytes) -> None:
    """The connection ends instead of the memory."""

    async def deaf(call: Call) -> AsyncGenerator[bytes]:
        yield b"here"
        await asyncio.Event().wait()

    async def scenario() -> None:
        server = Server("/a.Service/Deaf", deaf, len(LARGE))
        await server.start(tmp_path / "s")
        reader, writer = await asyncio.open_unix_connection(tmp_path / "s")
        line = Line(reader, writer, len(LARGE))
        listening = asyncio.get_running_loop().create_task(line.listen())
        try:
            call = line.call("/a.Service/Deaf")
            with pytest.raises(CallFailed):
                async with asyncio.timeout(PATIENCE_S):
                    while True:
                        await call.send(message)
                        await asyncio.sleep(0)
        finally:
            listening.cancel()
            await asyncio.gather(listening, return_exceptions=True)
            await server.stop()

    asyncio.run(scenario())


def test_server_has_no_such_method(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with serving(tmp_path / "s"), channel(tmp_path / "s") as opened:
            call = opened.stream_stream("/a.Service/Other")()
            with pytest.raises(grpc.aio.AioRpcError, match="UNIMPLEMENTED"):
                await call.read()

    asyncio.run(scenario())


def test_message_to_the_server_is_too_large(tmp_path: Path) -> None:
    """It is not gathered first: its length is enough."""

    async def scenario() -> None:
        async with serving(tmp_path / "s", most_bytes=len(LARGE) - 1):
            async with channel(tmp_path / "s") as opened:
                call = opened.stream_stream("/a.Service/Echo")()
                with pytest.raises((grpc.aio.AioRpcError, asyncio.InvalidStateError)):
                    await call.write(LARGE)
                    await call.read()
            async with channel(tmp_path / "s") as another:
                again = another.stream_stream("/a.Service/Echo")()
                await again.write(b"small")
                assert await again.read() == b"small"

    asyncio.run(scenario())


@contextlib.asynccontextmanager
async def usual_server(socket: Path) -> AsyncIterator[None]:
    async def answer(requests: AsyncIterator[bytes], context: grpc.aio.ServicerContext) -> AsyncIterator[bytes]:
        async for request in requests:
            if request == b"fail":
                await context.abort(grpc.StatusCode.NOT_FOUND, "no such thing: 50 % ä")
            yield request

    server = grpc.aio.server()
    handlers = {"Echo": grpc.stream_stream_rpc_method_handler(answer)}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("a.Service", handlers),))
    server.add_insecure_port(f"unix:{socket}")
    await server.start()
    try:
        yield
    finally:
        await server.stop(None)


@contextlib.asynccontextmanager
async def line(socket: Path, most_bytes: int = 4 << 20) -> AsyncIterator[Line]:
    reader, writer = await asyncio.open_unix_connection(str(socket))
    opened = Line(reader, writer, most_bytes)
    async with asyncio.timeout(PATIENCE_S):
        listening = asyncio.get_running_loop().create_task(opened.listen())
        try:
            yield opened
        finally:
            listening.cancel()


def test_we_ask(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with usual_server(tmp_path / "s"), line(tmp_path / "s") as opened:
            calls = [opened.call("/a.Service/Echo") for _ in range(2)]
            for call in calls:
                await call.send(LARGE)
            for call in calls:
                assert await anext(aiter(call)) == LARGE

    asyncio.run(scenario())


def test_peer_says_why_it_fails(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with usual_server(tmp_path / "s"), line(tmp_path / "s") as opened:
            call = opened.call("/a.Service/Echo")
            await call.send(b"fail")
            with pytest.raises(CallFailed, match="status 5: no such thing: 50 % ä"):
                await anext(aiter(call))

    asyncio.run(scenario())


def test_answer_is_too_large(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with usual_server(tmp_path / "s"), line(tmp_path / "s", most_bytes=10) as opened:
            call = opened.call("/a.Service/Echo")
            await call.send(b"01234567890")
            with pytest.raises(CallFailed, match="larger than 10 bytes"):
                await anext(aiter(call))

    asyncio.run(scenario())


@pytest.mark.parametrize("nonsense", [b"", b"HTTP/1.1 200 OK\r\n\r\n", bytes(64)])
def test_peer_speaks_something_else(tmp_path: Path, nonsense: bytes) -> None:
    async def scenario() -> None:
        async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(nonsense)
            await writer.drain()
            writer.close()

        async with await asyncio.start_unix_server(talk, tmp_path / "s"), line(tmp_path / "s") as opened:
            call = opened.call("/a.Service/Echo")
            with pytest.raises(CallFailed):
                await call.send(LARGE)
                await anext(aiter(call))

    asyncio.run(scenario())
